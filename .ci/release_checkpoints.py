"""Train, judge and pack the small checkpoints that a release carries, each in a folder for a hub.

    python .ci/release_checkpoints.py [CONFIG ...]

Of each config: train.py, evaluate.py with the model card, explore.py export. The folder has the
layout of a run, so that hf://OWNER/NAME finds the checkpoint and what it was trained on. The exact
commands are in its COMMANDS, the hashes of all files in SHA256SUMS.
"""

import hashlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

IMAGES = {"dcgan_digits": "digits", "stylegan_fashion_mnist": "fashion_mnist"}  # and their data
TEXTS = ("char_lstm_stdlib",)
RELEASE = Path("release")
NUM_SAMPLES = "3000"  # images that are judged: 2,000 of the digits are too little evidence
ROOT = Path(__file__).resolve().parents[1]


def commands(config: str, checkpoint: Path, folder: Path) -> dict[str, list[str]]:
    """Commands that make a checkpoint and what is said of it, by what they do."""
    if config in IMAGES:
        how = ["--num-samples", NUM_SAMPLES]
    elif config in TEXTS:
        how = ["--kind", "text"]
    else:
        known = ", ".join([*IMAGES, *TEXTS])
        raise SystemExit(f"release_checkpoints: no recipe for {config}: there are {known}")
    report = ["--output", str(folder / "evaluation"), "--model-card", str(folder / "README.md")]
    return {
        "train": ["train.py", "fit", "--config", f"configs/{config}.yaml"],
        "judge": ["evaluate.py", "--samples", str(checkpoint), *how, *report],
        "export": [
            "explore.py", "export", "--checkpoint", str(checkpoint), "--output", str(folder),
        ],
    }  # fmt: skip


def newest_run(config: str) -> Path:
    """Folder of the run that has just ended."""
    runs = Path("runs") / config
    return max(runs.glob("version_*"), key=lambda run: int(run.name.removeprefix("version_")))


def pack(run: Path, folder: Path) -> Path:
    """Copy a run's checkpoint and config; return the checkpoint's new place."""
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copyfile(run / "config.yaml", folder / "config.yaml")
    target = folder / "checkpoints" / "best.ckpt"
    shutil.copyfile(run / "checkpoints" / "best.ckpt", target)
    return target


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files, as `sha256sum --check` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release(config: str) -> None:
    """Make the folder of one config."""
    folder = RELEASE / config
    checkpoint = folder / "checkpoints" / "best.ckpt"
    steps = commands(config, checkpoint, folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name, command in steps.items():
        print(f"$ python {shlex.join(command)}", flush=True)
        subprocess.run([sys.executable, *command], check=True)
        if name == "train":
            pack(newest_run(config), folder)
    shutil.rmtree(folder / "evaluation" / "tensorboard", ignore_errors=True)
    lines = [f"python {shlex.join(command)}\n" for command in steps.values()]
    (folder / "COMMANDS").write_text("".join(lines))
    write_sums(folder)
    print(f"Release: {folder}")


if __name__ == "__main__":
    for given in sys.argv[1:] or [*IMAGES, *TEXTS]:
        release(given)
