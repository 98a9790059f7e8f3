"""Hundreds of command lines of ordinary habits: each works, or is refused in one line.

No traceback, and nothing that silently does not happen: where a line of habits.txt, or of
trainer_arguments.txt, names words, they are in what is printed, or in the one line that refuses it.
"""

import inspect
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image
from pytorch_lightning import Trainer

from tests import programs
from tests.integration.commands import TINY, fit, write_tiny
from tests.project import ROOT
from tests.tiny_text import small_text

pytestmark = pytest.mark.slow
SHORT = (
    "--trainer.accelerator cpu --trainer.max_steps 2 --trainer.val_check_interval 2"
    " --trainer.limit_val_batches 1 --trainer.callbacks [novum.callbacks.LastCheckpoint]"
)
IMAGES = "--data.dataset digits --data.image_size 8 --data.batch_size 8"
TECHNIQUES = {
    "@gan": f"--config tiny.yaml {SHORT}",
    "@own": "--config tiny.yaml --model.generator mine.Generator"
    f" --model.discriminator mine.Critic {SHORT}",
    "@text": "--config char_lstm_stdlib --data.dataset files --data.files text.txt"
    f" --data.chunk_length 10 --data.batch_size 4 --model.network.hidden_size 8 {SHORT}",
    "@windows": "--config char_transformer_stdlib --data.dataset files --data.files text.txt"
    " --data.chunk_length 10 --data.batch_size 4 --model.network.width 8 --model.network.heads 2"
    f" {SHORT}",
    "@classes": f"--config classifier_fashion_mnist {IMAGES} --model.network.width 4 {SHORT}",
    "@style": f"--config stylegan_fashion_mnist {IMAGES} --model.generator.max_width 8"
    f" --model.discriminator.max_width 8 {SHORT}",
    "@flow": f"--config flow_digits {IMAGES} --model.network.width 8 --model.likelihood_images 2"
    f" {SHORT}",
    "@dream": f"--config deep_dream --data.size 48 --model.octaves [0,0] --model.steps 2 {SHORT}",
    "@attack": f"--config adversarial --data.size 48 --model.attack.steps 2 {SHORT}",
    "@transfer": f"--config style_transfer --data.size 48 --model.min_scale 48 {SHORT}",
}
OWN = """
from torch import nn

class Generator(nn.Module):
    def __init__(self, image_size: int, channels: int, latent_dim: int = 4) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, 0
        self.shape = channels, image_size, image_size
        self.net = nn.Sequential(nn.Linear(latent_dim, channels * image_size**2), nn.Tanh())

    def forward(self, z, labels=None):
        return self.net(z).unflatten(1, self.shape)

class NoLatent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 0

class Critic(nn.Module):
    def __init__(self, image_size: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 1))

    def forward(self, images, labels=None):
        return self.net(images)[:, 0]
"""


EACH = ("@gan", "@text", "@windows", "@dream")  # what @each stands for
FACTS = " --trainer.callbacks+=run_facts.RunFacts"


def read_lines(name: str) -> dict[str, list[tuple[str, str]]]:
    """Section -> (what is expected, command line)."""
    found = defaultdict(list)
    section = ""
    for line in Path(__file__).with_name(name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            expected, _, command = line.partition(" | ")
            for technique in EACH if "@each" in command else ("",):
                line = command.strip().replace("@each", technique)
                found[section].append((expected.strip(), line))
    return found


HABITS, ARGUMENTS = read_lines("habits.txt"), read_lines("trainer_arguments.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the command lines name: a config, a text, images, a run, a module of one's own."""
    folder = tmp_path_factory.mktemp("habits")
    write_tiny(folder, TINY)
    (folder / "mine.py").write_text(OWN)
    shutil.copy(Path(__file__).with_name("run_facts.py"), folder)
    (folder / "text.txt").write_text(small_text(4000), encoding="utf-8")
    (folder / "images").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(folder / "images" / f"{i}.png")
    best = "--trainer.callbacks+=novum.callbacks.BestCheckpoint"
    done = fit(folder, best, "--trainer.callbacks.monitor=val/discriminator_loss",
               "--trainer.logger.init_args.name=done", "--trainer.max_steps=2")  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def check(folder: Path, name: str, lines: list[tuple[str, str]], more: str = "") -> None:
    """Run command lines in one process; all that is not as expected is told at once."""
    commands = []
    for _, command in lines:
        for technique, arguments in TECHNIQUES.items():
            command = command.replace(technique, arguments + more)
        commands.append([str(folder), command])
    (folder / f"{name}.json").write_text(json.dumps(commands))
    runner = ROOT / "tests/integration/command_runner.py"
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    ran = programs.run(runner, folder / f"{name}.json", timeout=1200, env=env)
    assert ran.returncode == 0, ran.stderr[-3000:]
    wrong = []
    for (expected, command), (code, out, err, _) in zip(lines, json.loads(ran.stdout), strict=True):
        kind, _, rest = expected.partition(": ")
        words = rest.split(" & ")
        told = [line for line in err.splitlines() if line.startswith("python train.py: ")]
        if "Traceback" in err or code not in (0, 2):
            wrong.append((command, code, err[-600:]))
        elif kind == "ok" and (code or any(x not in out + err for x in words)):
            facts = [line for line in out.splitlines() if line.startswith("facts: ")]
            wrong.append((expected, command, code, told or facts or (out + err)[-300:]))
        elif kind == "no" and (code != 2 or len(told) != 1 or any(x not in told[0] for x in words)):
            wrong.append((expected, command, code, told or err[-300:]))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("section", HABITS)
def test_habits(folder, section):
    check(folder, section, HABITS[section])


@pytest.mark.parametrize("technique", EACH)
def test_arguments_of_the_trainer(folder, technique):
    lines = [line for section in ARGUMENTS.values() for line in section if technique in line[1]]
    check(folder, f"arguments of {technique[1:]}", lines, FACTS)


def test_every_argument_is_decided():
    """A new one of Lightning's fails this until somebody says what it does in each technique."""
    assert ARGUMENTS.keys() == inspect.signature(Trainer).parameters.keys()
    for name, lines in ARGUMENTS.items():
        undecided = [t for t in EACH if not any(t in command for _, command in lines)]
        assert not undecided, f"trainer_arguments.txt says nothing of {name} in {undecided}"
        assert all(name in command for expected, command in lines if expected != "ok"), name


def test_there_are_hundreds():
    assert sum(map(len, [*HABITS.values(), *ARGUMENTS.values()])) >= 400
