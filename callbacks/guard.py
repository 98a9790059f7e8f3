"""Copies drawn again while `predict` writes samples."""

from types import SimpleNamespace
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from novum.callbacks.evaluation import lacks
from novum.core import distributed
from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule
from novum.core.protocols import ImageGenerator, TextGenerator
from novum.evaluation.guarded import (
    TRIES,
    Guarded,
    GuardedImages,
    GuardedTexts,
    ImageGuard,
    TextGuard,
    refusals,
)


class Guard(Callback):
    """In `predict`, a sample that copies training data is drawn again.

    Args:
        tries: Draws of a sample at most; 1: the first copy ends `predict`.
    """

    def __init__(self, tries: int = TRIES) -> None:
        self.tries = tries
        self.data: Any = None  # what the model was trained on, where `predict` has none
        self.guarded: Guarded | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = self.data or datamodule(trainer)
        if not hasattr(data, "train_reference"):
            raise InputError(
                "Guard compares with training data: give `predict` the data of the run, with a"
                " train_reference"
            )
        kinds = {"sample_text": TextGenerator, "sample": ImageGenerator}
        method = next((name for name, kind in kinds.items() if isinstance(pl_module, kind)), None)
        if method is None:
            raise lacks(self, pl_module, "sample or sample_text")
        unguarded: Any = SimpleNamespace(
            **{method: getattr(pl_module, method)},
            num_classes=getattr(pl_module, "num_classes", 0),
        )
        # `predict` is in inference mode, whose tensors other threads cannot write into
        with (
            torch.inference_mode(False),
            distributed.local_rank_zero_first("the guard's references"),
        ):
            sides = data.train_reference(), data.heldout_reference()
            if method == "sample":
                guard = ImageGuard(*sides, pl_module.device)
                self.guarded = GuardedImages(unguarded, guard, self.tries)
            else:
                self.guarded = GuardedTexts(unguarded, TextGuard(*sides), self.tries)
        setattr(pl_module, method, getattr(self.guarded, method))  # what predict_step calls

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        guarded = cast(Guarded, self.guarded)
        delattr(pl_module, "sample" if isinstance(guarded, GuardedImages) else "sample_text")
        own = guarded.drawn, guarded.refused
        counts = distributed.all_gather_objects(own, "refusals of the guard")
        if trainer.is_global_zero:
            print(refusals(*map(sum, zip(*counts, strict=True))))
