"""Configs gone astray: parsed and built, or one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given

from novum.cli.train import main
from tests.fuzz import strategies as hostile
from tests.fuzz.outcome import empty_folder, ends_well, examples

pytestmark = pytest.mark.filterwarnings("ignore")


@examples(8)
@given(hostile.configs())
def test_configs(config):
    with empty_folder():
        Path("x.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        ends_well("train.py", lambda: main(["fit", "--config", "x.yaml", "--print_config"]))


@examples(15)
@given(hostile.damaged(b"model:\n  class_path: novum.lightning_modules.GAN\ndata: {x: [1, 2]}\n"))
def test_texts_that_are_hardly_configs(data):
    with empty_folder():
        Path("x.yaml").write_bytes(data)
        ends_well("train.py", lambda: main(["fit", "--config", "x.yaml", "--print_config"]))


SMALL = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.devices=1"]


@pytest.mark.slow
@examples(5)
@given(hostile.configs())
def test_configs_that_are_run(config):
    with empty_folder():
        Path("x.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        ends_well("train.py", lambda: main(["fit", "--config", "x.yaml", *SMALL]))
