from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

from novum.datamodules import ImageDataModule
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.image_sources import ImageArray, LazyImages

LAZY = {"memory_budget_gb": 0.0}


def digits(**kwargs) -> ImageDataModule:
    return ImageDataModule(**{"image_size": 8, "batch_size": 16} | kwargs)


def on_rank(data: ImageDataModule, rank: int, world: int, done: int = 0) -> ImageDataModule:
    """As under a trainer of `world` processes that has trained on `done` batches."""
    total = SimpleNamespace(processed=done)
    progress = SimpleNamespace(batch_progress=SimpleNamespace(total=total))
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        max_epochs=-1,
        min_epochs=None,
        check_val_every_n_epoch=None,
        val_check_interval=1000,
        overfit_batches=0.0,
        limit_train_batches=1.0,
        fit_loop=SimpleNamespace(epoch_loop=progress),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


def take(data: ImageDataModule, n: int) -> list[dict]:
    return list(islice(data.train_dataloader(), n))


# what is known at once


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"dataset": "digits"}, (1, 10)),
        ({"dataset": "mnist"}, (1, 10)),
        ({"dataset": "fashion_mnist", "channels": 3}, (3, 10)),
        ({"dataset": "cifar10"}, (3, 10)),
        ({"dataset": "celeba"}, (3, 0)),
        ({"dataset": "celeba", "label_column": "Smiling"}, (3, 2)),
    ],
)
def test_channels_and_classes_before_any_download(options, facts):
    data = ImageDataModule(**options)
    assert (data.channels, data.num_classes) == facts and data.image_size == 32


def test_channels_and_classes_of_a_folder(tree):
    data = ImageDataModule("folder", str(tree))
    assert (data.channels, data.num_classes) == (3, 2)
    (tree / "cat" / "0.png").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"cat/0\.png: not a readable image"):
        ImageDataModule("folder", str(tree))
    assert ImageDataModule("folder", str(tree), on_bad_image="skip").channels == 3


def test_built_from_plain_arguments_with_help():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ImageDataModule, "data")
    for argument in ("dataset", "on_bad_image", "memory_budget_gb", "streaming"):
        assert argument in parser.format_help()
    config = parser.parse_args(["--data.dataset=digits", "--data.channels=3", "--data.subset=null"])
    assert parser.instantiate_classes(config).data.channels == 3


# splits


def test_split_is_fixed_by_its_seed():
    one, same, other = digits(), digits(seed=9), digits(split_seed=1)
    train, heldout = one.train_reference(), one.heldout_reference()
    assert len(train) == 1438 and len(heldout) == 359
    assert sorted([*train.ids, *heldout.ids]) == list(range(1797))
    assert heldout.ids == same.heldout_reference().ids != other.heldout_reference().ids
    assert heldout.fingerprint == same.heldout_reference().fingerprint != train.fingerprint


@pytest.mark.parametrize("budget", [1.0, 0.0])
def test_subset_is_of_the_training_images_only(budget):
    whole, part = digits(), digits(subset=100, memory_budget_gb=budget)
    assert len(part.train_reference()) == 100 and len(part.heldout_reference()) == 359
    assert set(part.train_reference().ids) < set(whole.train_reference().ids)
    assert len(part.train_reference().labels.unique()) == 10
    with pytest.raises(ValueError, match="subset is 2000, but there are 1438 training images"):
        digits(subset=2000).setup()


def test_official_split_of_a_folder(tree):
    for part in ("train", "test"):
        (tree / part).mkdir()
    (tree / "cat").rename(tree / "train" / "a")
    (tree / "dog").rename(tree / "test" / "a")
    data = ImageDataModule("folder", str(tree), image_size=8)
    assert data.train_reference().ids == [f"a/{i}.png" for i in (1, 3, 5, 7, 9)]
    assert data.heldout_reference().ids == [f"a/{i}.png" for i in (0, 2, 4, 6, 8)]


