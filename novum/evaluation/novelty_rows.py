"""Rows of TensorBoard's Novelty tab: the most suspicious samples, and some ordinary ones."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.evidence import Altered, lay_over, unexplained
from novum.evaluation.space import Copying, Judgement
from novum.metrics.subsets import choose_rows
from novum.report.figures import difference
from novum.report.markdown import named_pairs
from novum.report.model import Estimate, Report
from novum.report.novelty_record import (
    MOST_ROWS,
    Evaluation,
    ImageRow,
    Rows,
    write_evaluation,
)
from novum.report.pictures import WHITE, Pixels, encode, to_rgb
from novum.report.reviews import pair_of_images

FACTS = 24  # rows of facts at most
ORDINARY = 16  # rows of samples chosen at random
LARGEST = 96  # pixels of a side, as shown
INFINITE = 1e9

Images = Mapping[str, ImageSource]
RealismOf = Callable[[Sequence[int]], Mapping[int, float]]  # of samples, by their rows


class Beside(NamedTuple):
    """Images beside k samples in one feature space, as rows of their sets; -1 for none."""

    train: Tensor  # (k,)
    train_distance: list[float]
    heldout: Tensor | None = None
    heldout_distance: list[float] | None = None
    aligned: Pixels | None = None  # training images brought onto the samples
    transform: list[str] | None = None
    q: list[float] | None = None


class Named(NamedTuple):
    """A pair that a report names, by rows of its sets."""

    train: int
    fact: str | None


def write_images(
    run: Path,
    evaluation: Evaluation,
    report: Report,
    judged: Mapping[str, Judgement],
    altered: Mapping[str, Altered],
    images: Images,
    realism: RealismOf,
) -> None:
    """Write an evaluation of images below a run's folder."""
    rows, picture = image_rows(report, judged, altered, images, realism)
    write_evaluation(run, evaluation, rows, picture)


def evaluation_of(
    report: Report, step: int, unit: str, figures: Mapping[str, Estimate] | None = None
) -> Evaluation:
    """The line of the timeline; `figures` by tag, those of the report if not given."""
    own = {
        f"{group}/{metric}/{space}": estimate
        for space, group, metric, estimate in report.estimates()
    }
    named = report.passages if report.of_text else report.copies or ()
    return Evaluation(
        step,
        report.kind,
        unit,
        report.finding.value,
        report.verdict.headline,
        next(iter(report.verdict.details), ""),
        report.gate and report.gate.copy_rate,
        {tag: e for tag, e in (figures or own).items() if e.value is not None},
        len(report.facts),
        sum(getattr(copy, "is_copy", True) for copy in named),
        redacted=report.made_by is not None and report.made_by.redacted,
    )


def image_rows(
    report: Report,
    judged: Mapping[str, Judgement],
    altered: Mapping[str, Altered],
    images: Images,
    realism: RealismOf,
) -> tuple[Rows, bytes | None]:
    """Rows and their picture: facts, then by q and nearness to training, then some at random."""
    if not judged and not altered:  # of a redacted report nothing is shown
        return Rows(), None
    named = _named(report, images)
    chosen, space, ordinary = _choose(judged, altered, [r for r in named if named[r].fact], named)
    found: dict[int, tuple[ImageRow, list[Pixels]]] = {}
    for number, name in enumerate([*judged, *altered]):
        rows = chosen[space[chosen] == number]
        if len(rows):
            entries = _entries(name, torch.from_numpy(rows), judged, altered, images, named)
            found |= zip(rows.tolist(), entries, strict=True)
    ordered = [found[row] for row in chosen.tolist()]
    real = realism(chosen.tolist())
    rows = [
        replace(entry, realism=_bounded(real.get(row)), ordinary=row in ordinary)
        for row, (entry, _) in zip(chosen.tolist(), ordered, strict=True)
    ]
    cells = [_small(cell) for _, strip in ordered for cell in strip]
    height, width = cells[0].shape[:2]
    sheet = np.concatenate([np.concatenate(cells[i : i + 4], 1) for i in range(0, len(cells), 4)])
    return Rows([width, height], rows), encode(sheet)


def _named(report: Report, images: Images) -> dict[int, Named]:
    """Facts and copies of a report, by the row of the sample; facts first."""
    facts = {fact.sample: fact.kind for fact in report.facts}
    pairs = named_pairs(report)
    samples, train = (
        rows_of(images[side], {getattr(pair, of) for pair in pairs})
        for side, of in (("samples", "sample"), ("train", "train"))
    )
    return {samples[p.sample]: Named(train[p.train], facts.get(p.sample)) for p in pairs}


def rows_of(images: ImageSource, names: set[str | int]) -> dict[str | int, int]:
    """Rows of images by their names in a report."""
    return {name: row for row, name in enumerate(images.ids) if name in names} if names else {}


def _choose(
    judged: Mapping[str, Judgement],
    altered: Mapping[str, Altered],
    facts: Sequence[int],
    named: Mapping[int, Named],
) -> tuple[NDArray[np.int64], NDArray[np.int64], set[int]]:
    """Rows that are shown, the number of the space of each sample, and the ordinary rows."""
    keys = [_suspicion(found) for found in judged.values()]
    keys += [_detected(found) for found in altered.values()]
    q, ratio = (np.stack([key[i] for key in keys]) for i in (0, 1))  # (spaces, m)
    space = np.lexsort((ratio, q), axis=0)[0]
    at = np.arange(q.shape[1])
    q, ratio = q[space, at], ratio[space, at]
    unnamed = np.array([row not in named for row in at.tolist()])
    order = np.lexsort((ratio, q, unnamed))
    first = list(dict.fromkeys([*facts[:FACTS], *order.tolist()]))
    first = [row for row in first if np.isfinite(q[row])]
    suspects = first[: MOST_ROWS - ORDINARY]
    rest = torch.tensor(sorted(set(first) - set(suspects)), dtype=torch.int64)
    others = choose_rows(rest, MOST_ROWS - len(suspects)).tolist()
    return np.array([*suspects, *others], np.int64), space, set(others)


