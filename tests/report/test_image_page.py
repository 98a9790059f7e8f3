"""The page: what was measured stands on it, and nothing on it can run or load."""

from dataclasses import replace

import numpy as np
import pytest

from novum.evaluation.image_verdict import image_verdict
from novum.metrics.registry import metrics
from novum.report.exhibits import Distributions, FactPair, Margins, NoveltyPanel, Scatter
from novum.report.image_page import Exhibits, page
from novum.report.model import (
    Control,
    Copy,
    Estimate,
    Fact,
    NearIdentical,
    Recall,
    Report,
    SetAudit,
    SetSummary,
)
from novum.report.schema import dump, parse
from tests.report.pages import CLAIM, JARGON, check_against_verdict, first_screen, read
from tests.report.reports import COPIES, report, with_headline

UNRATED = "Quality is not rated"
CLEAR = "No copying found in 1,000 samples"
BODEN = "Novelty, value and typicality in pixels"
HOSTILE = "<script>alert(1)</script>.png\"' onerror=x &amp; \udcff\x00\u202e"


def images(k: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (k, size, size, 3), dtype=np.uint8)


def margins(m: int) -> Margins:
    return Margins(np.linspace(0, 1, m), np.arange(m) % 3 - 1)


def panel(**changes) -> NoveltyPanel:
    full = NoveltyPanel(
        "pixels",
        images(3),
        images(3),
        [1.0, 2.0, 3.0],
        images(3),
        [4.0, 4.0, 4.0],
        images(3),
        [0.5, 0.01, None],
        [False, True, False],
        [None, "mirrored", None],
        ["a.png", "b.png", "c.png"],
        [7, 8, 9],
    )
    return full._replace(**changes)


def test_verdict_first_then_figures():
    found = read(page(report()))
    assert found.sections == [CLEAR, UNRATED, "Quality", "Novelty", BODEN, "Settings and cost"]
    assert "Fréchet distance 12.35" in found.text  # of the verdict
    assert "0.1" in found.text and "0.05 to 0.15" in found.text  # kernel distance
    assert "45.0% to 55.0%" in found.text  # closer to training
    assert "1,000 held-out images" in found.text


def test_all_parts_are_there_when_all_was_measured():
    everything = report(
        copies=[{"sample": "a.png", "train": 8, "q": 0.01, "distance": 0.5, "transform": "none"}],
        power=[{"attack": "mirrored", "recall": 0.875, "low": 0.8, "high": 0.9}],
        notes=["read at 8 px"],
        cost={"seconds": 75.0, "peak_rss_bytes": 2**30, "images_per_second": 560.4},
    )
    everything.audit = {"samples": SetAudit(9, sizes={"8 x 8": 9}, left_out={"no images": 2})}
    everything.facts = [Fact("near_identical", "a.png", 8, 9.0)]
    everything.negative_controls = {"pixels": Control(100, 0.3, [Estimate(0.0, -0.01, 0.01)], [1])}
    everything.features["pixels"].extractor = "pixels/native/float32"
    rng = np.random.default_rng(0)
    exhibits = Exhibits(
        images(4),
        [FactPair("near_identical", images(1)[0], images(1)[0], "a.png", 8)],
        [panel()],
        [Scatter("pixels", rng.random(50), rng.random(50), np.arange(50) < 5)],
        [Distributions("pixels", rng.random(50), rng.random(50), margins(50))],
    )
    found = read(page(everything, exhibits))
    assert found.sections == [
        CLEAR,
        UNRATED,
        "Facts",
        "Samples",
        "Quality",
        "Novelty",
        BODEN,
        "Nearest neighbours in pixels",
        "Copies",
        "Review",
        "Quality against novelty in pixels",
        "Power of the copy test",
        "Negative control",
        "Distances",
        "What was read",
        "Notes",
        "Settings and cost",
    ]
    for told in ("87.5%", "80.0% to 90.0%", "1 min 15 s", "1,024 MiB", "560 images/s"):
        assert told in found.text
    assert "pixels/native/float32" in found.text


def test_a_part_that_is_missing_is_no_mistake():
    read(page(Report()))
    read(page(report(notes=["x"], copies=[], power=[], heldout=None)))
    read(page(replace(report(), samples=SetSummary(), train=SetSummary())))


def test_copies_not_searched_for_is_not_no_copies():
    assert "Copies" not in read(page(report())).sections
    assert "The test names no sample" in read(page(report(copies=[]))).text


