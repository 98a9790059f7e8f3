"""The words of one report."""

import pytest

from novum.evaluation.image_verdict import image_verdict, spaces_with_copying
from novum.report.model import Estimate, Finding, Tone
from tests.report.reports import SOME, report


def verdict(found) -> str:
    return found.verdict.text


@pytest.mark.parametrize(
    ("found", "opening", "copied"),
    [
        ({}, "No copying found in 1,000 samples: copy rate 0.00% (95% bound 0.40%) in pix", []),
        (
            {"rate": SOME, "flagged": 21, "p": 0.001},
            "Copying found: 21 of 1,000 samples are named as copies in pixels, at least 1.20%"
            " of all are copies (95% confidence).",
            ["pixels"],
        ),
        ({"rate": SOME, "p": 0.004}, "Copying found: in pixels at least 1.20% of all", ["pixels"]),
        ({"rate": SOME, "p": 0.02}, "No copying found", []),
        ({"p": 0.001}, "Samples lean on training data: they favour training over held-out", []),
        (
            {"share": {"value": 0.35, "low": 0.3, "high": 0.4}},
            "Doubtful held-out images: 35.0% in pixels",
            [],
        ),
    ],
)
def test_verdict_opens_with_the_finding(found, opening, copied):
    made = report(**found)
    assert verdict(made).startswith(opening)
    assert list(spaces_with_copying(made)) == copied == list(made.verdict.spaces)
    assert made.verdict.copying == bool(copied)
    assert verdict(made).endswith("in pixels: Fréchet distance 12.35, precision 50%.")


def test_several_spaces_share_the_chance_of_error():
    made = report(p=0.006)
    assert made.verdict.finding is Finding.LEANING
    made.features["other"] = report().features["pixels"]
    assert image_verdict(made).finding is Finding.NONE_FOUND


def test_no_copying_says_what_would_have_been_found():
    power = [
        {"attack": "mirrored", "recall": 0.99, "low": 0.9, "high": 1.0},
        {"attack": "cropped to 75%", "recall": 0.93, "low": 0.9, "high": 1.0},
        {"attack": "noise 24", "recall": 0.5, "low": 0.4, "high": 0.6},
    ]
    told = "the detector would have found 99% (mirrored) and 93% (cropped to 75%)."
    assert told in verdict(report(power=power))
    assert told not in verdict(report(flagged=3, power=power))


def test_doubts_about_heldout_images_are_told_whatever_was_found():
    heldout = {"n": 1000, "exchangeability_p": 0.001, "near_duplicates": 12, "searched": 500}
    for made in (report(heldout=heldout), report(flagged=5, heldout=heldout)):
        assert "Held-out images differ in kind from training images (p = 0.001)" in verdict(made)
        assert "12 of 500 held-out images looked at are near-duplicates" in verdict(made)
    assert "differ" not in verdict(report(heldout={"n": 10, "exchangeability_p": 0.2}))


def test_verdict_without_heldout_images():
    made = report(heldout=None)
    assert made.verdict.finding is Finding.CANNOT_JUDGE
    assert verdict(made).startswith("Copying was not judged")
    assert "uncalibrated: 60% in pixels" in verdict(made)


def test_too_few_samples_for_any_quality():
    made = report()
    made.features["pixels"].quality = {"frechet_distance": Estimate(None)}
    assert image_verdict(made).text.endswith("Quality was not judged: 1000 samples are too few.")


def test_a_training_run_knows_no_number_of_samples():
    made = report(rate=SOME, flagged=21.0, p=0.001, samples={"images_seen": 5})
    assert verdict(made).startswith("Copying found: 21 samples are named as copies in pixels, at")
    assert spaces_with_copying(made) == ("pixels",)


def test_nothing_measured_is_no_clean_bill():
    made = report()
    made.features["pixels"].novelty = {}
    assert image_verdict(made).text.startswith("Copying was not judged. Quality")
    assert verdict(report(features={})) == "Copying was not judged."


@pytest.mark.parametrize(("duplicates", "tone"), [(382, Tone.DOUBTFUL), (12, Tone.CLEAR)])
def test_many_near_duplicates_make_a_clean_verdict_doubtful(duplicates, tone):
    heldout = {"n": 400, "near_duplicates": duplicates, "searched": 400}
    made = report(heldout=heldout).verdict
    assert made.finding is Finding.NONE_FOUND and made.tone is tone
    assert f"{duplicates} of 400 held-out images" in made.caveats[0]
