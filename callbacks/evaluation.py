"""One evaluation for all callbacks of a trainer: samples once, features once, references once."""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from novum.callbacks.logging import wait_for_pictures
from novum.core import distributed
from novum.core.devices import place
from novum.core.errors import InputError, first_line
from novum.core.lightning_compat import (
    callbacks_of,
    datamodule,
    ensure_validation,
    fast_dev_run,
    never_validates,
)
from novum.core.protocols import BLOCK, ImageGenerator, Images, seen
from novum.datamodules.sources.image_sources import ImageArray
from novum.datamodules.sources.reference_bundle import BundledImages
from novum.evaluation.space import reference_floor
from novum.metrics.features import (
    cache_together,
    extract_features,
    load_extractor,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.functional import Moments
from novum.metrics.record import FeatureSets
from novum.report.model import Estimate

SPLITS = {"train": "training", "heldout": "held-out"}
_evaluations: "WeakKeyDictionary[Trainer, Evaluation]" = WeakKeyDictionary()


class Evaluation:
    """Samples of one generator state, their features, and the references they are held against.

    Samples depend on neither the number of ranks nor what else is evaluated: block b is
    `sample(256, seed=b)`, and every rank ends with the features of all blocks.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.generator: ImageGenerator | None = None
        self.images_seen = -1
        self._limit = BLOCK if fast_dev_run(trainer) else sys.maxsize  # a trial judges one block
        self._samples: dict[int, Tensor] = {}
        self._features: dict[str, dict[int, Tensor]] = {}
        self._shared: dict[tuple[str, int], dict[str, Any]] = {}
        self._references: dict[tuple[str | int, ...], Any] = {}

    @classmethod
    def of(cls, trainer: Trainer, generator: ImageGenerator) -> "Evaluation":
        """The trainer's evaluation of the generator as it is now."""
        evaluation = _evaluations.setdefault(trainer, cls(trainer))
        done = seen(cast(LightningModule, generator))
        if evaluation.images_seen != done:
            evaluation._samples.clear()
            evaluation._features.clear()
            evaluation._shared.clear()
            evaluation.images_seen = done
        evaluation.generator = generator
        return evaluation

    @property
    def device(self) -> torch.device:
        """The trainer's, on which metrics are computed."""
        return self.trainer.strategy.root_device

    def samples(self, n: int) -> Tensor:
        """The first n samples, uint8 (n, c, h, w) on the CPU, made whole on every rank."""
        return torch.cat([self._sample_block(b) for b in range(-(-n // BLOCK))])[:n]

    def features(self, name: str, n: int) -> Tensor:
        """Features (n, d) float32 of the first n samples, extracted in shares by the ranks."""
        n = min(n, self._limit)
        known = self._features.setdefault(name, {})
        missing = [b for b in range(-(-n // BLOCK)) if b not in known]
        extractor = place(load_extractor(name), self.device)
        mine = {
            b: extract_features(extractor, self._sample_block(b)).cpu()
            for i, b in enumerate(missing)
            if i % distributed.world_size() == distributed.rank()
        }
        for found in distributed.all_gather_objects(mine, f"features ({name}) of samples"):
            known.update(found)
        return torch.cat([known[b] for b in range(-(-n // BLOCK))])[:n]

    def shared(self, name: str, n: int) -> dict[str, Any]:
        """Store of what several metrics of the first n samples need; the first of them fills it."""
        return self._shared.setdefault((name, n), {})

    def reference(self, name: str, split: str) -> Tensor:
        """Features (n, d) of the `train` or `heldout` set: cached on disk, extracted once."""
        return self._once(reference_features, name, split)

    def reference_moments(self, name: str, split: str) -> Moments:
        """Mean and covariance of those features, cached likewise."""
        return self._once(reference_moments, name, split)

    def reference_neighbour_distances(self, name: str, split: str, n: int) -> Tensor | None:
        """Neighbour distances of as many reference images as there are samples, cached likewise."""
        return self._once(reference_neighbour_distances, name, split, min(n, self._limit))

    def quality_floor(self, name: str, n: int, metrics: Sequence[str]) -> dict[str, Estimate]:
        """Figures of held-out images in place of n samples, once; none if none are held out."""
        key = ("floor", name, n, *metrics)
        if key not in self._references:
            self._references[key] = {}
            if has_reference(self.trainer, "heldout"):
                train, heldout = (self.reference(name, split) for split in SPLITS)
                moments = self.reference_moments(name, "train")
                near = self.reference_neighbour_distances(name, "train", n)
                sets = FeatureSets(train, heldout, self.features(name, n), moments, near)
                images, others = self._limited("train"), self._limited("heldout")
                extractor = load_extractor(name)
                self._references[key] = reference_floor(
                    images, others, extractor, sets, self.device, metrics
                )
        return self._references[key]

    def _once(self, compute: Callable[..., Any], name: str, split: str, *size: int) -> Any:
        key = (compute.__name__, name, split, *size)
        if key not in self._references:
            extractor = place(load_extractor(name), self.device)
            source = self._limited(split)
            cache_together(source, extractor, *size)
            with distributed.local_rank_zero_first(f"references ({name})"):
                self._references[key] = compute(source, extractor, *size)
        return self._references[key]

    def _limited(self, split: str) -> Any:
        """The images that are judged: of a trial the first alone."""
        source = self.source(split)
        return source[: self._limit] if fast_dev_run(self.trainer) else source

    def source(self, split: str) -> Any:
        """The images of `train` or `heldout`."""
        return reference(self.trainer, split)

    def pictures(self, split: str) -> Any:
        """Images to show: of a reference bundle its thumbnails."""
        source = self.source(split)
        return source.pictures if isinstance(source, BundledImages) else source

    def group_numbers(self) -> Tensor | None:
        """Groups of the DataModule's training and held-out images, if it holds them out whole."""
        judges = (c for c in callbacks_of(self.trainer) if isinstance(c, EvaluationCallback))
        find = getattr(datamodule(self.trainer), "group_numbers", None)
        if find is None or fast_dev_run(self.trainer) or any(c.references for c in judges):
            return None
        return find()

    def _sample_block(self, block: int) -> Tensor:
        if block not in self._samples:
            assert self.generator is not None  # set by `of`
            images = self.generator.sample(BLOCK, seed=block).cpu()
            if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != BLOCK:
                raise InputError(
                    f"{type(self.generator).__name__}.sample({BLOCK}) must give uint8 images (n, c,"
                    f" h, w), not {images.dtype} {tuple(images.shape)}"
                )
            require_size_of_bundles(self.trainer, images)
            self._samples[block] = images
        return self._samples[block]


def require_size_of_bundles(trainer: Trainer, samples: Tensor) -> None:
    """Raise InputError if a reference bundle was made at another size than the samples'."""
    judges = (c for c in callbacks_of(trainer) if isinstance(c, EvaluationCallback))
    for source in (x for judge in judges for x in judge.references.values()):
        if isinstance(source, BundledImages) and source.shape != samples.shape[1:]:
            raise InputError(
                f"{source.bundle.where} holds images of (c, h, w) {tuple(source.shape)}, and the"
                f" samples are {tuple(samples.shape[1:])}: make a bundle at their size"
            )


def has_reference(trainer: Trainer, split: str) -> bool:
    """True if a set was given to a callback, or the DataModule has it."""
    try:
        return reference(trainer, split) is not None
    except InputError:
        return False


def reference(trainer: Trainer, split: str) -> Any:
    """The set named `train` or `heldout`: given to a callback, or of the DataModule."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, EvaluationCallback) and split in callback.references:
            return callback.references[split]
    find = getattr(datamodule(trainer), f"{split}_reference", None)
    if find is None:
        raise InputError(
            f"the {SPLITS[split]} set is needed, and this run's data has no {split}_reference: give"
            f" it to one of the callbacks that compare with it, as {split}=images, uint8 (n, c, h,"
            " w), or use a DataModule of novum"
        )
    return find()


class EvaluationCallback(Callback):
    """A callback that does its work in `evaluate`, after validation and in `test`.

    It fires in a run without a validation step or loader as well, when validation would.
    """

    requires: tuple[str, ...] = ()  # methods of the module
    needs: tuple[str, ...] = ()  # of train and heldout, what it compares with
    references: dict[str, Any] = {}  # those that were given to it
    fired = False  # in this run

    def _refer_to(self, train: Images | None, heldout: Images | None) -> None:
        """Keep the sets that are given: a tensor, or a source of images by row."""
        given = {"train": train, "heldout": heldout}
        self.references = {
            name: _source(name, images) for name, images in given.items() if images is not None
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            ensure_validation(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fail before training if the evaluation would."""
        if any(not callable(getattr(pl_module, method, None)) for method in self.requires):
            raise lacks(self, pl_module, " and ".join(self.requires))
        if "sample" in self.requires:
            _check_sample(pl_module)
        for split in self.needs:
            reference(trainer, split)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if never_validates(trainer):
            raise InputError(
                f"{type(self).__name__} would never be called: the training data has no end, and"
                " validation waits for the end of an epoch; give the Trainer val_check_interval=N,"
                " check_val_every_n_epoch=None and max_steps"
            )
        self.fired = False
        every, names = _evaluating(trainer)
        if not trainer.limit_val_batches and self is every[0]:
            rank_zero_info(f"limit_val_batches is 0, so these are never called: {names}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        every, names = _evaluating(trainer)
        if trainer.limit_val_batches and self is every[0] and not any(x.fired for x in every):
            rank_zero_info(
                f"{names}: nothing was evaluated, since the run ended at step"
                f" {trainer.global_step}, before the first validation: lower val_check_interval"
            )

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise NotImplementedError

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.fired = True
            self.evaluate(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluate(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wait_for_pictures()  # drawn while metrics were computed; a failed drawing is raised here

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wait_for_pictures()


def _evaluating(trainer: Trainer) -> tuple[list[EvaluationCallback], str]:
    """Callbacks of the trainer that evaluate, and their names."""
    every = [x for x in callbacks_of(trainer) if isinstance(x, EvaluationCallback)]
    return every, ", ".join(type(x).__name__ for x in every)


def _source(name: str, images: Any) -> Any:
    """A set that was given to a callback, as a source of images by row."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if isinstance(images, Tensor):
        return ImageArray(images)
    if not hasattr(images, "fingerprint"):
        raise InputError(
            f"{name} is a {type(images).__name__}: give images, uint8 (n, c, h, w), as a tensor or"
            " an array, or .train_reference() of a DataModule of novum"
        )
    return images


def names_of(listed: str | Sequence[str]) -> tuple[str, ...]:
    """Names of feature spaces, or of figures; one alone needs no list."""
    return (listed,) if isinstance(listed, str) else tuple(listed)


def _check_sample(pl_module: LightningModule) -> None:
    sample = cast(Any, pl_module).sample
    labels = {"labels": None} if getattr(pl_module, "num_classes", 0) else {}
    try:
        inspect.signature(sample).bind(1, seed=0, **labels)
    except TypeError as error:
        wanted = ", ".join(["n, *, seed=None", *(f"{name}=None" for name in labels)])
        raise InputError(
            f"{type(pl_module).__name__}.sample must take ({wanted}): {first_line(error)}"
        ) from error


def lacks(callback: Callback, pl_module: LightningModule, methods: str) -> InputError:
    """Error of a callback in a run whose module does not have the methods that it calls."""
    return InputError(
        f"{type(callback).__name__} needs a module with {methods}, which"
        f" {type(pl_module).__name__} lacks; remove it from trainer.callbacks"
    )