def test_copies_are_listed_surest_first_and_counted():
    copies = [{"sample": i, "train": 10_000 + i, "q": 1 - i / 100} for i in range(50)]
    found = read(page(report(copies=copies))).text
    assert "50 named" in found and "30 more are in report.json" in found
    assert "10049" in found and "10000" not in found


def test_unknown_metrics_appear_and_unknown_values_are_dashes():
    found = report()
    space = found.features["pixels"]
    space.novelty |= {"surprise_index": Estimate(0.25), "copy_rate": Estimate(0.1, low=0.05)}
    space.quality["recall"] = Estimate(float("nan"))
    text = read(page(found)).text
    assert "Surprise index" in text and "0.25" in text
    assert "at least 5.0%" in text
    assert text.count("–") == 4  # density, recall, data_copying_ct; typicality


def test_names_from_outside_are_only_text():
    found = with_headline(report(notes=[HOSTILE]), HOSTILE)
    found.copies = [Copy(HOSTILE, HOSTILE, None, transform=HOSTILE, features=HOSTILE)]
    found.power = [Recall(HOSTILE, None)]
    found.samples = SetSummary(HOSTILE, fingerprint=HOSTILE)
    space = found.features.pop("pixels")
    found.features[HOSTILE] = replace(space, extractor=HOSTILE, quality={HOSTILE: Estimate(1)})
    shown = panel(space=HOSTILE, transform=[HOSTILE] * 3, sample_names=[HOSTILE] * 3)
    m = np.zeros(3)
    dots = Scatter(HOSTILE, m, m, m > 0, (), HOSTILE, HOSTILE)
    pair = FactPair("identical", images(1)[0], images(1)[0], HOSTILE, HOSTILE)
    distances = [Distributions(HOSTILE, m, m, margins(3))]
    html = page(found, Exhibits(images(2), [pair], [shown], [dots], distances))
    text = read(html).text
    assert text.count("<script>alert(1)</script>.png\"' onerror=x &amp; \\udcff\\x00\\u202e") > 10
    assert "\x00" not in html and "\u202e" not in html


@pytest.mark.parametrize(
    ("changes", "colour"),
    [
        ({}, "clear"),
        ({"gate": COPIES}, "copying"),
        ({"gate": COPIES | {"samples_named": 0}}, "doubtful"),
        ({"gate": {"needed": 50}}, "doubtful"),
        ({"heldout": {"n": 10, "near_duplicates": 5, "searched": 10}}, "doubtful"),
        ({"share": {"value": 0.35, "low": 0.3, "high": 0.4}}, "unjudged"),
        ({"heldout": None}, "unjudged"),
    ],
)
def test_colour_follows_the_verdict(changes, colour):
    found = report(**changes)
    assert found.verdict.tone == colour
    assert f"banner {colour}" in [a.get("class") for a in read(page(found)).all("div")]


def test_without_heldout_images_nothing_is_called_fair():
    found = report(heldout=None)
    del found.features["pixels"].novelty["closer_to_train"]
    text = read(page(found)).text
    assert "nothing here is calibrated" in text and "fair coin" not in text


def test_report_of_a_training_run_shows_its_curves():
    history = [
        {
            "images_seen": 1000 * i,
            "quality/frechet_distance/pixels": 100.0 / i,
            "novelty/closer_to_train_low/pixels": 0.4,
            "health/diversity": 1.0,
        }
        for i in (1, 2, 3)
    ]
    novelty = {"closer_to_train": {"value": 0.5, "low": 0.4, "high": 0.6}}
    run = {
        "schema": 1,
        "verdict": "No copying found: copy rate 0.00% (95% bound 0.40%) in pixels.",
        "samples": {"images_seen": 3000},
        "features": {"pixels": {"quality": {}, "novelty": novelty}},
        "history": history,
    }
    found = read(page(parse(run)))
    assert found.sections[0] == "No copying found" and "During training" in found.sections
    assert "40.0% to 60.0%" in found.text
    assert len(found.all("polyline")) == 1


QUESTIONS = {  # what somebody who has read no documentation must learn from the first screen
    "Does it copy?": ("Copying found", "No copying found in 1,000 samples"),
    "How much, and how sure is that?": (
        "2.0% (95%: 1.2% to 3.0%)",
        "most 0.40% of the samples are copies",
    ),
    "What do I do now?": ("look at the pairs below, then train with more data", "nothing, as far"),
    "Is it good?": ("Quality is poor", "Quality is good"),
}


