"""The classifier learns, attacks and is attacked, labels, and resumes bit for bit."""

import pytest
import torch
from pytorch_lightning import Callback

from novum.callbacks import TrainingHealth
from novum.cli.train import main
from novum.datamodules import ImageDataModule
from novum.datamodules.sources.image_sources import ImageArray
from novum.lightning_modules import PGD, Classifier
from novum.lightning_modules.attacks import fgsm
from novum.lightning_modules.networks import Backbone, FineTuned, SmallCNN, SoftmaxRegression
from novum.metrics.features import load_extractor
from tests.tiny import TinyImages, states_equal, tiny_trainer


class Halves(TinyImages):
    """Bright above (class 0) or below (class 1)."""

    def __init__(self) -> None:
        super().__init__(batch_size=8, num_classes=2)

    def _batches(self):
        for batch in super()._batches():
            sign = (1 - 2 * batch["label"]).float()[:, None, None, None]
            ramp = torch.linspace(1, -1, 8)[:, None]
            image = (batch["image"] * 0.3 + 0.6 * sign * ramp).clamp(-1, 1)
            yield {"image": image, "label": batch["label"]}

    def val_dataloader(self):
        return self.train_dataloader()

    def train_reference(self):
        batch = next(self._batches())
        pixels = (batch["image"] * 127.5 + 127.5).round().to(torch.uint8)
        return ImageArray(pixels, batch["label"], ["up", "down"])

    heldout_reference = train_reference


def tiny_classifier(**settings) -> Classifier:
    torch.manual_seed(0)
    return Classifier(SmallCNN(8, 1, 2, width=4), lr=0.05, **settings)


def fit(tmp_path, model, steps, **settings):
    trainer = tiny_trainer(tmp_path, max_steps=steps, **settings)
    trainer.fit(model, Halves())
    return trainer


def test_learns_and_validates(tmp_path):
    model = tiny_classifier()
    trainer = fit(tmp_path, model, 40, limit_val_batches=1, val_check_interval=20,
                  check_val_every_n_epoch=None)  # fmt: skip
    assert trainer.callback_metrics["val/accuracy"] == 1
    assert model.class_names == ["up", "down"]
    assert model.images_seen == 320


def test_adversarial_training_makes_it_robust(tmp_path):
    images = Halves().train_reference()
    epsilons = torch.tensor([0.0, 0.2])
    errors = {}
    attack = PGD(0.2, steps=1, random_start=False)
    for name, settings in {"plain": {}, "robust": {"attack": attack, "clean_share": 0.0}}.items():
        model = tiny_classifier(**settings)
        fit(tmp_path, model, 60)
        logits = model.under_attack(images[:], images.labels, epsilons)
        assert logits.shape == (2, 8, 2)
        loss = torch.nn.functional.cross_entropy
        errors[name] = loss(logits[1], images.labels).item()
        clean = loss(logits[0], images.labels)
        torch.testing.assert_close(clean, loss(model.classify(images[:]).log(), images.labels))
    assert errors["robust"] < errors["plain"]


def test_resumes_bit_for_bit(tmp_path):
    attack = PGD(0.1, steps=2)
    whole = tiny_classifier(attack=attack)
    fit(tmp_path, whole, 6)
    first = tiny_classifier(attack=attack)
    # the schedule is that of the whole run, which ends early here
    trainer = fit(tmp_path, first, 6, callbacks=[StopAt(3)])
    assert trainer.global_step == 3
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = tiny_classifier(attack=attack)
    tiny_trainer(tmp_path, max_steps=6).fit(resumed, Halves(), ckpt_path=tmp_path / "half.ckpt")
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert resumed.images_seen == whole.images_seen == 48


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *rest) -> None:
        trainer.should_stop = trainer.global_step >= self.step


def test_labels_and_features_of_any_image():
    model = tiny_classifier()
    gray = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(model.classify(gray), model.classify(gray.expand(-1, 3, -1, -1)))
    assert model.features(gray).shape == (5, 16)
    large = torch.randint(0, 256, (5, 3, 20, 20), dtype=torch.uint8)
    assert model.classify(large).sum(1).allclose(torch.ones(5))
    logits = model.network.head(model.features(gray))
    torch.testing.assert_close(logits.softmax(1), model.classify(gray))


def test_a_backbone_with_a_new_last_layer_learns_all_of_it():
    network = FineTuned("efficientnet_lite0", "none", image_size=32, channels=1, num_classes=3)
    network.eval()
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    assert network(images).shape == (2, 3)
    assert all(p.requires_grad for p in network.parameters())
    assert Classifier(network).features(torch.zeros(2, 1, 32, 32).byte()).shape == (2, 1280)


