"""A run of the version before the package moved: its config and checkpoint work unchanged.

It trained a tiny DCGAN on digits for four steps of 16 images.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from novum.cli import evaluate
from novum.core.checkpoints import load_module
from novum.lightning_modules import GAN
from tests import programs
from tests.project import ROOT

RUN = Path(__file__).parent / "before"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The run in its place, runs/tiny/version_0."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(RUN, tmp_path / "runs" / "tiny" / "version_0"))


def test_the_module_samples_as_it_did(run):
    module = load_module(run / "checkpoints" / "last.ckpt", "sample", "generator")
    assert isinstance(module, GAN) and module.images_seen == 64
    images = module.sample(4, seed=0)
    assert images.shape == (4, 1, 8, 8)
    assert torch.equal(
        GAN.load_from_checkpoint(run / "checkpoints" / "last.ckpt").sample(4, seed=0), images
    )


def test_it_is_judged_against_the_data_of_its_config(run):
    evaluate.main(
        ["--samples", str(run / "checkpoints" / "last.ckpt"), "--features", "pixels",
         "--num-samples", "64", "--output", "out"]
    )  # fmt: skip
    report = json.loads(Path("out/report.json").read_text())
    assert report["samples"]["images_seen"] == 64
    assert report["train"]["path"] == report["heldout"]["path"] == "digits"


@pytest.mark.slow
def test_training_goes_on_from_it(run):
    done = programs.run(
        ROOT / "train.py", "fit", "--config", run / "config.yaml",
        "--ckpt_path", run / "checkpoints" / "last.ckpt", "--trainer.max_steps", "8",
        "--trainer.enable_progress_bar", "false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = max(Path().rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    assert torch.load(written, weights_only=True)["images_seen"] == 128