@pytest.mark.parametrize("copied", [True, False])
def test_the_first_screen_answers_without_documentation(copied):
    made = report(gate=COPIES if copied else {})
    space = made.features["pixels"]
    floors = {"precision": 0.9, "recall": 0.9, "coverage": 0.9}
    space.floor = {name: Estimate(value) for name, value in floors.items()}
    space.quality = {name: Estimate(0.1 if copied else 0.89) for name in floors}
    made.verdict = image_verdict(made)
    screen = first_screen(page(made))
    for question, (if_copied, if_not) in QUESTIONS.items():
        assert (if_copied if copied else if_not) in screen, question
    assert not [word for word in JARGON if word in screen]


BESIDE = {"value": 0.58, "low": 0.53, "high": 0.63}  # nearer to training than chance


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"gate": COPIES}, "copying"),
        ({"gate": COPIES | {"samples_named": 0}}, "leaning"),
        ({}, "none_found"),
        ({"gate": {"needed": 50}}, "too_little_evidence"),
        ({"share": {"value": 0.35, "low": 0.3, "high": 0.4}}, "cannot_judge"),
        ({"heldout": None}, "cannot_judge"),
    ],
)
def test_nothing_on_the_page_contradicts_the_verdict(changes, finding):
    copied = finding == "copying"
    copies = [{"sample": "a.png", "train": 8, "q": 0.01, "distance": 0.5}] if copied else []
    made = report(**{"share": BESIDE, "copies": copies, **changes})
    if made.heldout is None:
        made.copies = None
    else:
        made.features["pixels"].floor = {"precision": Estimate(0.5)}
    made.facts = [Fact("near_identical", "c.png", 9, 9.0)]
    made.near_identical = NearIdentical(1, heldout=2, pool=0, p=0.0)
    made.negative_controls = {"pixels": Control(100, 0.3, [Estimate(0.0, -0.01, 0.01)], [1])}
    made.power = [Recall("mirrored", 0.9, 0.8, 1.0)]
    made.verdict = image_verdict(made)
    m = np.linspace(0, 1, 50)
    exhibits = Exhibits(
        images(4),
        [FactPair("near_identical", images(1)[0], images(1)[0], "c.png", 9)],
        [panel(copies=[False, copied, False], facts=[None, None, "near_identical"])],
        [Scatter("pixels", m, m, (np.arange(50) < 5) & copied)],
        [Distributions("pixels", m, m, margins(50)._replace(threshold=0.5))],
    )
    content = dump(made)
    assert content["finding"] == finding
    check_against_verdict(page(made, exhibits), content)


def test_detectors_alone_are_not_said_to_lack_heldout_images():
    alone = report(features={"local": {"novelty": {"copies_flagged": {"value": 3}}}})
    text = read(page(alone)).text
    assert "the measure of chance" in text and "nothing here is calibrated" not in text
    without = read(page(replace(alone, heldout=None))).text
    assert "nothing here is calibrated" in without


def test_edits_of_others_stand_in_a_table_of_their_own():
    found = report()
    found.power = [Recall("mirrored", 0.9, 0.8, 1.0), Recall("elastic", 0.1, 0, 0.2, "torchvision")]
    text = read(page(found)).text
    ours, theirs = text.index("Planted copies"), text.index("Edits of torchvision, which the")
    assert ours < text.index("mirrored", ours) < theirs < text.index("elastic", theirs)
    found.power = found.power[:1]
    assert "Edits of" not in read(page(found)).text


def test_what_both_show_is_outlined():
    corners = np.broadcast_to(np.array([[0.25, 0], [1, 0], [1, 0.5], [0.25, 0.5]]), (3, 4, 2))
    shown = Exhibits(panels=[panel(sample_outline=corners, train_outline=4 * corners)])
    html = page(report(), shown)
    assert html.count('<polygon points="0.25,0 1,0 1,0.5 0.25,0.5"/>') == 3
    assert html.count('<polygon points="1,0 4,0 4,2 1,2"/>') == 3
    assert "<polygon" not in page(report(), Exhibits(panels=[panel()]))


def test_no_metric_is_explained_as_a_verdict():
    claims = {m.name: CLAIM.findall(m.meaning) for m in metrics().values()}
    assert not {name: found for name, found in claims.items() if found}
