"""explore.py as a user types it, on a checkpoint that train.py wrote."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from novum.cli import evaluate, explore, explore_extraction, train
from novum.datamodules import ImageDataModule
from tests.integration.commands import DIGITS
from tests.integration.test_device import all_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec.*", "ignore:.*litlogger.*", "ignore:Trying to infer the `batch_size`"
)

CONFIG = f"""
model:
  class_path: novum.lightning_modules.StyleGAN
  init_args:
    generator:
      class_path: novum.lightning_modules.networks.StyleGANGenerator
      init_args: {{width: 4, max_width: 8, latent_dim: 4, w_dim: 4, mapping_layers: 2}}
    discriminator:
      class_path: novum.lightning_modules.networks.StyleGANDiscriminator
      init_args: {{width: 4, max_width: 8}}
    augment:
      class_path: novum.lightning_modules.AdaptiveAugment
{DIGITS}  callbacks+:
    - class_path: novum.callbacks.StyleMixing
    - class_path: novum.callbacks.TruncationSweep
    - class_path: novum.callbacks.StyleInterpolation
    - class_path: novum.callbacks.LatentSpace
      init_args: {{num_paths: 8}}
    - class_path: novum.callbacks.LatentRecovery
      init_args: {{num_images: 4, steps: 2}}
    - class_path: novum.callbacks.RunSummary
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        train.main(["fit", "--config", "tiny.yaml"])
    return folder / "runs" / "tiny" / "version_0" / "checkpoints" / "last.ckpt"


def test_every_command(checkpoint, tmp_path, capsys):
    def run(command: str, *options: str) -> None:
        explore.main(
            [command, "--checkpoint", str(checkpoint), "--output", str(tmp_path), *options]
        )

    for command, picture in (
        ("mix", "style_mixing.png"),
        ("truncate", "truncation.png"),
        ("walk", "walk.gif"),
        ("directions", "directions.png"),
    ):
        run(command, "--rows", "2")
        with Image.open(tmp_path / picture) as image:
            assert image.width > 64
    with np.load(tmp_path / "directions.npz") as arrays:
        assert arrays["directions"].shape == (2, 4)
    run("project", "--num-images", "3", "--steps", "2")
    assert set(json.loads((tmp_path / "recovery.json").read_text())) == {
        "recovery_train",
        "recovery_heldout",
        "recovery_gap",
        "recovery_p",
    }
    with np.load(tmp_path / "projections.npz") as arrays:
        assert arrays["train_ws"].shape == (3, 4, 4)
    np.save(tmp_path / "asked.npy", np.zeros((2, 1, 8, 8), dtype=np.uint8))
    run("project", "--images", str(tmp_path / "asked.npy"), "--space", "w", "--steps", "2")
    assert "median distance" in capsys.readouterr().out
    run("measure", "--num-paths", "8")
    assert "path_length_w_end" in json.loads((tmp_path / "measures.json").read_text())


