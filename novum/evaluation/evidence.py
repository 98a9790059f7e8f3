"""The pictures, points and names that a report shows, gathered from what was judged."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.gate import LOCAL, Conclusion, SpaceMatches, gate_passed
from novum.evaluation.space import Copying, Judgement
from novum.metrics.novelty.alignment import Placed, sample_at
from novum.metrics.novelty.altered_copies import AlteredCopies
from novum.metrics.novelty.local_copies import LocalCopies
from novum.metrics.record import FeatureSets
from novum.metrics.subsets import choose_rows
from novum.report.exhibits import (
    Distributions,
    Exemplars,
    FactPair,
    Margins,
    NoveltyPanel,
    Scatter,
    exemplar_rows,
)
from novum.report.image_page import Exhibits
from novum.report.model import Copy, Estimate, Report
from novum.report.pictures import WHITE, Pixels, to_rgb
from novum.report.projector import choose_points

ALIGNMENT = "alignment"  # the space of the detector of altered copies
DETECTORS = (ALIGNMENT, LOCAL)
SHOWN = 12  # samples of a panel
GRID = 18  # samples chosen at random
FACTS = 12  # shown with their pictures

Images = dict[str, ImageSource]  # of `samples`, `train` and, if there is one, `heldout`
Known = Mapping[int | str, str]  # kind of fact, by the name of a sample


class Altered(NamedTuple):
    """Result of a detector of copies."""

    found: AlteredCopies | LocalCopies
    copying: Copying | None  # None without held-out images
    found_in: SpaceMatches


def evidence(
    report: Report, judged: dict[str, Judgement], altered: dict[str, Altered], images: Images
) -> Exhibits:
    """Exhibits of the page: single images in each feature space."""
    spaces = judged.items()
    known: Known = {fact.sample: fact.kind for fact in report.facts}
    first = [detector_panel(name, *found[:2], images, known) for name, found in altered.items()]
    return Exhibits(
        samples=to_rgb(images["samples"][choose_rows(torch.arange(len(images["samples"])), GRID)]),
        facts=fact_pairs(report, images),
        panels=first + [panel(name, found, images, known) for name, found in spaces],
        scatters=[scatter(name, found, images) for name, found in spaces if found.realism],
        distributions=[distributions(name, found) for name, found in spaces],
    )


def fact_pairs(report: Report, images: Images) -> list[FactPair]:
    """The first facts with their pictures."""
    shown = report.facts[:FACTS]
    place = {}
    for side in ("samples", "train"):
        wanted = {fact.sample if side == "samples" else fact.train for fact in shown}
        place[side] = {name: i for i, name in enumerate(images[side].ids) if name in wanted}

    def one(side: str, name: str | int) -> Any:
        row = place[side][name]
        return to_rgb(images[side][row : row + 1])[0]

    return [
        FactPair(f.kind, one("samples", f.sample), one("train", f.train), f.sample, f.train)
        for f in shown
    ]


def name_copies(
    report: Report,
    conclusion: Conclusion | None,
    judged: dict[str, Judgement],
    altered: dict[str, Altered],
    images: Images,
) -> tuple[dict[str, Judgement], dict[str, Altered]]:
    """List the copies of a report, and mark them in what was judged.

    Without a conclusion that there are copies nobody is named, in any space.
    """
    if conclusion is None or conclusion.test is None:
        return judged, altered
    report.copies = []
    test, space = conclusion.test, conclusion.combined.space
    if not gate_passed(report):
        test = test._replace(flagged=torch.zeros_like(test.flagged))
    names = [*judged, *altered]
    for row in test.flagged.nonzero()[:, 0].tolist():
        name = names[int(space[row])]
        if name in altered:
            distance = math.exp(-float(altered[name].found.evidence[row, 0]))
            transform = altered[name].found.transform(row)
        else:
            distance, transform = float(judged[name].neighbours.train_distance[row]), None
        sample, train = images["samples"].ids[row], images["train"].ids[int(test.train_rows[row])]
        q = float(test.q_values[row])
        report.copies.append(Copy(sample, train, q, distance, transform, name))
    report.copies.sort(key=lambda copy: copy.q or 0)

    def marked(number: int, name: str, copying: Copying) -> Copying:
        own = space == number
        flagged = test.flagged & own
        items = len(test.train_rows[flagged].unique())
        novelty = report.features[name].novelty
        novelty["copies_flagged"] = Estimate(int(flagged.sum()))
        novelty["items_flagged"] = Estimate(items)
        q = test.q_values.where(own, 1.0)
        least = float(copying.matches.margin[flagged].min()) if flagged.any() else math.inf
        return copying._replace(test=test._replace(flagged=flagged, q_values=q, threshold=least))

    for i, (name, found) in enumerate(judged.items()):
        if found.copying is not None:
            judged[name] = found._replace(copying=marked(i, name, found.copying))
    for i, (name, found) in enumerate(altered.items(), len(judged)):
        if found.copying is not None:
            altered[name] = found._replace(copying=marked(i, name, found.copying))
    return judged, altered


def suspects(found: Judgement, count: int = SHOWN) -> Tensor:
    """Rows of the samples most like copies: by q, then by how much nearer training is."""
    neighbours = found.neighbours
    usual = neighbours.heldout_distance
    usual = neighbours.train_distance.mean() if usual is None else usual
    order = (neighbours.train_distance / usual.clamp_min(1e-12)).argsort(stable=True)
    if found.copying is not None:
        order = order[found.copying.test.q_values[order].argsort(stable=True)]
    return order[:count]


def panel(name: str, found: Judgement, images: Images, known: Known) -> NoveltyPanel:
    rows = suspects(found)
    neighbours = found.neighbours
    shown = NoveltyPanel(
        name,
        samples=to_rgb(images["samples"][rows]),
        train=to_rgb(images["train"][neighbours.train_row[rows]]),
        train_distance=neighbours.train_distance[rows].tolist(),
        sample_names=names(images["samples"], rows),
        train_names=names(images["train"], neighbours.train_row[rows]),
        facts=[known.get(name) for name in names(images["samples"], rows)],
    )
    if found.copying is None or neighbours.heldout_row is None:
        return shown
    assert neighbours.heldout_distance is not None
    return shown._replace(
        heldout=to_rgb(images["heldout"][neighbours.heldout_row[rows]]),
        heldout_distance=neighbours.heldout_distance[rows].tolist(),
        q=found.copying.test.q_values[rows].tolist(),
        copies=found.copying.test.flagged[rows].tolist(),
    )


def scatter(name: str, found: Judgement, images: Images) -> Scatter:
    assert found.realism is not None
    rows = found.realism.rows
    novelty = found.neighbours.train_distance[rows].numpy()
    quality = found.realism.values.numpy()
    flagged = np.zeros(len(rows), bool)
    if found.copying is not None:
        flagged = found.copying.test.flagged[rows].numpy()
    exemplars = [
        Exemplars(
            title,
            picked,
            to_rgb(images["samples"][rows[torch.from_numpy(picked)]]),
            names(images["samples"], rows[torch.from_numpy(picked)]),
        )
        for title, picked in exemplar_rows(novelty, quality, flagged).items()
    ]
    return Scatter(name, novelty, quality, flagged, exemplars)


def distributions(name: str, found: Judgement) -> Distributions:
    neighbours, copying = found.neighbours, found.copying
    if copying is None or neighbours.heldout_distance is None:
        return Distributions(name, neighbours.train_distance.numpy())
    matches = copying.matches
    margins = Margins(
        matches.margin.numpy(),
        matches.side.numpy(),
        matches.train_items / max(matches.heldout_items, 1),
        copying.test.threshold,
    )
    return Distributions(
        name, neighbours.train_distance.numpy(), neighbours.heldout_distance.numpy(), margins
    )


def projector_points(
    features: FeatureSets, found: Judgement, images: Images
) -> tuple[np.ndarray, Pixels, dict[str, list]]:
    """Features, pictures and facts of some of each set, copies and what they copy among them."""
    sets = {"samples": features.fake, "train": features.train, "heldout": features.heldout}
    q = torch.ones(len(features.fake))
    first: dict[str, list[int]] = {}
    if found.copying is not None:
        test = found.copying.test
        q = test.q_values
        copied = test.flagged.nonzero()[:, 0].tolist()
        first = {"samples": copied, "train": test.train_rows[test.flagged].tolist()}
    chosen = choose_points({side: len(source) for side, source in images.items()}, first)
    rows = {side: torch.from_numpy(picked) for side, picked in chosen.items()}
    facts: dict[str, list] = {"set": [], "name": [], "q": []}
    for side, picked in rows.items():
        facts["set"] += [side] * len(picked)
        facts["name"] += names(images[side], picked)
        facts["q"] += q[picked].tolist() if side == "samples" else [""] * len(picked)
    points = torch.cat([_known(sets[side])[picked] for side, picked in rows.items()]).numpy()
    pictures = np.concatenate([to_rgb(images[side][picked]) for side, picked in rows.items()])
    return points, pictures, facts


def _known(features: Tensor | None) -> Tensor:
    assert features is not None  # a set that is there has features
    return features


def detector_panel(
    name: str,
    found: AlteredCopies | LocalCopies,
    copying: Copying | None,
    images: Images,
    known: Known,
) -> NoveltyPanel:
    """The most suspicious samples, with the training images brought onto them."""
    margin = found.matches.margin
    order = torch.where(found.matches.side > 0, -margin, torch.inf).argsort(stable=True)
    if copying is not None:
        order = order[copying.test.q_values[order].argsort(stable=True)]
    rank, train = found.best(trained=True)
    rows = order[:SHOWN]
    rows = rows[rank[rows] >= 0]
    samples, sources = images["samples"][rows], images["train"][train[rows]]
    placed = found.placed(rows, rank[rows])
    on_sample, on_train = ((1 + x.numpy()) / 2 for x in placed.outlines())
    shown = NoveltyPanel(
        name,
        samples=to_rgb(samples),
        train=to_rgb(sources),
        train_distance=unexplained(found, rows, rank[rows]),
        aligned=to_rgb(lay_over(samples, sources, placed)),
        sample_outline=on_sample,
        train_outline=on_train,
        transform=[found.transform(row, int(rank[row])) for row in rows.tolist()],
        sample_names=names(images["samples"], rows),
        train_names=names(images["train"], train[rows]),
        facts=[known.get(name) for name in names(images["samples"], rows)],
    )
    if copying is None:
        return shown
    other, heldout = found.best(trained=False)
    none = (other[rows] < 0)[:, None, None, None]  # among the ten most like it
    unseen = images["heldout"][heldout[rows].clamp(min=0)].masked_fill(none, WHITE)
    return shown._replace(
        heldout=to_rgb(unseen),
        heldout_distance=unexplained(found, rows, other[rows]),
        q=copying.test.q_values[rows].tolist(),
        copies=copying.test.flagged[rows].tolist(),
    )


def unexplained(found: AlteredCopies | LocalCopies, rows: Tensor, ranks: Tensor) -> list[float]:
    """exp(-evidence) for the item of that rank; NaN if there is none."""
    values = torch.exp(-found.evidence[rows].gather(1, ranks.clamp(min=0)[:, None]))[:, 0]
    return values.masked_fill(ranks < 0, torch.nan).tolist()


def lay_over(samples: Tensor, images: Tensor, placed: Placed) -> Tensor:
    """uint8 images (k, c, h, w) brought onto samples, in their light; outside, the samples."""
    height, width = samples.shape[-2:]
    grid, inside = placed.places(height, width)
    mirrored, inside = placed.mirrored[:, None, None, None], inside[:, None]
    own = torch.where(mirrored, samples.flip(-1), samples).float()
    there, here = sample_at(images.float(), grid, (height, width)), own.flatten(2)
    area = inside.sum(2, keepdim=True).clamp(min=1)
    mean_there, mean_here = ((x * inside).sum(2, keepdim=True) / area for x in (there, here))
    centred = (there - mean_there) * inside
    gain = (centred * (here - mean_here)).sum((1, 2)) / centred.square().sum((1, 2)).clamp(min=1)
    light = gain[:, None, None] * (there - mean_there) + mean_here
    laid = torch.where(inside > 0, light, here).view_as(own)
    laid = torch.where(mirrored, laid.flip(-1), laid)
    return laid.round().clamp(0, 255).to(torch.uint8)


def names(images: ImageSource, rows: Tensor) -> list[int | str]:
    """Names of images in a report: relative paths, or row numbers."""
    return [images.ids[row] for row in rows.tolist()]
