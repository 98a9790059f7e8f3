"""Losses from inside in `novum.evaluate`: of modules and checkpoints, images and texts."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import novum
from novum.core import distributed
from novum.core.errors import InputError
from novum.core.pixels import uint8_to_signed
from novum.datamodules import ImageDataModule
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation import inside
from novum.evaluation.inside import image_items, judge_inside, loss_name, measure, text_items
from novum.evaluation.verify import verify
from novum.lightning_modules import CharLSTM
from novum.lightning_modules.networks import CharRNN
from novum.report.model import Finding, Report
from novum.report.schema import read_report, to_json
from tests.metrics.novelty.text.markov import chain
from tests.report.pages import check_against_verdict, read
from tests.tiny import tiny_flow, tiny_gan
from tests.tiny_text import small_text, text_data, tiny_char_lstm

FAST = {"features": "pixels", "num_samples": 64}


@pytest.fixture(scope="module")
def digits() -> dict[str, ImageArray]:
    data = ImageDataModule("digits", image_size=8)
    train, heldout = data.train_reference(), data.heldout_reference()
    rows = torch.arange(64)
    return {"train": train.select(rows), "heldout": heldout.select(rows)}


class Judged(nn.Module):
    """Makes noise, and knows the training images that it is given."""

    item_loss = "squared error"

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.known, self.asked = known, []

    def sample(self, n, *, seed=None, labels=None):
        return torch.randint(
            256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed)
        ).byte()

    def item_losses(self, images, *, labels=None):
        self.asked.append(len(images))
        far = (images.float()[:, None] - self.known.float()).flatten(2).square().mean(2)
        return far.amin(1)


def overfitted_flow(images: torch.Tensor, steps: int = 300):
    """A small network that has seen nothing but these images, again and again."""
    module = tiny_flow()
    x, network = uint8_to_signed(images), module.network
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(steps):
        t, noise = torch.rand(len(x)), torch.randn_like(x)
        s = t[:, None, None, None]
        loss = (network(s * x + (1 - s) * noise, t) - (x - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.ema.load_state_dict(network.state_dict())
    return module


def judged(module, sets, reference=None) -> Report:
    report = Report()
    judge_inside(report, sets, measure(module, sets), loss_name(module), reference)
    return report


def test_an_overfitted_flow_knows_its_images(digits):
    few = {"train": digits["train"].select(torch.arange(16)), "heldout": digits["heldout"]}
    sets = image_items(few, None)
    fresh, fitted = tiny_flow(), overfitted_flow(few["train"][:])
    before, after = judged(fresh, sets), judged(fitted, sets)
    assert before.membership.p > 0.01 and before.membership.auc.low < 0.5
    assert after.membership.auc.value > 0.95 and after.membership.p <= 0.001
    assert len(after.membership.known) >= 12
    assert after.membership.train_loss < after.membership.heldout_loss


@pytest.mark.slow
def test_an_overfitted_lstm_knows_its_text():
    documents = [chain(260, seed=seed) for seed in range(64)]
    sides = {
        side: TextSource.of_documents(documents[rows], f"{side} ")
        for side, rows in {"train": slice(24), "heldout": slice(24, 64)}.items()
    }
    vocabulary = TextSource.of("".join(documents)).vocabulary
    torch.manual_seed(0)
    network = CharRNN(len(vocabulary), hidden_size=128, layers=1)
    model = CharLSTM(network, vocabulary.alphabet)
    sets = text_items(sides, vocabulary)
    before = judged(model, sets)
    rows = sets.train.data.T
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(120):
        logits, _ = network(rows[:-1])
        loss = F.cross_entropy(logits.flatten(0, 1), rows[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = judged(model, sets)
    assert before.membership.p > 0.01
    assert after.membership.auc.value > 0.95 and after.membership.p <= 0.001


def test_a_module_from_code(digits):
    images = {side: source[:] for side, source in digits.items()}
    module = Judged(images["train"][:32])
    report = novum.evaluate(module, images["train"], images["heldout"], **FAST)
    found = report.membership
    assert found.loss == "squared error" and found.auc.value > 0.7 and found.p <= 0.001
    named = {item.item for item in found.known}
    assert named >= set(range(32)) and len(named) <= 40  # a tenth of them in error
    assert report.finding is not Finding.COPYING and "From inside" in report.verdict.text
    assert json.loads(to_json(report))["membership"]["known"][0]["item"] in range(32)


def test_halves_of_held_out_images_are_innocent(digits):
    """As training and held-out images, to a model that saw neither."""
    data = ImageDataModule("digits", image_size=8).heldout_reference()
    module = Judged(digits["train"][:])
    alarms = 0
    for seed in range(20):
        rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        halves = {"train": data.select(rows[:150]), "heldout": data.select(rows[150:300])}
        report = judged(module, image_items(halves, None, seed=seed))
        alarms += report.membership.p <= 0.01
        assert report.membership.control_p > 0.001
    assert alarms <= 2


def test_without_heldout_or_losses_there_is_no_section(digits):
    images = {side: source[:] for side, source in digits.items()}
    alone = novum.evaluate(Judged(images["train"]), images["train"], **FAST)
    plain = novum.evaluate(images["heldout"][:20], *images.values(), features="pixels")
    assert alone.membership is None and plain.membership is None
    assert "membership" not in json.loads(to_json(plain))


def test_groups_give_one_image_each(digits):
    groups = torch.arange(128) // 4
    sets = image_items(digits, groups)
    assert len(sets.train.data) == len(sets.heldout.data) == 16
    row = {name: i for i, name in enumerate(digits["train"].ids)}
    found = {row[item.item] // 4 for item in sets.train.items}
    assert found == set(range(16))


def test_items_do_not_depend_on_ranks_and_batches(digits):
    sets = image_items(digits, None, 10)
    again = image_items(digits, None, 10)
    assert sets.key() == again.key() and len(sets.train.data) == 10
    assert sets.key() != image_items(digits, None, 10, seed=1).key()


def test_ranks_measure_shares(digits, monkeypatch):
    """64 items in blocks of 8 by three ranks, and in one block that two of them have no part in."""
    sets, module = image_items(digits, None), Judged(digits["train"][:8])
    whole = measure(module, sets)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(distributed, "all_gather_rows", lambda mine, where: mine)
    for batch in (8, 64):
        monkeypatch.setattr(inside, "BATCH", batch)
        parts = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            parts.append(measure(module, sets))
        for side in ("train", "heldout"):
            joined = np.concatenate([getattr(part, side) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, side))


ROOM = "novum.lightning_modules"


def network(name: str, **arguments) -> dict:
    return {"class_path": f"{ROOM}.networks.{name}", "init_args": arguments}


GAN_SHAPE = {"image_size": 8, "channels": 1, "width": 8}
ARGUMENTS = {  # as train.py keeps them
    "flow": {"network": network("UNet", image_size=8, channels=1, num_classes=0, width=8,
                                multipliers=[1, 2], blocks=1, attention=[4])},
    "gan": {"generator": network("DCGANGenerator", **GAN_SHAPE, latent_dim=4),
            "discriminator": network("DCGANDiscriminator", **GAN_SHAPE)},
    "conditional": {
        "generator": network("DCGANGenerator", **GAN_SHAPE, latent_dim=4, num_classes=3),
        "discriminator": network("DCGANDiscriminator", **GAN_SHAPE, num_classes=3)},
    "text": {"network": network("CharRNN", hidden_size=8, layers=2)},
}  # fmt: skip


def save(module, path, arguments) -> None:
    arguments = {"_class_path": f"{ROOM}.{type(module).__name__}", **arguments}
    known = {"images_seen": 8, "tokens_seen": 8, "state_dict": module.state_dict(),
             "pytorch-lightning_version": "2.6.6"}  # fmt: skip
    if vocabulary := getattr(module, "vocabulary", None):
        known["alphabet"] = arguments["alphabet"] = vocabulary.alphabet
        arguments["network"]["init_args"]["vocab_size"] = len(vocabulary)
    torch.save({**known, "hyper_parameters": arguments}, path)


@pytest.fixture(scope="module")
def checkpoints(digits, tmp_path_factory) -> dict[str, str]:
    """Of a flow before and after it has learned 16 digits by heart, of GANs and of a text model."""
    folder = tmp_path_factory.mktemp("checkpoints of a run")
    modules = {
        "early": tiny_flow(), "late": overfitted_flow(digits["train"][:16]),
        "gan": tiny_gan(), "conditional": tiny_gan(3),
        "text": tiny_char_lstm(text_data(folder)),
    }  # fmt: skip
    for name, module in modules.items():
        kind = name if name in ARGUMENTS else "flow"
        save(module, folder / f"{name}.ckpt", ARGUMENTS[kind])
    return {name: str(folder / f"{name}.ckpt") for name in modules}


@pytest.fixture
def folders(digits, tmp_path):
    """The first 16 of the training images, and all held-out ones, as PNG files."""
    for side, source in digits.items():
        (tmp_path / side).mkdir()
        for i, image in enumerate(source[: 16 if side == "train" else 64]):
            Image.fromarray(image[0].numpy()).save(tmp_path / side / f"{i:03d}.png")
    return {side: tmp_path / side for side in digits}


def test_a_checkpoint_held_against_an_earlier_one(checkpoints, folders, tmp_path):
    out = tmp_path / "out"
    report = novum.evaluate(
        checkpoints["late"], *folders.values(), calibrate_by=checkpoints["early"],
        output=out, **FAST,
    )  # fmt: skip
    found = report.membership
    assert found.calibrated_by == checkpoints["early"]
    assert found.auc.low > 0.5 and found.calibrated_auc.low > 0.5 and found.p <= 0.01
    assert found.known[0].reference_loss > found.known[0].loss
    assert read_report(out / "report.json").membership == found
    page = read((out / "report.html").read_text())
    assert "From inside the model" in page.text and "early.ckpt" in page.text
    assert verify(out / "report.json", {}, quiet=True).same


def test_a_redacted_report_names_nobody(checkpoints, folders, tmp_path):
    out = tmp_path / "out"
    report = novum.evaluate(
        checkpoints["late"], *folders.values(), output=out, redacted=True, **FAST
    )
    assert report.membership.known
    assert all(len(item.item) == 16 and ".png" not in item.item for item in report.membership.known)
    page = (out / "report.html").read_text()
    assert "From inside the model" in page and "<img" not in page and "015.png" not in page


def test_scores_of_classes_need_labels(checkpoints, folders):
    """A discriminator of classes cannot score images without one: said, and the rest is judged."""
    report = novum.evaluate(checkpoints["conditional"], *folders.values(), **FAST)
    assert report.membership is None and report.gate is not None
    assert any("labels are missing" in note for note in report.notes)


@pytest.mark.parametrize(("samples", "by", "said"), [
    ("late", "gan", "calibrate_by is a GAN, and samples a FlowMatching"),
    ("late", "text", "calibrate_by is a CharLSTM, and samples a FlowMatching"),
    ("late", "missing", "no checkpoint .*missing.ckpt"),
])  # fmt: skip
def test_another_checkpoint_must_be_of_the_same_kind(checkpoints, folders, samples, by, said):
    by = checkpoints.get(by, "missing.ckpt")
    with pytest.raises(InputError, match=said):
        novum.evaluate(checkpoints[samples], *folders.values(), calibrate_by=by, **FAST)


def test_calibration_needs_held_out_images(folders, checkpoints):
    by = checkpoints["early"]
    with pytest.raises(InputError, match="calibrate_by needs held-out items"):
        novum.evaluate(by, folders["train"], "none", calibrate_by=by, **FAST)


def test_samples_alone_have_no_losses(folders, checkpoints):
    with pytest.raises(InputError, match="calibrate_by is of generators"):
        novum.evaluate(
            folders["heldout"], *folders.values(), calibrate_by=checkpoints["early"],
            features="pixels",
        )  # fmt: skip


def test_texts_of_a_checkpoint(checkpoints, tmp_path):
    """A text model's losses of one long text, which begins in training and ends held out."""
    (tmp_path / "input.txt").write_text(small_text(20_000, seed=1), encoding="utf-8")
    out = tmp_path / "out"
    report = novum.evaluate(
        checkpoints["text"], tmp_path / "input.txt", tmp_path / "input.txt", kind="text",
        num_samples=4, output=out, calibrate_by=checkpoints["text"],
    )  # fmt: skip
    found = report.membership
    assert found.loss == "loss in nats a token" and found.train_items > 5 * found.heldout_items
    assert found.p > 0.01 and "does not tell training from held-out items" in report.verdict.text
    assert found.calibrated_auc.value == 0.5  # less its own
    page = (out / "report.html").read_text()
    assert "From inside the model" in read(page).text
    check_against_verdict(page, json.loads((out / "report.json").read_text()))
