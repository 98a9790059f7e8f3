"""Records of metrics, and the sets that they are computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from novum.core.cache import kept
from novum.core.memory import free_device_bytes

if TYPE_CHECKING:
    from novum.metrics.functional.frechet import Moments
    from novum.metrics.functional.intervals import Interval


T = TypeVar("T")
SCHEMA = 1  # raise it whenever the same key would mean other numbers


class Keep(Protocol):
    """Source of an array (n, columns) that depends on references alone: known, or computed."""

    def __call__(
        self, name: str, compute: Callable[[], NDArray], columns: int, dtype: DTypeLike = ..., /
    ) -> NDArray: ...


def compute_again(
    name: str, compute: Callable[[], NDArray], columns: int, dtype: DTypeLike = float, /
) -> NDArray:
    """`Keep` of references without a name."""
    return compute()


class FeatureSets(NamedTuple):
    """Features (n, d) of three sets in one space, all on one device."""

    train: Tensor
    heldout: Tensor | None
    fake: Tensor
    moments: "Moments | None" = None  # of train; None if the space is too wide for a covariance
    near: Tensor | None = None  # `neighbour_distances` of the training rows of `equal_sizes`
    logits: Tensor | None = None  # (n, classes) of fake, for the Inception score
    seed: int = 0  # of the random choices that metrics make
    # distance to and row of the training row nearest to each of fake, (n,) each
    nearest: tuple[Tensor, Tensor] | None = None
    # names train and held-out features, as JSON has it: what depends on them alone is cached
    references: tuple[str | int, ...] = ()
    shared: dict[str, Any] | None = None  # what several measures of these sets need

    @property
    def keep(self) -> Keep:
        """Source of arrays that depend on references and seed, the cache if they have a name.

        Each rank reads and writes it for itself.
        """
        return partial(_kept, (*self.references, self.seed)) if self.references else compute_again

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return what several measures need, computed by the first of them where sets share it."""
        if self.shared is None:
            return compute()
        if name not in self.shared:
            self.shared[name] = compute()
        return self.shared[name]

    def to(self, device: torch.device) -> "FeatureSets":
        """The sets on a device; as they are if they would take more than half of its free memory.

        Metrics need as much again.
        """
        tensors = (self.train, self.heldout, self.fake, self.near, self.logits)
        size = sum(x.numel() * x.element_size() for x in tensors if x is not None)
        if device.type == "cpu" or size > free_device_bytes(device) / 2:
            return self
        train, heldout, fake, near, logits = (x if x is None else x.to(device) for x in tensors)
        assert train is not None and fake is not None
        moments = None if self.moments is None else self.moments.to(device)
        return self._replace(
            train=train, heldout=heldout, fake=fake, moments=moments, near=near, logits=logits
        )


def _kept(
    key: tuple[str | int, ...],
    name: str,
    compute: Callable[[], NDArray],
    columns: int,
    dtype: DTypeLike = float,
    /,
) -> NDArray:
    return kept([SCHEMA, *key, name], compute, columns, dtype)


Values = tuple["float | Interval | None", ...]


@dataclass(frozen=True)
class Metric:
    """One figure: how it is named, what it means and which way is better.

    Args:
        name: Key in report.json and in TensorBoard tags.
        title: Name for people.
        meaning: One or two sentences that explain it.
        group: Part of a report that it belongs to.
        better: Which way is better, in words.
        direction: Which way is better when two reports are compared; None if neither is.
        unit: Shares are shown in per cent.
    """

    name: str
    title: str
    meaning: str = ""
    group: Literal["quality", "novelty"] = "quality"
    better: str = ""
    direction: Literal["higher", "lower"] | None = None
    unit: Literal["", "share", "count", "characters", "p-value"] = ""

    @property
    def share(self) -> bool:
        return self.unit == "share"


@dataclass(frozen=True)
class Measure:
    """Metrics that are computed together, or elsewhere if there is no function.

    A module of `novum.metrics.functional` or `novum.metrics.novelty` lists its own as `MEASURES`,
    all that a new metric needs.

    Args:
        metrics: In the order of the values.
        compute: Values of the metrics from features. Raises NotComputable if they are not defined
            for these sets; any other error is a bug.
        at_least: Samples, and training images, that it needs.
        needs: What it cannot do without.
        position: Place in tables, ascending.
    """

    metrics: tuple[Metric, ...]
    compute: Callable[[FeatureSets], Values] | None = None
    at_least: int = 1
    needs: Literal["heldout", "logits"] | None = None
    position: int = 100

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self.metrics)
