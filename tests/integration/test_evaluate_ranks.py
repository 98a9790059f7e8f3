"""torchrun evaluate.py: the report of one process, from two."""

import json

import numpy as np
import pytest
import torch

from novum.datamodules import ImageDataModule
from tests import programs
from tests.project import ROOT

pytestmark = pytest.mark.slow
ALL = ("--features", "efficientnet_lite0,pixels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    data = ImageDataModule("digits", image_size=8)
    images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))].numpy()
    train, heldout = images[60:260], images[260:460]
    np.save(folder / "samples.npy", np.concatenate([images[:60], train[:20]]))
    np.save(folder / "train.npy", train)
    np.save(folder / "heldout.npy", heldout)
    text = (ROOT / "novum/evaluation/images.py").read_text()
    (folder / "samples.txt").write_text(text[3000:4500])
    (folder / "train.txt").write_text(text)
    (folder / "heldout.txt").write_text((ROOT / "novum/evaluation/evidence.py").read_text())
    return folder


def evaluate(folder, ranks, *arguments, kind="npy", samples="samples"):
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    sides = [f"--train=train.{kind}", f"--heldout=heldout.{kind}", f"--samples={samples}.{kind}"]
    return programs.run(
        *launch, ROOT / "evaluate.py", *sides, *arguments,
        cwd=folder,
        env={"OMP_NUM_THREADS": "1", "NOVUM_CACHE": str(folder / f"cache{ranks}")},
        starts=ranks if launch else 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind, how", [("npy", ALL), ("txt", ("--kind", "text"))], ids=["images", "text"]
)
def test_two_ranks_write_the_report_of_one(folder, kind, how):
    reports = []
    for ranks in (1, 2):
        done = evaluate(folder, ranks, *how, "--output", f"{kind}{ranks}", kind=kind)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("Verdict") == 1
        reports.append(json.loads((folder / f"{kind}{ranks}" / "report.json").read_text()))
        assert reports[-1].pop("cost")["seconds"] > 0
    assert reports[0] == reports[1]
    assert reports[0]["copies"]


def test_a_mistake_is_told_once_and_every_rank_ends_with_2(folder):
    done = evaluate(folder, 2, samples="nothing")
    said = [line for line in done.stderr.splitlines() if line.startswith("evaluate.py: ")]
    said += [line for line in done.stderr.splitlines() if line.startswith("python evaluate.py: ")]
    assert len(said) == 1 and "no file or folder nothing.npy" in said[0]
    assert "(exitcode: 2)" in done.stderr or "exitcode  : 2" in done.stderr
    assert done.returncode != 0


def test_copying_ends_every_rank_with_3(folder):
    done = evaluate(folder, 2, "--features", "pixels", "--fail-on-copying")
    assert "exitcode  : 3" in done.stderr  # torchrun's own code is always 1
    assert done.returncode != 0
