"""All metrics by name. A metric is listed where its function stands, as part of `MEASURES`."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

from novum.core.errors import InputError
from novum.metrics import functional, novelty
from novum.metrics.record import FeatureSets, Measure, Metric


@cache
def measures() -> tuple[Measure, ...]:
    """Every measure of the modules below `functional` and `novelty`, in the order of tables."""
    found: list[Measure] = []
    for package in (functional, novelty):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            found += getattr(importlib.import_module(module.name), "MEASURES", ())
    return tuple(sorted(found, key=lambda measure: measure.position))


@cache
def metrics() -> dict[str, Metric]:
    """Every metric by its name."""
    return {metric.name: metric for measure in measures() for metric in measure.metrics}


def describe(name: str) -> Metric:
    """Return the record of a metric; one that is unknown goes by its own name."""
    return metrics().get(name) or Metric(name, name.replace("_", " ").capitalize())


def measures_of(names: Iterable[str]) -> list[Measure]:
    """Measures that compute these metrics, each once.

    Raises:
        InputError: If a metric is unknown, or is not computed from features.
    """
    found: dict[tuple[str, ...], Measure] = {}
    for name in names:
        by_name = {n: m for m in measures() if m.compute for n in m.names}
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"no metric {name!r}: {hint}there are {', '.join(by_name)}")
        found[by_name[name].names] = by_name[name]
    return list(found.values())


def computable(sets: FeatureSets) -> list[Measure]:
    """Measures that can be computed from these sets, if they are large enough."""
    return [
        measure
        for measure in measures()
        if measure.compute and (not measure.needs or getattr(sets, measure.needs) is not None)
    ]
