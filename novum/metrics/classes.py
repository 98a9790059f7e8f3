"""Set metrics as torchmetrics classes, for any training loop: update, compute, reset.

`update(images, real=...)` takes uint8 images or floats in [0, 1]; with `extractor=None`, features
(n, d). Metrics of one extractor embed a batch once. Real images are updated like generated ones, or
their features come once as `reference`, which stays. In a LightningModule, log a MetricCollection
by `self.log_dict(metrics.compute())`, then `metrics.reset()`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from novum.core.errors import InputError
from novum.metrics.checks import check_features
from novum.metrics.features import as_uint8, load_extractor
from novum.metrics.features.extraction import batch_features
from novum.metrics.functional import (
    Interval,
    Moments,
    density_coverage,
    inception_score,
    kernel_distance,
    precision_recall,
    vendi_score,
)
from novum.metrics.novelty import (
    copy_rate_from_matches,
    copy_test_from_matches,
    drawn_to_training,
    find_matches,
)
from novum.metrics.novelty.nearest_matches import margin_of
from novum.metrics.record import FeatureSets
from novum.metrics.registry import measures_of

_last: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor]] = WeakKeyDictionary()


class FeatureMetric(Metric):
    """Keeps the features of real and generated images; a subclass computes.

    Args:
        extractor: Name of a feature extractor, or a module from uint8 (n, c, h, w) to (n, d) in
            evaluation mode; None if updates bring features.
        reference: Features (n, d) of the real set, all of it on every rank.
        reset_real_features: Whether `reset` forgets the real images too.
    """

    full_state_update = False
    is_differentiable = False
    plot_lower_bound = 0.0
    needs_real = True

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | None = None,
        *,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows} | kwargs)
        self.reset_real_features = reset_real_features
        # in a tuple it is not a submodule: not in checkpoints, never put in training mode
        self._extractor = (extractor,)
        _ = self.extractor  # fail early on a wrong name
        self.reference = reference
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    @property
    def extractor(self) -> nn.Module | None:
        """The module; one given by name is shared by the whole process."""
        (extractor,) = self._extractor
        return load_extractor(extractor) if isinstance(extractor, str) else extractor

    def update(self, images: Tensor, real: bool) -> None:
        """Add a batch, maybe an empty one: of images, or features (n, d) without an extractor."""
        if real and self.reference is not None:
            raise InputError("the real set came as `reference`: update with generated images only")
        if not len(images):
            return
        if self.extractor is None:
            features = check_features(images.detach()).to(self.device, copy=True)
        else:
            features = _embed(self.extractor, as_uint8(images.detach())).to(self.device)
        self._add("real" if real else "fake", features)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Update, and return the value of the batch alone, where a batch has one."""
        if self.needs_real and self.reference is None:
            raise InputError(
                f"{type(self).__name__} compares two sets, and a batch is of one: call"
                " update(images, real=...), and compute() in the end; or give `reference`"
            )
        return super().forward(*args, **kwargs)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Figure and axes with a value, or with several in their order; compute()'s by default."""
        return self._plot(val, ax)

    def reset(self) -> None:
        real = (
            self.real if isinstance(self.real, Tensor) else list(self.real)
        )  # it is cleared in place
        super().reset()
        if not self.reset_real_features:
            self.real = real
        if self.extractor is not None:
            _last.pop(self.extractor, None)  # a module may learn meanwhile

    def _add(self, name: str, features: Tensor) -> None:
        getattr(self, name).append(features)

    def _rows(self, name: str) -> Tensor:
        """Rows of `real` or `fake` seen so far."""
        rows = getattr(self, name)
        if not len(rows):
            raise InputError(
                f"{type(self).__name__} has seen no {name} images:"
                f" update(images, real={name == 'real'}) comes first"
            )
        return dim_zero_cat(rows)

    def _sets(self) -> tuple[Tensor, Tensor]:
        """Features of the real and of the generated set."""
        real = self._rows("real") if self.reference is None else self.reference.to(self.device)
        return real, self._rows("fake")

    def _value(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _values(self, found: NamedTuple) -> dict[str, Tensor]:
        return {name: self._value(value) for name, value in found._asdict().items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Self:
        """Other devices, but no other precision: half of it would be another metric."""

        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        return cast(Self, super()._apply(move, exclude_state))


class FrechetDistance(FeatureMetric):
    """Fréchet distance (FID with the extractor `inception`) from streaming float64 moments.

    `reference` may be Moments, such as `reference_moments` gives.
    """

    higher_is_better = False

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | Moments | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.reference = Moments().update(reference) if isinstance(reference, Tensor) else reference

    def compute(self) -> Tensor:
        real = _unpack(self._rows("real")) if self.reference is None else self.reference
        fake = _unpack(self._rows("fake").to(real.mean.device))
        return self._value(real.frechet_distance(fake))

    def _add(self, name: str, features: Tensor) -> None:
        seen = getattr(self, name)
        moments = _unpack(dim_zero_cat(seen)) if len(seen) else Moments()
        setattr(self, name, [_pack(moments.update(features))])


class KernelDistance(FeatureMetric):
    """Exact unbiased squared MMD with the cubic kernel (KID with the extractor `inception`)."""

    higher_is_better = False

    def compute(self) -> Tensor:
        return self._value(kernel_distance(*self._sets()))


class PrecisionRecall(FeatureMetric):
    """Shares inside the other set's k-NN manifold; use as many real as generated images."""

    higher_is_better = True

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | None = None,
        k: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, reference, **kwargs)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        return self._values(precision_recall(*self._sets(), k=self.k))


class DensityCoverage(FeatureMetric):
    """Density and coverage of real k-NN balls; use as many real as generated images."""

    higher_is_better = True

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | None = None,
        k: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, reference, **kwargs)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        return self._values(density_coverage(*self._sets(), k=self.k))


