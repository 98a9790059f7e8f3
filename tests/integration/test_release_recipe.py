"""The recipe of a release's checkpoints: its commands are valid, and its folder is a run's."""

import runpy
import subprocess
import sys

import pytest

from novum.cli import evaluate, explore
from novum.core.security.configs import config_of_run
from tests.project import ROOT

RECIPE = runpy.run_path(str(ROOT / ".ci" / "release_checkpoints.py"))
CONFIGS = [*RECIPE["IMAGES"], *RECIPE["TEXTS"]]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_command_is_valid(config, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    steps = RECIPE["commands"](config, tmp_path / "best.ckpt", tmp_path)
    assert (ROOT / steps["train"][3]).is_file()
    judged = evaluate.parse(steps["judge"][1:])
    assert judged.model_card == tmp_path / "README.md"
    assert (judged.kind == "text") == (config in RECIPE["TEXTS"])
    assert explore.parse(steps["export"][1:]).command == "export"


def test_the_folder_is_laid_out_as_a_run_and_its_sums_hold(tmp_path):
    run = tmp_path / "runs" / "x" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("model: {}\n")
    (run / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    checkpoint = RECIPE["pack"](run, tmp_path / "release" / "x")
    assert checkpoint.read_bytes() == b"weights"
    assert config_of_run(checkpoint) == tmp_path / "release" / "x" / "config.yaml"
    RECIPE["write_sums"](tmp_path / "release" / "x")
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path / "release" / "x").returncode == 0


def test_the_newest_run_is_the_last_by_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (2, 10, 9):
        (tmp_path / "runs" / "x" / f"version_{number}").mkdir(parents=True)
    assert RECIPE["newest_run"]("x").name == "version_10"


def test_a_config_without_a_recipe_is_one_line():
    with pytest.raises(SystemExit, match="no recipe for mine: there are dcgan_digits"):
        RECIPE["commands"]("mine", ROOT, ROOT)
