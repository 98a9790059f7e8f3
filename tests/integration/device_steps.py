"""Trains every technique on the look-alike device; prints what a GPU would wait for, as JSON.

Run as a program by test_device.py, since the device is registered for good.
"""

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from lookalike import DEVICE, OnDevice, Watch, lstm, pin
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.accelerators.cpu import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from tiny import small_backbone, tiny_flow, tiny_gan, tiny_stylegan, tiny_trainer
from tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

from novum.core import memory
from novum.datamodules import ImageDataModule, SingleImageDataModule, StyleImageDataModule
from novum.lightning_modules import (
    EDM,
    PGD,
    AdaptiveAugment,
    Adversarial,
    Classifier,
    ClassVisualisation,
    DeepDream,
    DiffAugment,
    StyleTransfer,
)
from novum.lightning_modules.networks import SmallCNN

LOG_EVERY = 4
FIRST, LAST = 5, 7  # of the steps that are looked at, in between two logs


class OurAccelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Nothing: Lightning's takes the CPU alone."""


class Waits(Callback):
    """What each step after the first ones waited for, loading of its batch included."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        if done == FIRST:
            self.watch.clear()
        if done == LAST:  # then the trainer moves all of it back to the CPU
            weights = list(trainer.lightning_module.parameters())
            self.found = {
                "on the device": all(isinstance(x, OnDevice) for x in weights),
                "finite": all(bool(x.held.isfinite().all()) for x in weights),
                "operations": self.watch.operations // (LAST - FIRST),
                "copies": dict(self.watch.copies),
                "reads": dict(self.watch.reads),
            }


def images(size: int = 8, **settings: object) -> ImageDataModule:
    return ImageDataModule("digits", image_size=size, batch_size=8, seed=0, **settings)


def folder() -> Path:
    return Path(tempfile.mkdtemp())


def text() -> tuple[LightningModule, LightningDataModule]:
    data = text_data(folder())
    return tiny_char_lstm(data, {"dropout": 0.1}), data


def windows() -> tuple[LightningModule, LightningDataModule]:
    data = text_data(folder(), order="random")
    return tiny_char_transformer(data, {"dropout": 0.1}), data


def stylegan(pipe: str, data: LightningDataModule) -> tuple[LightningModule, LightningDataModule]:
    augment = AdaptiveAugment(pipe, p=0.3, interval=1, speed_kimg=1.0)
    lazy = dict(r1_interval=2, path_length_interval=2, style_mixing=0.9)
    return tiny_stylegan(10, augment=augment, **lazy), data


TECHNIQUES: dict[str, Callable[[], tuple[LightningModule, LightningDataModule]]] = {
    "gan": lambda: (
        tiny_gan(10, r1_gamma=1.0, gradient_penalty=1.0, augment=DiffAugment()),
        images(horizontal_flip=True),
    ),
    "gan, images in the host's memory": lambda: (tiny_gan(10), images(memory_budget_gb=1e-9)),
    "stylegan": lambda: (tiny_stylegan(10, r1_interval=2, path_length_interval=2), images()),
    "stylegan, ada bgcfnc": lambda: stylegan("bgcfnc", images()),
    "classifier": lambda: (Classifier(SmallCNN(8, 1, 10, width=4)), images()),
    "classifier, adversarial": lambda: (
        Classifier(SmallCNN(8, 1, 10, width=4), attack=PGD(steps=2, restarts=2)),
        images(),
    ),
    "char lstm": text,
    "char transformer": windows,
    "flow matching": lambda: (tiny_flow(10), images(horizontal_flip=True)),
    "flow matching, EDM": lambda: (tiny_flow(10, process=EDM()), images()),
    "deep dream": lambda: (
        DeepDream(small_backbone(), ["blocks.1"], octaves=(0, 0), smoothing=0.5),
        SingleImageDataModule("flower.jpg", size=64),
    ),
    "class visualisation": lambda: (
        ClassVisualisation(small_backbone(), ["1", "2"], per_class=2, size=32, view_size=32),
        SingleImageDataModule("flower.jpg", size=32),
    ),
    "adversarial": lambda: (
        Adversarial(small_backbone(), PGD(0.01, steps=10, momentum=0.9)),
        SingleImageDataModule("flower.jpg", size=32),
    ),
    **{
        f"style transfer, {statistic}": lambda s=statistic: (
            StyleTransfer(small_backbone(), ["blocks.1"], ["image", "blocks.0"], statistic=s),
            StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=32),
        )
        for statistic in ("gram", "wasserstein")
    },
}


def measured(make: Callable[[], tuple[LightningModule, LightningDataModule]]) -> dict:
    module, data = make()
    watch = Watch()
    waits = Waits(watch)
    trainer = tiny_trainer(
        folder(),
        strategy=SingleDeviceStrategy(DEVICE, accelerator=OurAccelerator()),
        accelerator="auto",
        devices="auto",
        max_steps=LAST + 1,
        log_every_n_steps=LOG_EVERY,
        callbacks=[waits],
    )
    with watch:
        trainer.fit(module, data)
    return waits.found


def known_waits() -> dict:
    """What the device itself counts where it is known what waits."""
    watch, x = Watch(), torch.arange(6.0)
    with watch:
        there = x.to(DEVICE)  # 1 copy
        pin(x).to(DEVICE, non_blocking=True)
        x.to(DEVICE, non_blocking=True)  # 2: not pinned
        torch.tensor([1.0, 2.0], device=DEVICE)  # 3
        there[torch.tensor([0, 1])]  # 4
        torch.full((2,), 3.0, device=DEVICE) + 1
        there[there > 2]  # 1 read
        there.nonzero()  # 2
        float(there.sum())  # 3
        there.cpu()  # 4
        there.tolist()  # 5
        try:
            there + x
        except RuntimeError as error:
            assert "two devices" in str(error)
    return {"copies": sum(watch.copies.values()), "reads": sum(watch.reads.values())}


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.Tensor.pin_memory = pin
    torch._VF.lstm = lstm
    memory.free_device_bytes = lambda device: 2**33
    chosen = sys.argv[2:] or TECHNIQUES
    found = {"known": known_waits()} | {name: measured(TECHNIQUES[name]) for name in chosen}
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
