"""The words, the table and the scalars of one report."""

import io

import pytest
from rich.console import Console

from novum.report.evaluation import metric_table, scalars, spaces_with_copying, verdict


def report(low: float = 0.45, high: float = 0.55, **changes) -> dict:
    share = {"value": (low + high) / 2, "low": low, "high": high}
    space = {
        "quality": {
            "frechet_distance": {"value": 12.345},
            "kernel_distance": {"value": 0.1, "low": 0.05, "high": 0.15},
            "precision": {"value": 0.5},
            "density": {"value": None},
        },
        "novelty": {"closer_to_train": share, "authenticity": 0.6, "data_copying_ct": None},
    }
    sides = {side: {"n": 1000} for side in ("samples", "train", "heldout")}
    return {"schema": 1, **sides, "features": {"pixels": space}, **changes}


def test_scalars_carry_the_tags_of_a_run():
    assert scalars(report()) == {
        "quality/frechet_distance/pixels": 12.345,
        "quality/kernel_distance/pixels": 0.1,
        "quality/kernel_distance_low/pixels": 0.05,
        "quality/kernel_distance_high/pixels": 0.15,
        "quality/precision/pixels": 0.5,
        "novelty/closer_to_train/pixels": 0.5,
        "novelty/closer_to_train_low/pixels": 0.45,
        "novelty/closer_to_train_high/pixels": 0.55,
        "novelty/authenticity/pixels": 0.6,
    }


@pytest.mark.parametrize(
    ("low", "high", "opening", "copied"),
    [
        (0.45, 0.55, "No sign of copying: 50.0% in pixels (95%: 45.0% to 55.0%)", []),
        (0.52, 0.60, "Copying found: 56.0% in pixels", ["pixels"]),
        (0.30, 0.40, "Doubtful held-out images: 35.0% in pixels", []),
    ],
)
def test_verdict_opens_with_the_finding(low, high, opening, copied):
    found = report(low, high)
    assert verdict(found).startswith(opening)
    assert spaces_with_copying(found) == copied
    assert verdict(found).endswith("in pixels: Fréchet distance 12.35, precision 50%.")


def test_verdict_says_what_would_not_show():
    assert "fewer than about 10% of the samples" in verdict(report(0.45, 0.55))
    assert "fewer than about 0.8% of the samples" in verdict(report(0.496, 0.504))


def test_a_small_heldout_set_hides_more():
    """A copy of one training image shows in one fold of four alone."""
    found = report(0.496, 0.504)
    found["train"]["n"] = 4 * found["heldout"]["n"]
    assert "fewer than about 3% of the samples" in verdict(found)


def test_verdict_without_heldout_images():
    found = report(heldout=None)
    del found["features"]["pixels"]["novelty"]["closer_to_train"]
    assert "Copying was not judged" in verdict(found)
    assert "uncalibrated: 60% in pixels" in verdict(found)


def test_table_shows_intervals_and_gaps():
    console = Console(file=io.StringIO(), width=110)
    console.print(metric_table(report()))
    text = console.file.getvalue()
    assert "1,000 samples, 1,000 training and 1,000 held-out images" in text
    assert "0.1 (0.05 to 0.15)" in text
    assert "density" in text and " - " in text
