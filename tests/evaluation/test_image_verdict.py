"""The words of one report."""

import pytest

from novum.evaluation.image_verdict import image_verdict
from novum.report.model import (
    Control,
    Estimate,
    Fact,
    Finding,
    Identical,
    NearIdentical,
    Quality,
    Recall,
    Tone,
)
from tests.report.reports import COPIES, NO_COPIES, report

SAME = Identical(6, 400, 0, 400, 0, 600, 0, 0, 0.0, 1.0)
SHIFTED = Control(1000, 0.001, [Estimate(0.06, 0.04, 0.08)], [1.0])


def identical(**changes) -> Identical:
    return Identical(**{**vars(SAME), **changes})


def judged(facts=0, same=None, controls=None, power=(), kind="identical", **changes):
    made = report(**changes)
    made.facts = [Fact(kind, i, i) for i in range(facts)]
    if kind == "near_identical":
        made.near_identical = NearIdentical(facts, 0, 0, 0.0)
    made.identical = same
    made.negative_controls = controls or {}
    made.power = [Recall(*recall) for recall in power]
    return image_verdict(made)


def test_one_identical_sample_convicts():
    found = judged(1, SAME)
    assert found.finding is Finding.COPYING and found.tone is Tone.COPYING
    assert found.text.startswith(
        "Copying found: 1 of 1,000 samples is identical to 1 training image: 0.1% (95%: 0.0% to"
        " 0.6%). No training or held-out image equals another one"
    )
    assert "Next: look at the pairs below" in found.text


def test_identical_samples_of_data_that_repeats_itself_do_not_convict():
    same = identical(heldout=6, of_heldout=300, repeated=20, pool_pairs=26, p=0.3)
    found = judged(6, same)
    assert found.finding is Finding.NONE_FOUND
    assert "6 of 1,000 samples are identical to 6 training images" in found.text
    assert "not more than this data gives by chance: 6 of 300 held-out images are" in found.text


def test_a_nearly_identical_sample_convicts_unless_held_out_images_are_as_near():
    assert judged(1, kind="near_identical").finding is Finding.COPYING
    made = report()
    made.facts = [Fact("near_identical", 0, 0, 9.0)]
    made.near_identical = NearIdentical(1, heldout=2, pool=0, p=0.0)
    found = image_verdict(made)
    assert found.finding is Finding.NONE_FOUND
    assert "2 samples are as near to a held-out image, which cannot be a copy" in found.text


def test_nearly_identical_samples_that_near_duplicates_explain_do_not_convict():
    made = report()
    made.facts = [Fact("near_identical", 0, 0, 9.0)]
    made.near_identical = NearIdentical(1, heldout=0, pool=1, p=0.2)
    found = image_verdict(made)
    assert found.finding is Finding.NONE_FOUND
    assert "not more than near-duplicates among such images may explain (p = 0.2)" in found.text
    assert "1 training or held-out image is so near to another one." in found.text
    made.near_identical = NearIdentical(1, heldout=0, pool=0, p=1e-4)
    assert "no training or held-out image is so near" in image_verdict(made).text
    assert image_verdict(made).finding is Finding.COPYING


def test_copies_are_a_share_with_its_interval_and_what_to_do():
    found = judged(gate=COPIES)
    assert found.finding is Finding.COPYING and found.spaces == ("pixels",)
    assert found.text.startswith(
        "Copying found: 2.0% (95%: 1.2% to 3.0%) of the samples are copies; 21 are named, of 20"
        " training images. Next: look at the pairs below"
    )


def test_an_excess_without_a_name_is_leaning():
    found = judged(gate=COPIES | {"samples_named": 0})
    assert found.finding is Finding.LEANING and found.tone is Tone.DOUBTFUL


@pytest.mark.parametrize("low", [-0.01, 0.01])
def test_training_images_that_look_like_copies_leave_no_judgement(low):
    """Unless the samples show more than they."""
    found = judged(gate=COPIES | {"excess_low": low}, controls={"pixels": SHIFTED})
    assert (found.finding is Finding.CANNOT_JUDGE) == (low < 0)
    if low < 0:
        assert "by 6.0% (95%: 4.0% to 8.0%) more than chance in pixels" in found.text
        assert "make both sets with the same program" in found.next
        assert "at least" not in found.text


def test_held_out_images_that_are_training_images_leave_no_judgement():
    same = identical(
        samples=30, heldout=30, of_heldout=60, heldout_rows=100, pool_pairs=100, p=0.4, leak_p=1e-9
    )
    found = judged(30, same, heldout={"n": 200})
    assert found.finding is Finding.CANNOT_JUDGE
    assert "100 of 200 held-out images are training images" in found.text
    assert "at most" not in found.text and "30 of 1,000 samples are identical" in found.text


