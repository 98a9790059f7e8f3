"""Trains as rank 0 of two whose messages go nowhere; prints collectives and bytes a step, as JSON.

Run as a program by test_device.py, with the names of techniques: the process group is torch's fake
one, under Lightning's DDP.
"""

import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from tiny import TinyImages, tiny_flow, tiny_gan, tiny_stylegan, tiny_trainer
from tiny_text import text_data, tiny_char_lstm, tiny_char_transformer
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._pytree import tree_leaves

from novum.callbacks import Preemption
from novum.datamodules import ImageDataModule
from novum.lightning_modules import AdaptiveAugment, Classifier
from novum.lightning_modules.networks import SmallCNN

STEPS = 8
COLLECTIVES = (
    "all_reduce",
    "reduce",
    "broadcast",
    "_broadcast_coalesced",
    "broadcast_object_list",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "barrier",
    "monitored_barrier",
)
counted: list[tuple[str, int]] = []
per_step: list[list[tuple[str, int]]] = []


def count(name: str) -> None:
    """Counts the calls of a function of torch.distributed, and the bytes of its tensors."""
    original = getattr(dist, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        counted.append((name, sum(x.numel() * x.element_size() for x in tensors)))
        return original(*args, **kwargs)

    for module in list(sys.modules.values()):
        if getattr(module, name, None) is original:
            setattr(module, name, counting)


def bucket_hook(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """DDP's own all-reduce of a bucket, which is in C++, counted."""
    buffer = bucket.buffer()
    counted.append(("all_reduce", buffer.numel() * buffer.element_size()))
    future = torch.futures.Future()
    future.set_result(buffer / 2)
    return future


class Steps(Callback):
    def on_fit_start(self, trainer: Trainer, *_: object) -> None:
        trainer.model.register_comm_hook(None, bucket_hook)

    def on_train_batch_start(self, *_: object) -> None:
        counted.clear()

    def on_train_batch_end(self, *_: object) -> None:
        per_step.append(list(counted))


class Digits(ImageDataModule):
    prepare_data = LightningDataModule.prepare_data  # for which Lightning makes a group of gloo's


def technique(name: str) -> tuple[LightningModule, LightningDataModule]:
    torch.manual_seed(0)
    if name == "classifier":
        return Classifier(SmallCNN(8, 1, 10, width=4)), Digits(
            "digits", image_size=8, batch_size=8, seed=0
        )
    if name == "char lstm":
        data = text_data(Path(tempfile.mkdtemp()))
        return tiny_char_lstm(data), data
    if name == "char transformer":
        data = text_data(Path(tempfile.mkdtemp()), order="random")
        return tiny_char_transformer(data), data
    if name == "flow matching":
        return tiny_flow(), TinyImages()
    if name == "gan":
        return tiny_gan(), TinyImages()
    augment = AdaptiveAugment("bg", p=0.3, interval=2, speed_kimg=1.0)
    return tiny_stylegan(augment=augment, r1_interval=4, path_length_interval=2), TinyImages()


def size(network: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def measured(name: str) -> dict[str, Any]:
    module, data = technique(name)
    per_step.clear()
    trainer = tiny_trainer(
        tempfile.mkdtemp(),
        devices=2,
        strategy=DDPStrategy(process_group_backend="fake"),
        max_steps=STEPS,
        log_every_n_steps=1000,
        callbacks=[Steps(), Preemption()],
    )
    trainer.fit(module, data)
    networks = {
        name: size(network)
        for name, network in module.named_children()
        if name in ("generator", "discriminator", "network")
    }
    return {"networks": networks, "steps": list(per_step)}


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "GROUP_RANK": "0",
                   "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "2",
                   "TORCHELASTIC_RUN_ID": "1"}  # fmt: skip
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    for name in COLLECTIVES:
        count(name)
    out, *names = sys.argv[1:]
    Path(out).write_text(json.dumps({name: measured(name) for name in names}))


if __name__ == "__main__":
    main()
