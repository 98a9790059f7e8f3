"""Reports of one feature space, as contents of report.json and as data."""

from dataclasses import replace
from typing import Any

from novum.evaluation.image_verdict import image_verdict
from novum.report.model import Estimate, Gate, Report
from novum.report.schema import parse

FAIR = {"value": 0.5, "low": 0.45, "high": 0.55}
NONE = {"value": 0.0, "low": 0.0, "high": 0.004}
SOME = {"value": 0.02, "low": 0.012, "high": 0.03}


NO_COPIES = {
    "p": 0.5,
    "excess_low": -0.01,
    "copy_rate": Estimate(0.0, 0.0, 0.004),
    "samples_named": 0,
    "items_named": 0,
    "needed": 9,
    "spaces": ["pixels"],
}
COPIES = {
    "p": 0.0001,
    "excess_low": 0.01,
    "copy_rate": Estimate(0.02, 0.012, 0.03),
    "samples_named": 21,
    "items_named": 20,
}


def contents(rate=NONE, flagged=0, p=0.5, share=FAIR, **changes) -> dict[str, Any]:
    """Schema 1, with no verdict yet."""
    space = {
        "quality": {
            "frechet_distance": {"value": 12.345},
            "kernel_distance": {"value": 0.1, "low": 0.05, "high": 0.15},
            "precision": {"value": 0.5},
            "density": {"value": None},
        },
        "novelty": {
            "copy_rate": rate,
            "drawn_to_training": rate["low"],
            "copies_flagged": flagged,
            "permutation_p": p,
            "closer_to_train": share,
            "authenticity": 0.6,
            "data_copying_ct": None,
        },
    }
    sides = {
        side: {"path": f"{side}/path", "n": 1000, "shape": [1, 8, 8], "fingerprint": side}
        for side in ("samples", "train", "heldout")
    }
    return {"schema": 1, "verdict": "", **sides, "features": {"pixels": space}, **changes}


def report(**changes) -> Report:
    """The same as data, with its verdict."""
    gate = changes.pop("gate", {})
    found = parse(contents(**changes))
    if found.heldout is not None and found.features:
        found.gate = Gate(**NO_COPIES | gate)
    found.verdict = image_verdict(found)
    return found


def with_headline(found: Report, headline: str) -> Report:
    return replace(found, verdict=replace(found.verdict, headline=headline))
