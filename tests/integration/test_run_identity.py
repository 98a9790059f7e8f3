"""Runs are who they are: moved, copied, swept over, started twice, gone on with otherwise."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import yaml

from tests import programs
from tests.integration.commands import TINY, fit, refusal, write_tiny
from tests.project import ROOT

pytestmark = pytest.mark.slow
BEST = """  callbacks+:
    - class_path: novum.callbacks.BestCheckpoint
      init_args: {monitor: val/discriminator_loss}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    write_tiny(tmp_path)
    return tmp_path


def runs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "runs" / "tiny").iterdir())


def saved(folder: Path, version: str = "version_0", name: str = "last") -> dict:
    path = folder / "runs" / "tiny" / version / "checkpoints" / f"{name}.ckpt"
    return torch.load(path, weights_only=True)


def done(process) -> str:
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def test_last_is_of_the_same_settings(folder):
    """A sweep: every run of it goes on with itself, whichever was written last."""
    for rate in ("1e-3", "1e-4"):
        done(fit(folder, "--model.lr", rate))
    done(fit(folder, "--model.lr", "1e-3", "--ckpt_path=last", "--trainer.max_steps=6"))
    assert runs(folder) == ["version_0", "version_1"]
    steps = [saved(folder, version)["global_step"] for version in runs(folder)]
    assert steps == [6, 4]
    config = (folder / "runs/tiny/version_1/config.yaml").read_bytes()
    line = refusal(fit(folder, "--model.lr", "1e-5", "--ckpt_path=last"))
    assert "model.init_args.lr 0.001 -> 1e-05" in line and "give --ckpt_path runs/tiny" in line
    assert "seed_everything 0 -> 3" in refusal(
        fit(folder, "--model.lr=1e-3", "--seed_everything=3", "--ckpt_path=last")
    )
    assert (folder / "runs/tiny/version_1/config.yaml").read_bytes() == config
    record = json.loads((folder / "runs/tiny/version_0/run.json").read_text())
    assert record["id"] == saved(folder)["run"]["id"]
    assert [x["step"] for x in record["resumed"]] == [4]


def test_another_rate_is_applied_in_a_run_of_its_own(folder):
    done(fit(folder))
    last = "runs/tiny/version_0/checkpoints/last.ckpt"
    out = done(fit(folder, "--model.lr=1e-5", "--ckpt_path", last, "--trainer.max_steps=6"))
    assert "changed since the checkpoint: model.init_args.lr 0.0002 -> 1e-05" in out
    groups = [g for o in saved(folder, "version_1")["optimizer_states"] for g in o["param_groups"]]
    assert {group["lr"] for group in groups} == {1e-5}
    assert saved(folder)["global_step"] == 4  # of the first nothing was overwritten
    record = json.loads((folder / "runs/tiny/version_1/run.json").read_text())
    assert record["from"] == saved(folder)["run"]["id"] != record["id"]
    assert "model.init_args.lr" in record["resumed"][0]["changed"][0]


@pytest.mark.parametrize(
    "argument", ["--data.batch_size=8", "--data.split_seed=1", "--seed_everything=2"]
)
def test_other_data_or_another_seed_is_refused(folder, argument):
    done(fit(folder, "--trainer.max_steps=1"))
    last = "runs/tiny/version_0/checkpoints/last.ckpt"
    name = argument.split("=")[0].split(".")[-1].strip("-")
    assert name in refusal(fit(folder, "--ckpt_path", last, argument))
    assert runs(folder) == ["version_0"]


def test_a_named_version_goes_on_with_itself_and_is_never_taken(folder):
    named = "--trainer.logger.init_args.version=slurm_7"
    out = done(fit(folder, named, "--ckpt_path=last"))
    assert "starting from the beginning" in out
    done(fit(folder))  # another run, which is newer
    done(fit(folder, named, "--ckpt_path=last", "--trainer.max_steps=6"))
    assert runs(folder) == ["slurm_7", "version_0"]
    assert saved(folder, "slurm_7")["global_step"] == 6
    assert "holds another run" in refusal(fit(folder, named))
    done(programs.run(ROOT / "train.py", "fit", "--config", "runs/tiny/slurm_7/config.yaml",
                      cwd=folder))  # fmt: skip
    assert runs(folder) == ["slurm_7", "version_0", "version_1"]


def test_a_moved_run_keeps_its_best_checkpoint(folder):
    write_tiny(folder, TINY + BEST)
    done(fit(folder))
    best = saved(folder, name="best")
    state = saved(folder)["callbacks"]
    (kept,) = (x for k, x in state.items() if k.startswith("BestCheckpoint"))
    (folder / "runs").rename(folder / "elsewhere")
    shutil.copytree(folder / "elsewhere", folder / "runs")  # moved, and copied
    shutil.rmtree(folder / "elsewhere")
    path = folder / "runs/tiny/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for key, value in checkpoint["callbacks"].items():
        if key.startswith("BestCheckpoint"):  # better than what comes, somewhere else
            old = "/somewhere/else/checkpoints"
            value |= {"dirpath": old, "best_model_path": f"{old}/best.ckpt",
                      "best_model_score": torch.tensor(-100.0),
                      "kth_value": torch.tensor(-100.0), "kth_best_model_path": f"{old}/best.ckpt",
                      "best_k_models": {f"{old}/best.ckpt": torch.tensor(-100.0)}}  # fmt: skip
    torch.save(checkpoint, path)
    done(fit(folder, "--ckpt_path=last", "--trainer.max_steps=6"))
    assert saved(folder, name="best")["global_step"] == best["global_step"]
    assert kept["best_model_score"] > -100


@pytest.fixture
def opened():
    with contextlib.ExitStack() as stack:
        yield stack


def test_two_at_once_never_write_into_one_folder(folder, opened):
    """Two starts get two folders; of two that go on with one run, one is refused."""
    endless = ["--trainer.max_steps=-1", "--trainer.val_check_interval=1000000"]

    def start(*arguments):
        out = opened.enter_context(tempfile.TemporaryFile("w+"))
        process = programs.start(ROOT / "train.py", "fit", "--config", "tiny.yaml", *arguments,
                                 cwd=folder, out=out.fileno(), err=out.fileno())  # fmt: skip
        return process, out

    both = [start() for _ in range(2)]
    assert [process.wait(120) for process, _ in both] == [0, 0]
    assert runs(folder) == ["version_0", "version_1"]
    ids = [
        json.loads((folder / "runs/tiny" / v / "run.json").read_text())["id"] for v in runs(folder)
    ]
    assert len(set(ids)) == 2
    both = [start("--ckpt_path=last", *endless) for _ in range(2)]
    ends = {}
    while not ends:
        ends = {i: p.poll() for i, (p, _) in enumerate(both) if p.poll() is not None}
    (loser,), winner = ends, both[1 - next(iter(ends))][0]
    both[loser][1].seek(0)
    told = both[loser][1].read()
    assert ends[loser] == 2 and "is being written by process" in told, told[-2000:]
    assert "Traceback" not in told
    winner.send_signal(15)
    winner.wait(60)
    assert runs(folder) == ["version_0", "version_1"]


def test_config_of_a_run_names_no_version(folder):
    done(fit(folder, "--trainer.logger.init_args.version=mine"))
    config = yaml.safe_load((folder / "runs/tiny/mine/config.yaml").read_text())
    assert config["trainer"]["logger"]["init_args"]["version"] is None
    assert config["trainer"]["logger"]["init_args"]["name"] == "tiny"
    assert config["ckpt_path"] is None