def test_softmax_regression_falls_to_fgsm_at_a_quarter():
    """Goodfellow et al. (2015) report 99.9% error on MNIST; these are scikit-learn's digits."""
    data = ImageDataModule("digits", image_size=8)
    train, heldout = data.train_reference(), data.heldout_reference()
    torch.manual_seed(0)
    network = SoftmaxRegression(8, 1, 10)
    x, y = train[:].float() / 127.5 - 1, train.labels
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=60)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    model = Classifier(network)
    images = heldout[:].float() / 255
    clean, attacked = fgsm(model, images, heldout.labels, torch.tensor([0.0, 0.25]))
    assert (model(clean).argmax(1) == heldout.labels).double().mean() > 0.93
    assert (model(attacked).argmax(1) != heldout.labels).double().mean() >= 0.99


def test_data_without_labels_is_told():
    network = SmallCNN(8, 1, 1)
    network.num_classes = 0
    with pytest.raises(ValueError, match="no labels to learn"):
        Classifier(network)


def test_a_checkpoint_is_an_extractor_and_a_backbone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", "classifier_fashion_mnist", "--data.init_args.dataset=digits",
          "--data.init_args.image_size=8", "--model.init_args.network.init_args.width=4",
          "--trainer.max_steps=3", "--trainer.val_check_interval=3", "--trainer.accelerator=cpu",
          "--trainer.limit_val_batches=1", "--trainer.callbacks=null"])  # fmt: skip
    (path,) = tmp_path.glob("runs/**/*.ckpt")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    (features,) = load_extractor(f"checkpoint:{path}")(images)
    assert features.shape == (3, 16)
    backbone = Backbone(f"checkpoint:{path}")
    assert backbone.class_names == [str(i) for i in range(10)]
    model = Classifier.load_from_checkpoint(path)
    logits = backbone(images.expand(-1, 3, -1, -1) / 255)
    torch.testing.assert_close(logits.softmax(1), model.classify(images))


def test_trained_weights_are_fine_tuned_gently():
    settings = {"image_size": 32, "channels": 3, "num_classes": 3}
    assert Classifier(FineTuned("efficientnet_lite0", **settings)).lr == 0.003
    fresh = FineTuned("efficientnet_lite0", "none", **settings)
    assert Classifier(fresh).lr == 0.1 and Classifier(fresh, lr=0.5).lr == 0.5
    assert Classifier(SmallCNN(8, 1, 2)).lr == 0.1
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(fresh.eval()(images), torch.zeros(2, 3))  # no answer before it learns


@pytest.mark.parametrize(("freeze", "first"), [("blocks.3", "blocks.4"), ("all", "classifier")])
def test_frozen_layers_stay_as_trained(freeze, first):
    network = FineTuned("efficientnet_lite0", freeze=freeze, image_size=32, num_classes=3)
    before = {k: v.clone() for k, v in network.network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network.train()
    for _ in range(2):  # at first the last layer is zero, and passes no gradient on
        logits = network(torch.rand(4, 3, 32, 32) * 2 - 1)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(4) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {k for k, v in network.network.state_dict().items() if not torch.equal(v, before[k])}
    names = list(before)
    start = next(i for i, k in enumerate(names) if k.startswith(first))
    later = [k for k in names[start:] if k.startswith(first)]
    assert changed and changed <= set(names[start:])
    assert changed & set(later)


def test_a_layer_that_is_not_there_cannot_be_frozen():
    for freeze in ("block.3", "classifier", "blocks.9"):
        with pytest.raises(ValueError, match=f"freeze is {freeze}: give all, or a layer"):
            FineTuned("efficientnet_lite0", "none", freeze, num_classes=3)


def test_health_of_a_classifier(tmp_path, capsys):
    """An untrained one is no better than chance, and is said to be; a trained one is healthy."""
    verdicts = []
    for steps, lr in ((2, 0.0), (40, 0.05)):
        torch.manual_seed(0)
        health = TrainingHealth()
        model = Classifier(SmallCNN(8, 1, 2, width=4), lr=lr)
        fit(tmp_path, model, steps, callbacks=[health], limit_val_batches=1,
            val_check_interval=steps, check_val_every_n_epoch=None)  # fmt: skip
        verdicts.append(health.verdict)
        assert f"Health:      {health.verdict}" in capsys.readouterr().out
    assert "undertrained, or diverged: of the way" in verdicts[0]
    assert verdicts[1] == "Healthy."
