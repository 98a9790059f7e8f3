"""Pictures and text in every logger, opened and looked at; a run's folder is the same with any."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests import programs
from tests.integration.commands import TINY, fit, refusal, write_tiny

pytestmark = pytest.mark.slow
SHOWN = """  callbacks+:
    - {class_path: novum.callbacks.SampleGrid}
    - {class_path: novum.callbacks.Interpolation, init_args: {rows: 1, stops: 2, frames: 2}}
    - {class_path: novum.callbacks.RunSummary}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    write_tiny(tmp_path, TINY + SHOWN)
    return tmp_path


def run(folder: Path, *arguments: str, **env: str) -> tuple[str, Path]:
    done = fit(folder, *arguments, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    newest = max((folder / "runs" / "tiny").iterdir(), key=lambda path: path.stat().st_mtime)
    for name in ("config.yaml", "report.html", "run.json", "checkpoints/last.ckpt"):
        assert (newest / name).is_file(), name
    return done.stdout, newest


def check_pictures(folder: Path, steps: set[str]) -> None:
    grids = list(folder.rglob("grid*.png")) or list(folder.rglob("grid/*.png"))
    assert {path.stem.split("_")[0] for path in grids} >= steps or len(grids) == len(steps)
    for path in grids:
        with Image.open(path) as image:
            assert image.width >= 8 * 8 and len(set(image.convert("L").tobytes())) > 1
    (moving, *_) = folder.rglob("*.gif")
    with Image.open(moving) as image:
        assert image.n_frames == 4


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_files_where_no_logger_shows_pictures(folder, logger):
    out, version = run(folder, "--trainer.logger", logger)
    assert f"Look at it:  {version.relative_to(folder)}/pictures" in out
    check_pictures(version / "pictures", {"32", "64"})
    (verdict,) = (version / "text/verdict").iterdir()
    assert verdict.name == "64.md" and verdict.read_text()
    assert (version / "metrics.csv").is_file() == (logger == "csv")
    out, again = run(
        folder, "--trainer.logger", logger, "--ckpt_path=last", "--trainer.max_steps=6"
    )
    assert again == version and (version / "pictures/samples/grid/96.png").is_file()


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def path_of_extras() -> dict[str, str]:
    return {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def test_weights_and_biases_offline(folder, monkeypatch):
    needs("wandb")
    monkeypatch.setattr(programs, "FORKED", False)  # W&B has processes of its own
    env = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"} | path_of_extras()
    out, version = run(folder, "--trainer.logger", "[tensorboard,wandb]", **env)
    assert "tensorboard --logdir runs/tiny" in out and "wandb sync runs/tiny" in out
    (media,) = (version / "wandb").glob("offline-run-*/files/media")
    check_pictures(media, {"a", "b"})
    (table,) = (media / "table").rglob("verdict*.json")
    assert "Copying was not judged" in json.loads(table.read_text())["data"][0][1]
    run(folder, "--trainer.logger=wandb", "--ckpt_path=last", "--trainer.max_steps=6", **env)
    ids = {path.name.split("-", 3)[3] for path in (version / "wandb").glob("offline-run-*")}
    assert len(ids) == 1  # both parts are one run for W&B


def test_mlflow_in_files(folder):
    needs("mlflow")
    env = {"MLFLOW_ALLOW_FILE_STORE": "true"} | path_of_extras()
    out, version = run(folder, "--trainer.logger=mlflow", **env)
    assert "mlflow ui --backend-store-uri" in out
    (artifacts,) = (folder / "runs/mlruns").glob("*/*/artifacts")
    check_pictures(artifacts, {"32", "64"})
    assert (artifacts / "text/verdict/64.md").read_text()
    run(folder, "--trainer.logger=mlflow", "--ckpt_path=last", "--trainer.max_steps=6", **env)
    (artifacts,) = (folder / "runs/mlruns").glob("*/*/artifacts")  # of the same run
    assert (artifacts / "pictures/samples/grid/96.png").is_file()


def test_a_logger_that_is_not_installed_is_named(folder):
    line = refusal(fit(folder, "--trainer.logger=CometLogger"))
    assert "comet" in line