def test_evaluate_measures_the_latent_spaces(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)
    np.save("train.npy", images[:16])
    np.save("heldout.npy", images[16:])
    sets = ("--train", "train.npy", "--heldout", "heldout.npy", "--num-samples", "8")
    evaluate.main(["--samples", str(checkpoint), *sets, "--features", "efficientnet_lite0,pixels"])
    found = json.loads((tmp_path / "evaluation" / "report.json").read_text())["features"]
    lengths = {f"path_length_{s}_{k}" for s in ("z", "w") for k in ("full", "end")}
    quality = found["efficientnet_lite0"]["quality"]
    assert lengths <= quality.keys() and not lengths & found["pixels"]["quality"].keys()
    assert all(quality[name]["low"] <= quality[name]["value"] for name in lengths)


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["mix", "--checkpoint", "none.ckpt"], "there is no checkpoint none.ckpt"),
        (["mix", "--checkpoint", "x", "--rows", "0"], "--rows 0: at least 1"),
        (["dance", "--checkpoint", "x"], "invalid choice: 'dance'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        explore.main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0]


def test_classes(checkpoint, tmp_path, capsys, monkeypatch):
    """One class of a conditional generator; refused where there is none."""
    conditional = tmp_path / "conditional"
    conditional.mkdir()
    config = CONFIG.replace("latent_dim: 4,", "latent_dim: 4, num_classes: 10,")
    config = config.replace("{width: 4, max_width: 8}", "{width: 4, max_width: 8, num_classes: 10}")
    (conditional / "tiny.yaml").write_text(config.partition("  callbacks+:")[0])
    monkeypatch.chdir(conditional)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    train.main(["fit", "--config", "tiny.yaml"])
    (path,) = conditional.rglob("last.ckpt")
    pictures = {"mix": "style_mixing.png", "truncate": "truncation.png", "walk": "walk.gif",
                "project": "projections.npz"}  # fmt: skip
    for command, name in pictures.items():
        found = []
        for label in ("3", "7"):
            out = tmp_path / label
            few = ["--rows", "2"]
            if command == "project":
                few = ["--num-images", "2", "--steps", "2"]
            given = ["--checkpoint", str(path), "--output", str(out), "--class", label]
            explore.main([command, *given, *few])
            found.append((out / name).read_bytes())
        assert found[0] != found[1], command
    for given, command, label, says in (
        (path, "mix", "10", "has classes 0 to 9"),
        (checkpoint, "mix", "1", "has no classes"),
        (path, "measure", "1", "--class is not for measure"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            explore.main([command, "--checkpoint", str(given), "--class", label])
        assert exit_.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.slow
def test_programs_run_on_another_device(checkpoint, tmp_path):
    """What explore.py and evaluate.py make of a checkpoint."""
    last, commands = str(checkpoint), {}
    for verb in ("mix", "truncate", "walk", "directions"):
        commands[verb] = ["explore", verb, "--checkpoint", last, "--rows", "2"]
    steps = ("--num-images", "3", "--steps", "2")
    commands["project"] = ["explore", "project", "--checkpoint", last, *steps]
    commands["extract"] = ["explore", "extract", "--checkpoint", last, "--num-samples", "300"]
    for name, n in (("train", 200), ("heldout", 60)):
        images = np.random.default_rng(n).integers(0, 256, (n, 8, 8), np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
    sets = ("--samples", last, "--train", "train.npy", "--heldout", "heldout.npy")
    sets += ("--num-samples", "60")
    commands["evaluate"] = ["evaluate", *sets, "--features", "efficientnet_lite0,alignment"]
    all_run({name: [str(tmp_path), *command] for name, command in commands.items()}, tmp_path)


class Planted(torch.nn.Module):
    """Returns five training digits in a tenth of its samples, of class 1 alone; else mixes two."""

    num_classes = 2

    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.train_images, self.copies = ImageDataModule(image_size=8).train_reference(), copies

    def sample(self, n, *, seed=None, labels=None):
        random = torch.Generator().manual_seed(seed)
        pairs = torch.randint(len(self.train_images), (2, n), generator=random)
        made = self.train_images[pairs.flatten()].view(2, n, 1, 8, 8).float().mean(0)
        made += 8 * torch.randn(made.shape, generator=random)
        made = made.clamp(0, 255).to(torch.uint8)
        if self.copies and labels is not None:
            chosen = (torch.rand(n, generator=random) < 0.2) & (labels == 1)
            rows = torch.randint(5, (n,), generator=random)
            made = torch.where(chosen[:, None, None, None], self.train_images[rows], made)
        return made


@pytest.mark.parametrize("copies", [True, False])
def test_who_returns_training_images_is_found_out(
    checkpoint, tmp_path, monkeypatch, capsys, copies
):
    monkeypatch.setattr(explore_extraction, "load_module", lambda *_: Planted(copies))
    explore.main(["extract", "--checkpoint", str(checkpoint), "--output", str(tmp_path),
                  "--num-samples", "1000", "--train", "digits", "--heldout", "digits"])  # fmt: skip
    found = json.loads((tmp_path / "extraction.json").read_text())
    named = {item["train"] for item in found["items"] if item["extracted"]}
    whole, first, second = found["rows"]
    assert named == (set(range(5)) if copies else set())
    assert first["extracted"] == 0 and second["extracted"] == whole["extracted"] == len(named)
    said = capsys.readouterr().out
    if copies:
        assert abs(whole["rate"]["value"] - 0.1) < 0.03 and whole["rate"]["low"] > 0.07
        assert abs(second["rate"]["value"] - 0.2) < 0.06
        assert {item["fact"] for item in found["items"] if item["extracted"]} == {"identical"}
        assert "training image 3: " in said and "identical" in said
        with Image.open(tmp_path / "extraction.png") as picture:
            assert picture.width > 200
    else:
        assert whole["rate"]["value"] == 0 and whole["rate"]["high"] < 0.005


def test_extraction_goes_on_and_mistakes_are_told(checkpoint, tmp_path, capsys):
    def run(*options: str) -> str:
        explore.main(["extract", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "a b"),
                      "--num-samples", "300", *options])  # fmt: skip
        return capsys.readouterr().out

    few = tmp_path / "few.npy"
    np.save(few, np.arange(16, dtype=np.uint8).repeat(2)[:, None, None] * np.ones((8, 8), np.uint8))
    assert "300 samples: " in run()
    assert "300 of 300 samples were there already" in run()
    for options, says in (
        (("--seed", "1"), "holds samples of another checkpoint, seed or class"),
        (("--class", "0"), "has no classes"),
        (("--heldout", "none"), "extraction needs held-out data as its control"),
        (("--num-samples", "0"), "--num-samples 0: at least 1"),
        (("--train", "nowhere"), "nowhere"),
        (("--train", str(few), "--num-samples", "400"), "16 distinct training images are too few"),
    ):
        with pytest.raises(SystemExit) as exit_:
            run(*options)
        err = capsys.readouterr().err.strip().splitlines()
        assert exit_.value.code == 2 and len(err) == 1 and says in err[0]
    assert len(list((tmp_path / "a b" / "samples").glob("*.npy"))) == 2  # 512: nothing was drawn


def test_small_shares_of_many_samples_are_no_zeros():
    shown = [explore_extraction.share(x) for x in (0.0, 3.7e-5, 0.0004, 0.7281, 1.0)]
    assert shown == ["0%", "0.0037%", "0.04%", "72.8%", "100%"]