def test_mixed_sizes_and_modes_of_one_folder(tree):
    for i, mode in enumerate(("L", "LA", "P", "RGBA", "CMYK", "I;16")):
        Image.new(mode, (5 + i, 20 - i)).save(tree / "cat" / f"{mode.replace(';', '')}.tiff")
    for channels in (1, 3):
        data = ImageDataModule("folder", str(tree), image_size=12, channels=channels)
        assert data.train_reference()[:].shape == (13, channels, 12, 12)


def test_too_few_images(tree):
    for file in list(tree.rglob("*.png"))[1:]:
        file.unlink()
    with pytest.raises(ValueError, match="1 images are too few to hold out 1"):
        ImageDataModule("folder", str(tree)).setup()


# batches


def test_memory_budget_decides():
    assert isinstance(digits(memory_budget_gb=1797 * 64 / 1e9).train_reference(), ImageArray)
    assert isinstance(digits(memory_budget_gb=1796 * 64 / 1e9).train_reference(), LazyImages)


def test_batches_are_rows_of_the_reference():
    data = digits()
    for batch in take(data, 3):
        assert batch["image"].shape == (16, 1, 8, 8) and batch["image"].dtype == torch.uint8
        assert batch["label"].dtype == torch.int64
    order = torch.randperm(1438, generator=torch.Generator().manual_seed(0))[:16]
    assert torch.equal(take(data, 1)[0]["image"], data.train_reference()[order])
    assert torch.equal(take(data, 1)[0]["label"], data.train_reference().labels[order])


def test_resident_images_are_decoded_once(monkeypatch):
    data = digits()
    data.setup()
    monkeypatch.setattr(ImageTransform, "__call__", None)
    take(data, 200)


