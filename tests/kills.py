"""Kills a short run over and over (SIGKILL at random moments) and lets it go on each time.

Processes are forked after the imports, so a life costs a fraction of a second.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, LightningModule

from novum.callbacks import LastCheckpoint, Preemption
from novum.cli.run_folder import newest_whole
from novum.datamodules.dataloaders import CountedBatches
from tests.tiny import TinyImages, states_equal, tiny_gan, tiny_trainer
from tests.tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

INTERVAL = 3  # steps between checkpoints


class Images(TinyImages):
    """With held-out batches that Lightning takes for one loader."""

    def val_dataloader(self) -> CountedBatches:
        held_out = TinyImages.val_dataloader(self) * 3
        return CountedBatches(lambda: iter(held_out), 3)


def gan(folder: Path) -> tuple[LightningModule, LightningDataModule]:
    return tiny_gan(), Images()


def char_lstm(folder: Path) -> tuple[LightningModule, LightningDataModule]:
    data = text_data(folder)
    return tiny_char_lstm(data, {"dropout": 0.3}), data


def char_transformer(folder: Path) -> tuple[LightningModule, LightningDataModule]:
    data = text_data(folder, order="random")
    return tiny_char_transformer(data, {"dropout": 0.3}), data


def go_on(folder: Path, build: Callable, steps: int) -> None:
    """Trains to the end from the newest whole checkpoint, if there is one."""
    torch.set_num_threads(1)
    checkpoints = folder / "checkpoints"
    found = list(checkpoints.glob("*.ckpt"))
    path = str(newest_whole(checkpoints)[0]) if found else None
    trainer = tiny_trainer(
        folder,
        max_steps=steps,
        limit_val_batches=1,
        val_check_interval=10,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        callbacks=[Preemption(), LastCheckpoint(every_n_steps=INTERVAL)],
    )
    module, data = build(folder)
    trainer.fit(module, data, ckpt_path=path)


def live(folder: Path, build: Callable, steps: int, until: float | None) -> bool:
    """One life, forked and killed after `until` seconds; whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.stdout = sys.stderr = open(folder / "log.txt", "a")
            go_on(folder, build, steps)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    deadline = None if until is None else time.monotonic() + until
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            done = os.waitpid(child, 0)
            break
        time.sleep(0.001)
    if done[1] not in (0, signal.SIGKILL):
        raise AssertionError((folder / "log.txt").read_text()[-3000:])
    return done[1] == 0


def reached(folder: Path) -> int:
    """The step of the newest checkpoint; it must be whole, as each of the two must be."""
    newest = newest_of(folder)
    return newest["global_step"] if newest else 0


def newest_of(folder: Path) -> dict:
    """Between its two renames a kill leaves previous.ckpt alone, of the last step too."""
    paths = sorted((folder / "checkpoints").glob("*.ckpt"))
    assert {path.name for path in paths} <= {"last.ckpt", "previous.ckpt"}
    found = [torch.load(path, weights_only=True) for path in paths]
    return max(found, key=lambda checkpoint: checkpoint["global_step"], default={})


def kill_over_and_over(
    folder: Path, build: Callable, steps: int, kills: int, rng: random.Random
) -> Counter:
    """A run under that many kills ends in the weights, optimizers and counts of one without."""
    whole, killed = folder / "whole", folder / "killed"
    whole.mkdir(parents=True)
    killed.mkdir()
    begin = time.monotonic()
    assert live(whole, build, steps, None)
    longest = time.monotonic() - begin
    told: Counter = Counter()
    while told["kills"] < kills:
        before = reached(killed)
        if live(killed, build, steps, rng.uniform(0.1, 1.0) * longest):
            break
        told["kills"] += 1
        told["partial files left by a kill"] += len(list(killed.rglob("*.tmp")))
        after = reached(killed)
        assert after >= before  # nothing that was saved is lost
        told["kills with progress"] += after > before
    assert live(killed, build, steps, None)
    ends = [newest_of(whole), newest_of(killed)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == steps
    assert states_equal(*(end["state_dict"] for end in ends))
    for ours, theirs in zip(*(end["optimizer_states"] for end in ends), strict=True):
        assert all(states_equal(s, theirs["state"][k]) for k, s in ours["state"].items())
    assert not list(killed.rglob("*.tmp"))
    return told
