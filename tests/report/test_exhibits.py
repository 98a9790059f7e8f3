"""Panels, exemplars and distributions."""

import numpy as np

from novum.report.exhibits import (
    Distributions,
    Exemplars,
    Margins,
    NoveltyPanel,
    Scatter,
    by_suspicion,
    exemplar_rows,
    panel_view,
)
from novum.report.image_page import Exhibits, page
from novum.report.model import Report
from tests.report.pages import Page, read
from tests.report.reports import report
from tests.report.test_image_page import images, panel


def shown(**exhibits) -> Page:
    """A page of nothing else."""
    return read(page(Report(), Exhibits(**exhibits)))


def test_panel_is_sorted_by_q_then_by_relative_distance():
    assert by_suspicion(panel()).tolist() == [1, 0, 2]  # q .01, .5, unknown
    assert by_suspicion(panel(q=None)).tolist() == [0, 1, 2]
    swapped = panel(q=[1, 1, 1], heldout_distance=[1.0, 4.0, 9.0])  # ratios 1, .5, .33
    assert by_suspicion(swapped).tolist() == [2, 1, 0]
    assert [row.sample for row in panel_view(panel()).rows] == [
        "Sample b.png",
        "Sample a.png",
        "Sample c.png",
    ]


def test_panel_shows_four_pictures_each_with_words():
    found = shown(panels=[panel()])
    assert len(found.all("img")) == 12
    assert [a["alt"] for a in found.all("img")][:4] == [
        "Sample b.png",
        "nearest training image 8",
        "nearest held-out image",
        "difference of the two",
    ]
    assert "copy, mirrored, q 0.01" in found.text
    assert "q 0.5" in found.text and "copy, q 0.5" not in found.text


def test_bare_panel_says_only_what_is_known():
    found = shown(panels=[NoveltyPanel("pixels", images(2), images(2), [1234.5, 2.0])])
    assert len(found.all("img")) == 4
    assert "held-out" not in found.text and "q:" not in found.text and "black" not in found.text
    assert "training 1,230" in found.text


def test_difference_of_equal_pictures_is_zero():
    same = images(1)
    one = NoveltyPanel("pixels", same, same, [0.0], aligned=same)
    assert "difference 0" in shown(panels=[one]).text


def test_exemplars_are_novel_and_good_typical_and_copied():
    novelty = np.array([9.0, 5.0, 4.0, 3.0, 2.0, 0.0, 0.1])
    quality = np.array([0.0, 5.0, 4.0, 3.0, 2.0, 9.0, 1.0])
    copies = np.array([False] * 5 + [True, False])
    found = exemplar_rows(novelty, quality, copies, each=1)
    novel, typical, copied = (rows.tolist() for rows in found.values())
    assert novel == [1]  # not the broken sample 0
    assert typical == [3]
    assert copied == [5]
    none = list(exemplar_rows(novelty, quality, copies & False, each=2).items())
    assert none[2][0].startswith("Nearest to training") and none[2][1].tolist() == [5, 6]


def test_scatter_counts_its_dots_and_shows_exemplars():
    rng = np.random.default_rng(0)
    m = 5000
    copies = np.arange(m) < 7
    picked = Exemplars("Most typical", np.array([3, 4]), images(2), ["c.png", 8])
    scatter = Scatter("pixels", rng.random(m), rng.random(m), copies, [picked])
    found = shown(scatters=[scatter])
    assert "3,007 of 5,000 samples" in found.text
    kinds = [a.get("class") for a in found.all("circle")]
    assert (kinds.count("mass dot"), kinds.count("alarm dot"), kinds.count("c0 ring")) == (
        3000,
        7,
        2,
    )
    assert [a["alt"] for a in found.all("img")] == ["sample c.png", "sample 8"]


def test_distributions_say_when_the_sets_are_unequal():
    found = Exhibits(distributions=[Distributions("pixels", np.ones(9), np.ones(9))])
    equal = report()
    assert "nearer by chance" not in read(page(equal, found)).text
    larger = report()
    larger.train.n = 6000
    assert "6,000 training and 1,000 held-out images" in read(page(larger, found)).text


def test_margins_of_heldout_matches_are_scaled_to_the_training_sets_size():
    """6 items trained on for each held out: 600 matches against 100 is chance."""
    side = np.r_[np.ones(600), -np.ones(100), np.zeros(50)]
    found = Margins(np.where(side == 0, 9.0, 0.5), side, odds=6.0, threshold=0.5)
    page_ = shown(distributions=[Distributions("x", side, None, found)])
    assert "held-out image, × 6" in page_.text
    train, heldout = [a["points"] for a in page_.all("polyline")][1:]
    assert train == heldout


def test_page_with_large_pictures_stays_small():
    """24 rows of noise, the worst there is for a JPEG."""
    k = 24
    noise = images(k, 300)
    shown = NoveltyPanel("pixels", noise, noise, np.ones(k), noise, np.ones(k), noise)
    assert len(page(report(), Exhibits(panels=[shown]))) < 5e6