def test_too_few_samples_to_find_a_hundredth():
    found = judged(gate={"needed": 26})
    assert found.finding is Finding.TOO_LITTLE_EVIDENCE and found.tone is Tone.DOUBTFUL
    assert "fewer than 26 copied images would not have been seen, and 1% of the samples is 10." in (
        found.text
    )
    assert "judge 2,600 samples or more" in found.next


def test_the_bound_is_said_of_copies_that_the_detector_sees():
    """0.4% found at most, and 90% of those copies at least: 0.44%."""
    power = [("mirrored", 0.99, 0.9, 1.0), ("in a frame", 0.1, 0.0, 0.2), ("noise", 0.7, 0.6, 0.8)]
    found = judged(power=power)
    assert found.finding is Finding.NONE_FOUND and found.tone is Tone.CLEAR
    assert "at most 0.44% of the samples are copies, if they are mirrored (95%" in found.text
    assert "Would not have been seen: copies that are in a frame." in found.text
    assert "at most 0.40% of the samples are copies, if they are unaltered" in judged().text


def test_many_edits_are_counted_and_the_least_seen_sets_the_bound():
    power = [(f"edit {i}", 0.99, 0.8 + i / 100, 1.0) for i in range(5)]
    words = "at most 0.50% of the samples are copies, if they are altered in one of the 5 ways"
    assert words in judged(power=power).text
    assert "edit 0, edit 1, edit 2 or edit 3" in judged(power=power[:4]).text


def test_samples_nearer_to_held_out_images():
    found = judged(share={"value": 0.35, "low": 0.3, "high": 0.4})
    assert found.finding is Finding.CANNOT_JUDGE
    assert "35.0% (95%: 30.0% to 40.0%) in pixels" in found.text


def test_without_held_out_images_facts_alone_are_judged():
    found = judged(heldout=None)
    assert found.finding is Finding.CANNOT_JUDGE
    assert found.text.startswith("Copying was not judged: without held-out images")
    assert "No sample is identical to a training image" in found.text
    known = judged(2, identical(heldout=None, of_heldout=None, p=0.5), heldout=None)
    assert not known.copying and "2 of 1,000 samples are identical" in known.text
    assert "No sample is identical" not in known.text
    assert judged(2, identical(heldout=None, of_heldout=None), heldout=None).copying


def test_nothing_measured_is_no_clean_bill():
    assert judged(features={}).finding is Finding.CANNOT_JUDGE


@pytest.mark.parametrize(
    ("figures", "finding"),
    [
        ({"precision": 0.9, "recall": 0.8, "coverage": 0.9, "frechet_distance": 2}, Quality.GOOD),
        ({"precision": 0.9, "recall": 0.8, "coverage": 0.9, "frechet_distance": 9}, Quality.FAIR),
        ({"precision": 0.9, "recall": 0.5, "coverage": 0.9, "frechet_distance": 2}, Quality.FAIR),
        ({"precision": 1.0, "recall": 0.0, "coverage": 0.0, "frechet_distance": 2}, Quality.POOR),
        ({"frechet_distance": 2}, Quality.UNKNOWN),
    ],
)
def test_quality_is_held_against_what_held_out_images_reach(figures, finding):
    made = report()
    floor = {"precision": 0.9, "recall": 0.9, "coverage": 0.95, "frechet_distance": 1}
    made.features["pixels"].quality = {n: Estimate(v) for n, v in figures.items()}
    made.features["pixels"].floor = {n: Estimate(v) for n, v in floor.items()}
    found = image_verdict(made)
    assert found.quality_finding is finding
    assert "Fréchet distance" in found.quality and "(held-out images: 1)" in found.quality


def test_poor_samples_leave_no_green_light():
    made = report()
    made.features["pixels"].quality = {"recall": Estimate(0.0)}
    made.features["pixels"].floor = {"recall": Estimate(0.9)}
    found = image_verdict(made)
    assert found.finding is Finding.NONE_FOUND and found.tone is Tone.DOUBTFUL


def test_too_few_samples_for_any_quality():
    made = report()
    made.features["pixels"].quality = {"frechet_distance": Estimate(None)}
    assert image_verdict(made).text.endswith("Quality was not judged: these are too few samples.")


@pytest.mark.parametrize(("duplicates", "tone"), [(382, Tone.DOUBTFUL), (12, Tone.CLEAR)])
def test_many_near_duplicates_make_a_clean_verdict_doubtful(duplicates, tone):
    heldout = {"n": 400, "near_duplicates": duplicates, "searched": 400}
    made = report(heldout=heldout, gate=NO_COPIES).verdict
    assert made.finding is Finding.NONE_FOUND and made.tone is tone
    assert f"{duplicates} of 400 held-out images" in made.caveats[0]
