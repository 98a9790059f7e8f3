"""The pictures, points and names that a report shows, gathered from what was judged."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from novum.datamodules.sources import ImageSource
from novum.metrics.judging import Features, Judgement
from novum.report.evidence import (
    Distributions,
    Exemplars,
    Margins,
    NoveltyPanel,
    Scatter,
    exemplar_rows,
)
from novum.report.html import Evidence
from novum.report.pictures import Pixels, to_rgb
from novum.report.projector import choose_rows

SHOWN = 12  # samples of a panel

Images = dict[str, ImageSource]  # of `samples`, `train` and, if there is one, `heldout`


def evidence(judged: dict[str, Judgement], images: Images) -> Evidence:
    """What the page shows of single images, in each feature space."""
    spaces = judged.items()
    return Evidence(
        panels=[panel(name, found, images) for name, found in spaces],
        scatters=[scatter(name, found, images) for name, found in spaces if found.realism],
        distributions=[distributions(name, found) for name, found in spaces],
    )


def copies(judged: dict[str, Judgement], images: Images) -> list[dict[str, Any]]:
    """The samples named as copies, each once, by the space that is surest of it."""
    named: dict[int, dict[str, Any]] = {}
    for name, found in judged.items():
        if found.copying is None:
            continue
        test = found.copying.test
        for row in test.flagged.nonzero()[:, 0].tolist():
            copy = {
                "sample": images["samples"].ids[row],
                "train": images["train"].ids[int(test.train_rows[row])],
                "q": float(test.q_values[row]),
                "distance": float(found.neighbours.train_distance[row]),
                "features": name,
            }
            named[row] = min(named.get(row, copy), copy, key=lambda c: c["q"])
    return sorted(named.values(), key=lambda c: c["q"])


def suspects(found: Judgement, count: int = SHOWN) -> Tensor:
    """Rows of the samples most like copies: by q, then by how much nearer training is."""
    neighbours = found.neighbours
    usual = neighbours.heldout_distance
    usual = neighbours.train_distance.mean() if usual is None else usual
    order = (neighbours.train_distance / usual.clamp_min(1e-12)).argsort(stable=True)
    if found.copying is not None:
        order = order[found.copying.test.q_values[order].argsort(stable=True)]
    return order[:count]


def panel(name: str, found: Judgement, images: Images) -> NoveltyPanel:
    rows = suspects(found)
    neighbours = found.neighbours
    shown = NoveltyPanel(
        name,
        samples=to_rgb(images["samples"][rows]),
        train=to_rgb(images["train"][neighbours.train_row[rows]]),
        train_distance=neighbours.train_distance[rows].tolist(),
        sample_names=names(images["samples"], rows),
        train_names=names(images["train"], neighbours.train_row[rows]),
    )
    if found.copying is None:
        return shown
    return shown._replace(
        heldout=to_rgb(images["heldout"][neighbours.heldout_row[rows]]),
        heldout_distance=neighbours.heldout_distance[rows].tolist(),
        q=found.copying.test.q_values[rows].tolist(),
        copies=found.copying.test.flagged[rows].tolist(),
    )


def scatter(name: str, found: Judgement, images: Images) -> Scatter:
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
    if copying is None:
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
    features: Features, found: Judgement, images: Images
) -> tuple[np.ndarray, Pixels, dict[str, list]]:
    """Features, pictures and facts of some of each set, copies and what they copy among them."""
    sets = {"samples": features.fake, "train": features.train, "heldout": features.heldout}
    q, first = torch.ones(len(features.fake)), {}
    if found.copying is not None:
        test = found.copying.test
        q = test.q_values
        first = {"samples": test.flagged.nonzero()[:, 0], "train": test.train_rows[test.flagged]}
    chosen = choose_rows({side: len(source) for side, source in images.items()}, first)
    rows = {side: torch.from_numpy(picked) for side, picked in chosen.items()}
    facts: dict[str, list] = {"set": [], "name": [], "q": []}
    for side, picked in rows.items():
        facts["set"] += [side] * len(picked)
        facts["name"] += names(images[side], picked)
        facts["q"] += q[picked].tolist() if side == "samples" else [""] * len(picked)
    points = torch.cat([sets[side][picked] for side, picked in rows.items()]).numpy()
    pictures = np.concatenate([to_rgb(images[side][picked]) for side, picked in rows.items()])
    return points, pictures, facts


def names(images: ImageSource, rows: Tensor) -> list[int | str]:
    """How a report calls these images: relative paths, or row numbers."""
    return [images.ids[row] for row in rows.tolist()]
