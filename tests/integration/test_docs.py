"""Every Python snippet of the README and the docs runs as written; every `fit` command is valid."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

from tests import programs
from tests.integration.commands import train
from tests.project import ROOT

pytestmark = pytest.mark.slow
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page.stem, number, kind, text)
    for page in PAGES
    for number, (kind, text) in enumerate(BLOCK.findall(page.read_text()))
]
SNIPPETS = [(page, number, text) for page, number, kind, text in BLOCKS if kind == "python"]
# what a page takes for given before its snippet
GIVEN = {
    "adversarial": """
import torch
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
images, labels = torch.rand(4, 1, 8, 8), torch.arange(4) % 3
""",
    "deep_dream": "import torch\nimages = torch.rand(1, 3, 64, 64)\n",
    "evaluation": """
import torch
real_images, fake_images, train_images, heldout_images = (
    torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8) for _ in range(4)
)
""",
    "novelty": """
import torch
open("train.txt", "w").write("one and two and three and four, and five in all. " * 40)
open("heldout.txt", "w").write("six and seven and eight, nine and ten of them. " * 40)
train, heldout, samples = (torch.randn(80, 4) for _ in range(3))
""",
}


@pytest.mark.parametrize(
    ("page", "number", "text"), SNIPPETS, ids=[f"{p}-{n}" for p, n, _ in SNIPPETS]
)
def test_snippet(tmp_path, page, number, text):
    if page == "char_lstm":
        write_char_lstm(tmp_path / "best.ckpt")
    (tmp_path / "snippet.py").write_text(GIVEN.get(page, "") + text)
    env = {"NOVUM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = programs.run("snippet.py", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


def write_char_lstm(path: Path) -> None:
    from novum.core.vocabulary import Vocabulary
    from novum.lightning_modules import CharLSTM
    from novum.lightning_modules.networks import CharRNN

    alphabet = "\n abcdef"
    size = len(Vocabulary(alphabet))
    model = CharLSTM(CharRNN(size, hidden_size=4), alphabet)
    network = {"class_path": "novum.lightning_modules.networks.CharRNN",
               "init_args": {"vocab_size": size, "hidden_size": 4}}  # fmt: skip
    saved = {
        "state_dict": model.state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"network": network, "alphabet": alphabet},
    }
    model.losses.clear()
    model.on_save_checkpoint(saved)
    torch.save(saved, path)


def test_your_own_networks(tmp_path):
    (own,) = (text for page, _, text in SNIPPETS if page == "gan" and "# mine.py" in text)
    (tmp_path / "mine.py").write_text(own)
    command = next(x for x in fit_commands() if "mine.Generator" in x)
    done = train(tmp_path, *shlex.split(command)[2:], "--trainer.max_steps=2",
                 "--trainer.callbacks=null", "--trainer.accelerator=cpu")  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def fit_commands() -> list[str]:
    text = "\n".join(text for _, _, kind, text in BLOCKS if kind == "sh")
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    every = (line.split("  #")[0].strip() for line in lines)
    return [x for x in dict.fromkeys(every) if x.startswith("python train.py fit ")]


def test_every_fit_command_is_valid(tmp_path):
    """Parsed with every value resolved; those of runs and files that are not here are left out."""
    (tmp_path / "mine.py").write_text(next(t for _, _, t in SNIPPETS if "# mine.py" in t))
    absent = ("--ckpt_path", "runs/", "--help", ".png", "FILE")
    commands = [x for x in fit_commands() if not any(part in x for part in absent)]
    assert len(commands) > 10
    lines = [
        [str(tmp_path), f"{x.removeprefix('python train.py ')} --print_config"] for x in commands
    ]
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    runner = ROOT / "tests/integration/command_runner.py"
    places = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    done = programs.run(runner, tmp_path / "lines.json", env={"PYTHONPATH": places})
    results = json.loads(done.stdout)
    wrong = [
        (x, err[-300:]) for x, (code, _, err, _) in zip(commands, results, strict=True) if code
    ]
    assert not wrong