def _suspicion(found: Judgement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q (m,), and the distance to training in terms of that to held-out images."""
    near = found.neighbours
    usual = near.heldout_distance
    usual = near.train_distance.mean() if usual is None else usual
    ratio = (near.train_distance / usual.clamp_min(1e-12)).double().cpu().numpy()
    return _q(found.copying, len(ratio)), ratio


def _detected(found: Altered) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of a detector; q is infinite where it found no training image."""
    matches = found.found.matches
    ratio = torch.exp(-matches.margin * matches.side.sign()).double().cpu().numpy()
    rank, _ = found.found.best(trained=True)
    q = _q(found.copying, len(ratio))
    return np.where(rank.cpu().numpy() < 0, np.inf, q), ratio


def _q(copying: Copying | None, count: int) -> NDArray[np.float64]:
    return np.ones(count) if copying is None else copying.test.q_values.double().cpu().numpy()


def _entries(
    name: str,
    rows: Tensor,
    judged: Mapping[str, Judgement],
    altered: Mapping[str, Altered],
    images: Images,
    named: Mapping[int, Named],
) -> Iterator[tuple[ImageRow, list[Pixels]]]:
    """A row and its four pictures for each of these samples of one space."""
    beside = (
        _beside(judged[name], rows)
        if name in judged
        else _beside_detected(altered[name], rows, images)
    )
    for i, row in enumerate(rows.tolist()):
        known = named.get(row)
        nearest = int(beside.train[i])
        train = known.train if known else nearest
        own = train == nearest  # else the report names another than the nearest
        heldout = -1 if beside.heldout is None else int(beside.heldout[i])
        sample, source = images["samples"][row], images["train"][train]
        entry = ImageRow(
            images["samples"].ids[row],
            images["train"].ids[train],
            name,
            pair_of_images(sample.numpy().tobytes(), source.numpy().tobytes()),
            images["heldout"].ids[heldout] if heldout >= 0 else None,
            beside.train_distance[i] if own else None,
            beside.heldout_distance[i] if heldout >= 0 and beside.heldout_distance else None,
            beside.q[i] if beside.q else None,
            known is not None,
            known and known.fact,
            transform=beside.transform[i] if beside.transform and own else None,
        )
        aligned = beside.aligned[i] if beside.aligned is not None and own else None
        other = images["heldout"][heldout] if heldout >= 0 else None
        yield entry, _strip(sample, source, other, aligned)


def _beside(found: Judgement, rows: Tensor) -> Beside:
    near = found.neighbours
    heldout, distance = near.heldout_row, near.heldout_distance
    return Beside(
        near.train_row[rows],
        near.train_distance[rows].tolist(),
        None if heldout is None else heldout[rows],
        None if distance is None else distance[rows].tolist(),
        q=found.copying and found.copying.test.q_values[rows].tolist(),
    )


def _beside_detected(found: Altered, rows: Tensor, images: Images) -> Beside:
    detected = found.found
    rank, train = (x[rows] for x in detected.best(trained=True))
    other, heldout = (x[rows] for x in detected.best(trained=False))
    samples, sources = images["samples"][rows], images["train"][train]
    return Beside(
        train,
        unexplained(detected, rows, rank),
        heldout if "heldout" in images else None,
        unexplained(detected, rows, other),
        to_rgb(lay_over(samples, sources, detected.placed(rows, rank))),
        [detected.transform(r, int(k)) for r, k in zip(rows.tolist(), rank, strict=True)],
        found.copying and found.copying.test.q_values[rows].tolist(),
    )


def _strip(
    sample: Tensor, train: Tensor, heldout: Tensor | None, aligned: Pixels | None
) -> list[Pixels]:
    """Sample, training image, held-out image and difference, all of the sample's size."""
    first = to_rgb(sample[None])[0]
    second = _fit(to_rgb(train[None])[0], first)
    blank = np.full_like(first, WHITE)
    third = blank if heldout is None else _fit(to_rgb(heldout[None])[0], first)
    return [first, second, third, difference(first, second if aligned is None else aligned)]


def _fit(picture: Pixels, like: Pixels) -> Pixels:
    if picture.shape == like.shape:
        return picture
    size = like.shape[1], like.shape[0]
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _small(picture: Pixels) -> Pixels:
    """At most LARGEST pixels wide and high."""
    height, width = picture.shape[:2]
    share = LARGEST / max(height, width)
    if share >= 1:
        return picture
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _bounded(realism: float | None) -> float | None:
    """Realism of a copy is infinite, which JSON lacks."""
    return None if realism is None or math.isnan(realism) else min(realism, INFINITE)


def known_realism(judged: Mapping[str, Judgement]) -> RealismOf:
    """Realism in the first feature space that has it."""
    first = next((found.realism for found in judged.values() if found.realism is not None), None)
    pairs = () if first is None else zip(first.rows.tolist(), first.values.tolist(), strict=True)
    values = dict(pairs)
    return lambda rows: {row: values[row] for row in rows if row in values}
