"""Help, version and completion of the programs."""

import re
import subprocess
import sys

import pytest

from novum.cli import evaluate, explore, generate, train


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("arguments", [["fit", "--help"], ["test", "--config", "x", "-h"]])
def test_help_of_a_command_is_one_screen_of_80_columns(arguments, capsys):
    train.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: python train.py {arguments[0]} --config")
    assert len(lines) <= 24 and max(map(len, lines)) <= 90
    assert any("--help_model" in line for line in lines)


def test_help_of_a_model_explains_every_argument_of_its_classes(capsys):
    train.main(["fit", "--config", "dcgan_digits", "--help_model"])
    text = capsys.readouterr().out
    heads = re.findall(r"^(--model\S*) (\S+):", text, re.MULTILINE)
    assert heads[0] == ("--model", "novum.lightning_modules.GAN")
    assert [head for head, _ in heads[1:]][:2] == [
        "--model.init_args.generator", "--model.init_args.discriminator",
    ]  # fmt: skip
    assert "  --model.init_args.lr 0.0002\n      Learning rate of Adam" in text
    keys = re.findall(r"^  (--\S+)[^\n]*\n(      \S)?", text, re.MULTILINE)
    assert len(keys) > 20 and all(explained for _, explained in keys)
    assert "<function" not in text


def test_help_of_the_data_shows_the_values_of_the_config(capsys):
    train.main(["fit", "-c", "dcgan_digits", "--help_data"])
    text = capsys.readouterr().out
    assert "  --data.init_args.dataset digits\n" in text and "--data.init_args.groups None" in text


def test_help_of_a_model_needs_a_config(capsys):
    with pytest.raises(SystemExit) as exit_:
        train.main(["fit", "--help_model"])
    assert exit_.value.code == 2
    assert "--help_model needs --config NAME" in capsys.readouterr().err


@pytest.mark.parametrize("program", [train, evaluate, generate])
def test_version(program, capsys):
    try:
        program.main(["--version"])
    except SystemExit as exit_:
        assert exit_.code == 0
    assert re.fullmatch(r"novum \S+.*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("program", "option"),
    [
        (train, "--ckpt_path"),
        (evaluate, "--fail-on-copying"),
        (generate, "--temperature"),
        (explore, "--format"),
    ],
)
def test_completion_is_a_script_that_bash_takes(program, option, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(["--print_shtab", "bash"])
    script = capsys.readouterr().out
    assert not exit_.value.code and option in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize("program", [train, evaluate, generate])
def test_without_shtab_completion_says_what_it_needs(program, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as exit_:
        program.main(["--print_shtab", "bash"])
    assert exit_.value.code == 2 and "pip install shtab" in capsys.readouterr().err


def test_a_flag_misspelt_names_the_right_one(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["a", "b", "--fail-on-copy"])
    assert "did you mean --fail-on-copying?" in capsys.readouterr().err
