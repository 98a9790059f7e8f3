"""train.py as processes, and a tiny config for it."""

import subprocess
from pathlib import Path

from tests import programs
from tests.project import ROOT

DIGITS = """
data:
  class_path: novum.datamodules.ImageDataModule
  init_args: {dataset: digits, image_size: 8, batch_size: 16}
trainer:
  accelerator: cpu
  max_steps: 4
  val_check_interval: 2
  limit_val_batches: 1
  log_every_n_steps: 1
"""  # data and a trainer, whose further keys may follow
TINY = f"""
model:
  class_path: novum.lightning_modules.GAN
  init_args:
    generator: {{class_path: DCGANGenerator, init_args: {{width: 8}}}}
    discriminator: {{class_path: DCGANDiscriminator, init_args: {{width: 8}}}}
{DIGITS}"""


def train(folder: Path, *arguments: object, **options) -> subprocess.CompletedProcess:
    return programs.run(ROOT / "train.py", *arguments, cwd=folder, **options)


def fit(folder: Path, *arguments: object, **options) -> subprocess.CompletedProcess:
    return train(folder, "fit", "--config", "tiny.yaml", *arguments, **options)


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line of a program that refused its input; it printed no traceback."""
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    lines = [x for x in done.stderr.splitlines() if x.startswith("python train.py: ")]
    assert len(lines) == 1, done.stderr[-2000:]
    return lines[0]


def write_tiny(folder: Path, text: str = TINY) -> None:
    (folder / "tiny.yaml").write_text(text)