class SetMetric(FeatureMetric):
    """Any metrics that evaluate.py computes from a real and a generated set, by name."""

    def __init__(
        self,
        metrics: Sequence[str],
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, reference, **kwargs)
        self.names = tuple(metrics)
        if lacking := [m.names[0] for m in measures_of(metrics) if m.needs]:
            raise InputError(f"{lacking[0]} needs more than a real and a generated set")

    def compute(self) -> dict[str, Tensor]:
        real, fake = self._sets()
        sets = FeatureSets(real, None, fake, Moments().update(real))
        found: dict[str, Tensor] = {}
        for measure in measures_of(self.names):  # records hold functions that cannot be pickled
            assert measure.compute is not None
            for name, value in zip(measure.names, measure.compute(sets), strict=True):
                if name in self.names:
                    known = value.value if isinstance(value, Interval) else value
                    assert known is not None  # undefined values raise
                    found[name] = self._value(known)
        return found


class VendiScore(FeatureMetric):
    """Effective number of distinct generated images; needs no real ones."""

    higher_is_better = True
    needs_real = False

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        q: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.q = q

    def compute(self) -> Tensor:
        return self._value(vendi_score(self._rows("fake"), self.q))


class InceptionScore(FeatureMetric):
    """exp E KL(p(y|x) || p(y)), mean over splits; needs no real images.

    Updates bring logits if there is no extractor. What a split holds depends on the order of the
    images, so with several ranks only `splits=1` is what one process gives.
    """

    higher_is_better = True
    needs_real = False

    def __init__(
        self, extractor: str | nn.Module | None = "inception", splits: int = 10, **kwargs: Any
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.splits = splits
        if extractor is not None and not hasattr(self.extractor, "logits"):
            raise InputError(f"extractor {extractor} has no classes: use 'inception'")

    def compute(self) -> Tensor:
        fake = self._rows("fake")
        if self.extractor is not None:
            fake = cast(Any, self.extractor.to(fake.device)).logits(fake)
        return self._value(inception_score(fake, self.splits).mean)


class CopyRate(FeatureMetric):
    """Share of generated images that copy training images, with its bounds.

    `copy_rate` of `ratio`, its 95% `low` and `high`, `drawn_to_training` (95%) and the number of
    `copies_flagged` by the copy test. The real set is what the generator was trained on; `heldout`
    are features (k, d) of images like it that it never saw, all of them on every rank.
    """

    higher_is_better = False

    def __init__(
        self,
        extractor: str | nn.Module | None = "efficientnet_lite0",
        reference: Tensor | None = None,
        *,
        heldout: Tensor,
        ratio: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, reference, **kwargs)
        self.heldout, self.margin = heldout, margin_of(ratio)

    def compute(self) -> dict[str, Tensor]:
        train, fake = self._sets()
        matches = find_matches(train, self.heldout.to(train.device), fake)
        rate = copy_rate_from_matches(matches, self.margin)
        values = {"copy_rate": rate.value, "low": rate.low, "high": rate.high}
        values["drawn_to_training"] = drawn_to_training(matches)
        values["copies_flagged"] = float(copy_test_from_matches(matches).flagged.sum())
        return {name: self._value(value) for name, value in values.items()}


def gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    """Every rank's rows, as torchmetrics gathers them; a rank that has none takes part too."""
    kinds: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(kinds, (rows.shape, rows.dtype), group)
    filled = [kind for kind in kinds if kind[0].numel()]
    if not filled:
        return [rows] * len(kinds)
    if not rows.numel():
        (_, *shape), dtype = filled[0]
        rows = torch.empty(0, *shape, dtype=dtype, device=rows.device)
    return gather_all_tensors(rows, group)


def _embed(extractor: nn.Module, images: Tensor) -> Tensor:
    """Features of uint8 images; those of the last batch are kept for the next metric."""
    if any(module.training for module in extractor.modules()):
        raise InputError("the extractor is in training mode, so its features vary: call its eval()")
    seen, features = _last.get(extractor, (None, None))
    if seen is None or seen.device != images.device or not torch.equal(seen, images):
        # a clone, for inference tensors cannot leave inference mode
        features = batch_features(extractor.to(images.device), images).clone()
        _last[extractor] = images.clone(), features
    assert features is not None
    return features


def _pack(moments: Moments) -> Tensor:
    """n, mean and scatter as one float64 (d + 1, d + 1), so that ranks gather them at once."""
    packed = moments.scatter.new_empty(len(moments.mean) + 1, len(moments.mean) + 1)
    packed[0, 0], packed[0, 1:] = moments.n, moments.mean
    packed[1:, 0], packed[1:, 1:] = 0, moments.scatter
    return packed


def _unpack(packed: Tensor) -> Moments:
    """The sum of all moments in the rows of `packed`."""
    total = Moments()
    for part in packed.clone().unflatten(0, (-1, packed.shape[1])):
        moments = Moments()
        moments.n, moments.mean, moments.scatter = int(part[0, 0]), part[0, 1:], part[1:, 1:]
        total.merge(moments)
    return total