@pytest.mark.parametrize("workers", [0, 2])
def test_lazy_batches_equal_resident_ones(workers):
    options = {"horizontal_flip": True, "seed": 3}
    want, got = take(digits(**options), 5), take(digits(**options, **LAZY, num_workers=workers), 5)
    for a, b in zip(want, got, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_batches_larger_than_the_data():
    data = digits(subset=10, batch_size=25)
    assert take(data, 2)[1]["image"].shape == (25, 1, 8, 8)


def test_unlabelled_folder(tree):
    (tree / "cat" / "1.png").rename(tree / "1.png")
    batch = take(ImageDataModule("folder", str(tree), image_size=8), 1)[0]
    assert list(batch) == ["image"]


def test_pixels_become_floats_in_minus_one_to_one():
    data = digits()
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 1, 3, 3)
    out = data.on_after_batch_transfer({"image": image, "label": torch.tensor([1, 2])}, 0)
    assert out["image"].dtype == torch.float32 and list(out) == ["image", "label"]
    torch.testing.assert_close(out["image"][0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_flips_are_half_of_the_training_images_and_none_of_the_held_out():
    data = digits(horizontal_flip=True)
    batches = take(data, 50)
    share = sum(len(batch["flip"]) for batch in batches) / (50 * 16)
    assert 0.4 < share < 0.6
    assert batches[0]["flip"].tolist() != batches[1]["flip"].tolist()
    plain = batches[0]["image"].clone()
    out = data.on_after_batch_transfer(batches[0], 0)["image"]
    for row in range(16):
        image = plain[row].flip(-1) if row in batches[0]["flip"] else plain[row]
        torch.testing.assert_close(out[row], image.float() / 127.5 - 1)
    assert all("flip" not in batch for batch in data.val_dataloader())


@pytest.mark.parametrize("options", [{}, LAZY, LAZY | {"num_workers": 2}])
def test_heldout_in_its_order_each_image_once_on_any_number_of_ranks(options):
    want = digits().heldout_reference()
    for world in (1, 2, 3):
        labels, images = torch.full((359,), -1), torch.zeros(359, 1, 8, 8, dtype=torch.uint8)
        for rank in range(world):
            loader = on_rank(digits(**options), rank, world).val_dataloader()
            batches = list(loader)
            assert len(loader) == len(batches)
            labels[rank::world] = torch.cat([batch["label"] for batch in batches])
            images[rank::world] = torch.cat([batch["image"] for batch in batches])
        assert torch.equal(labels, want.labels) and torch.equal(images, want[:])


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_continues_after_the_batches_done(rank):
    options = {"batch_size": 8, "horizontal_flip": True}
    whole = take(on_rank(digits(**options), rank, 2), 130)
    rest = take(on_rank(digits(**options), rank, 2, done=127), 3)
    for a, b in zip(whole[127:], rest, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("image", "label", "flip"))


@pytest.mark.parametrize("options", [{}, LAZY | {"num_workers": 2}])
def test_order_and_flips_do_not_depend_on_the_number_of_ranks(options):
    options = options | {"horizontal_flip": True}
    together = take(digits(**options), 3)
    for rank in range(2):
        shared = take(on_rank(digits(**options | {"batch_size": 8}), rank, 2), 3)
        for whole, mine in zip(together, shared, strict=True):
            for key in ("image", "label"):
                assert torch.equal(whole[key][rank::2], mine[key])
            rows = [row // 2 for row in whole["flip"].tolist() if row % 2 == rank]
            assert mine["flip"].tolist() == rows


# resume


class Recorder(LightningModule):
    """Learns nothing, draws from the global generator, and notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[torch.Tensor] = []
        self.checked = 0
        self.fail_at = -1

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("power cut")
        self.seen.append(batch["image"].clone())
        torch.rand(7)
        return self.layer(batch["image"].mean().view(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.checked += len(batch["image"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(steps: int, **settings) -> Trainer:
    defaults = dict(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        num_sanity_val_steps=0,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return Trainer(**defaults | settings)


def fit(data: ImageDataModule, steps: int, ckpt_path=None, **settings) -> Recorder:
    module = Recorder()
    trainer(steps, **settings).fit(module, data, ckpt_path=ckpt_path)
    return module


EPOCHS = {"limit_train_batches": 3, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}


@pytest.mark.parametrize(
    "options", [{}, LAZY, LAZY | {"num_workers": 2}], ids=["memory", "disk", "workers"]
)
@pytest.mark.parametrize("settings", [{}, EPOCHS], ids=["endless", "epochs"])
def test_resume_continues_order_and_flips_exactly(tmp_path, options, settings):
    options = {"horizontal_flip": True, "subset": 50, **options}  # a pass is 3.1 batches
    whole = fit(digits(**options), 8, **settings)
    first = fit(digits(**options), 5, **settings)
    first.trainer.save_checkpoint(tmp_path / "mid.ckpt")
    rest = fit(digits(**options), 8, tmp_path / "mid.ckpt", **settings)
    assert len(first.seen) == 5 and len(rest.seen) == 3
    assert all(map(torch.equal, whole.seen, first.seen + rest.seen))
    assert first.checked == 359  # once, after the third batch
    assert torch.load(tmp_path / "mid.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, LAZY | {"num_workers": 2}])
def test_gpu_gets_the_same_batches(options):
    options = {"horizontal_flip": True, **options}
    here, there = fit(digits(**options), 5), fit(digits(**options), 5, accelerator="gpu", devices=1)
    for a, b in zip(here.seen, there.seen, strict=True):
        torch.testing.assert_close(a, b.cpu())


def test_a_batch_that_failed_is_given_again(tmp_path):
    module, run = Recorder(), trainer(8)
    module.fail_at = 4
    with pytest.raises(RuntimeError, match="power cut"):
        run.fit(module, digits())
    run.save_checkpoint(tmp_path / "cut.ckpt")
    rest = fit(digits(), 8, tmp_path / "cut.ckpt")
    assert all(map(torch.equal, fit(digits(), 8).seen, module.seen + rest.seen))


# bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit': did you mean 'digits'"),
        ({"image_size": 0}, "image_size is 0: it must be at least 1"),
        ({"batch_size": -1}, "batch_size is -1: it must be at least 1"),
        ({"subset": 0}, "subset is 0: it must be at least 1"),
        ({"channels": 4}, "channels is 4: choose from 1, 3, None"),
        ({"on_bad_image": "ignore"}, "on_bad_image is ignore: choose from error, skip"),
        ({"heldout_fraction": 0.0}, "heldout_fraction is 0.0: it must lie between 0 and 1"),
        ({"heldout_fraction": 1.0}, "heldout_fraction is 1.0: it must lie between 0 and 1"),
        ({"memory_budget_gb": -1.0}, "memory_budget_gb is -1.0: it must be at least 0"),
        ({"num_workers": -1}, "num_workers is -1: it must be at least 0"),
        ({"image_column": "x"}, "image_column, split and streaming are for dataset: huggingface"),
        ({"split": "x"}, "image_column, split and streaming are for dataset: huggingface"),
        ({"streaming": True}, "image_column, split and streaming are for dataset: huggingface"),
        ({"label_column": "x"}, "label_column is for dataset: huggingface or celeba"),
        ({"dataset": "folder"}, "dataset: folder needs a path"),
        ({"dataset": "huggingface"}, "dataset: huggingface needs a path"),
    ],
)
def test_bad_options_are_one_clear_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        ImageDataModule(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_image_met_while_training_is_one_clear_line(tree, workers):
    data = ImageDataModule("folder", str(tree), image_size=8, num_workers=workers, **LAZY)
    for file in tree.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"\.png: not a readable image .*on_bad_image: skip") as e:
        take(data, 1)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("options", [{}, LAZY])
def test_bad_images_are_skipped(tree, options):
    (tree / "cat" / "1.png").write_bytes(b"")
    data = ImageDataModule("folder", str(tree), image_size=8, on_bad_image="skip", **options)
    with pytest.warns(UserWarning, match=r"skipped 1 of \d+ images that cannot be read: .*1\.png"):
        data.setup()
    assert len(data.train_reference()) + len(data.heldout_reference()) == 9
    take(data, 5)


# groups


@pytest.fixture
def patients(tmp_path):
    """Ten patients of 3 slices each, named by class, patient and slice."""
    for i in range(30):
        path = tmp_path / "scans" / ("ab"[i % 2]) / f"patient{i // 3}_{i % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 8 * i).save(path)
    return tmp_path / "scans"


def patients_of(source) -> set[str]:
    return {name.split("/")[1].split("_")[0] for name in source.ids}


@pytest.mark.parametrize("memory", [{}, LAZY], ids=["memory", "lazy"])
def test_groups_are_held_out_whole(patients, memory):
    options = {"dataset": "folder", "path": str(patients), "image_size": 8, **memory}
    alone = ImageDataModule(**options)
    torn = patients_of(alone.train_reference()) & patients_of(alone.heldout_reference())
    assert torn  # six slices at random are not two patients
    data = ImageDataModule(**options, groups="patient[0-9]+")
    train, heldout = data.train_reference(), data.heldout_reference()
    assert (len(train), len(heldout)) == (24, 6)
    assert not patients_of(train) & patients_of(heldout)
    again = ImageDataModule(**options, groups="patient[0-9]+")
    assert again.heldout_reference().ids == heldout.ids
    other = ImageDataModule(**options, groups="patient[0-9]+", split_seed=1)
    assert other.heldout_reference().ids != heldout.ids


def test_groups_on_both_sides_of_a_split_that_is_there_are_an_error(patients):
    (patients / "a").rename(patients / "train")
    (patients / "b").rename(patients / "test")
    options = {"dataset": "folder", "path": str(patients), "image_size": 8}
    data = ImageDataModule(**options, groups="patient[0-9]+")
    with pytest.raises(ValueError, match="'patient[0-9]' is in training and in held-out images"):
        data.setup()
    by_slice = ImageDataModule(**options, groups="[^/]+_[0-9]+")  # each on one side
    assert len(by_slice.train_reference()) == 15


def test_groups_are_not_for_streams(patients):
    with pytest.raises(ValueError, match="groups are not for streaming"):
        ImageDataModule("huggingface", str(patients), streaming=True, groups="patient[0-9]+")
