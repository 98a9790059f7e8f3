"""Generators that return training images again and again are found out; those that do not, not."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from novum.core.seeds import derived_seed
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.drawn_samples import DrawnSamples
from novum.evaluation.image_extraction import (
    NAMED,
    Control,
    Item,
    Returned,
    find_returned,
    require_control,
    rows_by_class,
    thumbnails,
)
from novum.metrics.functional.intervals import Interval

DIGITS = torch.from_numpy((load_digits().images * 15).astype(np.uint8))[:, None]
ORDER = torch.randperm(len(DIGITS), generator=torch.Generator().manual_seed(0))
TRAIN, HELDOUT = (ImageArray(DIGITS[rows]) for rows in (ORDER[:300], ORDER[300:400]))
FRESH = DIGITS[ORDER[400:460]]  # seen by nobody
TABLE = thumbnails([HELDOUT[:]])


@pytest.fixture(scope="module")
def control():
    return Control(TRAIN, HELDOUT)


def noisy(images: torch.Tensor, seed: int, sigma: float = 3) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + sigma * noise).round().clamp(0, 255).to(torch.uint8)


def returned(images: torch.Tensor) -> Returned:
    return find_returned(thumbnails([images]), TABLE)


def test_balls_are_those_of_the_definition():
    """One dimension: held-out values at 0 and 100, so that the radius is a quarter of the way."""
    heldout = torch.tensor([[0], [100]], dtype=torch.uint8)
    values = [40, 48, 50, 52, 58, 20, 21, 22, 23, 90]
    found = find_returned(torch.tensor(values, dtype=torch.uint8)[:, None], heldout)
    # 40 to 58 are within 12.5 of 50, but 21 and 22 are the tightest: 1 of 5.25 and 5.5
    assert [values[i] for i in found.leaders] == [50, 22]
    assert found.times.tolist() == [5, 4]
    assert found.leader_of.tolist() == [0] * 5 + [1] * 4 + [-1]


def test_equal_samples_and_too_few():
    same = TRAIN[:1].expand(5, -1, -1, -1)
    assert returned(same).times.tolist() == [5]
    assert returned(torch.cat([same[:2], FRESH[:50]])).times.tolist() == []
    assert returned(same[:2]).leader_of.tolist() == [-1, -1]
    held = HELDOUT[:1].expand(4, -1, -1, -1)  # radius 0: equal ones alone
    assert returned(held).times.tolist() == [4]


def test_every_return_is_counted_once():
    images = torch.cat([noisy(TRAIN[i : i + 1].expand(20 + i, -1, -1, -1), i) for i in range(5)])
    found = returned(torch.cat([images, FRESH[:100]]))
    assert found.times.tolist() == [24, 23, 22, 21, 20]
    assert found.leader_of[:110].bincount().tolist() == [24, 23, 22, 21, 20]
    assert (found.leader_of[110:] == -1).all()


def greedy(samples: torch.Tensor, heldout: torch.Tensor, times: int) -> list[int]:
    """Returns of each image by the definition, one candidate at a time."""
    x = samples.double()
    radius = 0.25 * torch.cdist(x, heldout.double()).amin(1)
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    reach = apart.sort(1).values[:, times - 1]
    free, counts = torch.ones(len(x), dtype=torch.bool), []
    for row in (reach / radius.clamp_min(1e-12)).argsort(stable=True).tolist():
        near = (apart[row] <= radius[row]) & free
        if reach[row] <= radius[row] and free[row] and near.sum() >= times:
            counts.append(int(near.sum()))
            free &= ~near
    return sorted(counts, reverse=True)


@pytest.mark.parametrize("sigma", [2, 12, 25])
def test_many_images_that_came_back(sigma):
    """More than are searched at once; overlapping ones too."""
    samples = thumbnails([noisy(TRAIN[:].repeat_interleave(4, 0), 0, sigma)])
    found = find_returned(samples, TABLE)
    assert found.times.tolist() == greedy(samples, TABLE, 3)
    assert found.times.tolist() == found.leader_of[found.leader_of >= 0].bincount().tolist()
    assert len(found.leaders) > 16 or sigma > 20


@pytest.mark.parametrize(("sigma", "kind"), [(0, "identical"), (6, "near_identical")])
def test_five_planted_images_are_found_among_fresh_ones(control, sigma, kind):
    planted = TRAIN[:5].repeat_interleave(30, 0)
    found = returned(torch.cat([noisy(planted, 0, sigma), FRESH]))
    images = torch.cat([noisy(planted, 0, sigma), FRESH])[found.leaders]
    judged = control.judge(images)
    named = {row for row, fact, q in zip(judged.train_rows.tolist(), judged.facts, judged.q,
                                         strict=True) if fact or q <= NAMED}  # fmt: skip
    assert named == {0, 1, 2, 3, 4}
    assert {fact for fact in judged.facts if fact} == {kind}
    assert judged.p.min() == 1 / 101


def test_a_generator_of_few_new_images_is_no_copier(control):
    """40 times each: what comes back is not of the training set, so nothing is named."""
    found = returned(noisy(FRESH[:20].repeat_interleave(40, 0), 1))
    assert len(found.leaders) >= 15
    images = noisy(FRESH[:20].repeat_interleave(40, 0), 1)[found.leaders]
    judged = control.judge(images)
    assert judged.facts == [None] * len(images) and judged.q.min() > NAMED


@pytest.mark.slow
def test_error_rates():
    """p-values of fresh images are those of chance, over splits of the digits."""
    below = n = convicted = 0
    for seed in range(10):
        order = torch.randperm(len(DIGITS), generator=torch.Generator().manual_seed(seed))
        split = Control(ImageArray(DIGITS[order[:300]]), ImageArray(DIGITS[order[300:400]]))
        judged = split.judge(DIGITS[order[400:430]])
        below, n = below + int((judged.p <= 0.1).sum()), n + 30
        convicted += any(judged.facts) or bool((judged.q <= NAMED).any())
    assert binomtest(below, n, 0.1, "greater").pvalue > 0.001
    assert binomtest(convicted, 10, 0.1, "greater").pvalue > 0.001


def test_natural_twins_are_no_facts():
    """Where held-out images equal training images nothing is so near that chance is ruled out."""
    heldout = ImageArray(torch.cat([HELDOUT[:], TRAIN[10:12]]))
    judged = Control(TRAIN, heldout).judge(TRAIN[:5])
    assert judged.facts == [None] * 5


def test_rows_by_class():
    """Two images that came back are one training image; the last that came back is not judged."""
    share = Interval(0.1, 0.0, 0.2)
    items = [
        Item(row, 2, share, label, train, 6, 1.0, 1.0, "", q, q, None)
        for row, label, train, q in ((0, 1, 5, 0.05), (2, 0, 5, 0.9), (8, 1, 5, 0.1))
    ]
    assert [item.extracted for item in items] == [True, False, True]
    labels = torch.tensor([1, 1, 0, 1, 0, 0, 0, 1, 1, 0])
    leader_of = torch.tensor([0, 0, 1, -1, 1, 3, 3, -1, 2, 2])
    returned = Returned(torch.tensor([0, 2, 8, 5]), torch.tensor([2, 2, 2, 2]), leader_of)
    rows = rows_by_class(items, returned, labels)
    assert [(r.label, r.samples, r.returned, r.extracted, r.sources) for r in rows] == [
        (None, 10, 3, 2, 1), (0, 5, 1, 0, 0), (1, 5, 2, 2, 1)
    ]  # fmt: skip
    assert [r.rate.value for r in rows] == [4 / 10, 1 / 5, 3 / 5]
    none = Returned(labels[:0], labels[:0], -torch.ones_like(labels))
    (nothing,) = rows_by_class([], none, None)
    assert nothing.rate.value == 0 and nothing.rate.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_large_images_are_compared_small():
    block = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    assert thumbnails([block]).shape == (3, 3 * 32 * 32)
    assert torch.equal(thumbnails([DIGITS[:4], DIGITS[4:6]]), DIGITS[:6].flatten(1))


def test_a_control_is_needed():
    for heldout in (None, ImageArray(DIGITS[:8])):
        with pytest.raises(ValueError, match="extraction needs 9 or more as its control"):
            require_control(heldout)
    assert require_control(HELDOUT) is HELDOUT


class Counting:
    """A generator that says what it was asked for, and dies when asked once too often."""

    num_classes = 3

    def __init__(self, most: int = 99) -> None:
        self.asked, self.most = [], most

    def sample(self, n, *, seed=None, labels=None):
        if len(self.asked) == self.most:
            raise KeyboardInterrupt
        self.asked.append((n, seed, labels.tolist()[:4]))
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)


MADE_BY = {"checkpoint": "a", "seed": 0, "class": None}


def test_drawing_goes_on_where_it_was_stopped(tmp_path):
    stopped = Counting(most=2)
    with pytest.raises(KeyboardInterrupt):
        DrawnSamples(tmp_path / "s", 700, MADE_BY).draw(stopped)
    again, drawn = Counting(), DrawnSamples(tmp_path / "s", 700, MADE_BY)
    assert drawn.draw(again) == 512
    assert [seed for _, seed, _ in stopped.asked + again.asked] == [0, 1, 2]
    assert again.asked[0][2] == [0, 1, 2, 0]
    whole = torch.cat(list(drawn))
    assert len(whole) == 700
    direct = torch.cat([Counting().sample(256, seed=b, labels=torch.arange(3)) for b in range(3)])
    assert torch.equal(whole, direct[:700])
    assert torch.equal(drawn[torch.tensor([3, 600])], direct[[3, 600]])
    fewer = DrawnSamples(tmp_path / "s", 300, MADE_BY)
    assert fewer.draw(Counting(most=0)) == 300 and len(torch.cat(list(fewer))) == 300


def test_a_class_and_a_seed(tmp_path):
    generator = Counting()
    DrawnSamples(tmp_path, 256, MADE_BY | {"seed": 5, "class": 2}).draw(generator)
    assert generator.asked == [(256, derived_seed(5, 0), [2, 2, 2, 2])]


def test_other_samples_and_other_files_are_refused(tmp_path):
    DrawnSamples(tmp_path / "a", 10, MADE_BY)
    with pytest.raises(ValueError, match="another checkpoint, seed or class: give another"):
        DrawnSamples(tmp_path / "a", 10, MADE_BY | {"seed": 1})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds other files: give another --output"):
        DrawnSamples(tmp_path / "b", 10, MADE_BY)
    (tmp_path / "a" / "drawn.json").write_text("{")
    with pytest.raises(ValueError, match="samples of another"):
        DrawnSamples(tmp_path / "a", 10, MADE_BY)


def test_a_damaged_block_is_drawn_again(tmp_path):
    drawn = DrawnSamples(tmp_path, 300, MADE_BY)
    drawn.draw(Counting())
    before = torch.cat(list(drawn))
    path = tmp_path / "000001.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="000001.npy is damaged"):
        torch.cat(list(drawn))
    assert drawn.draw(Counting()) == 256
    assert torch.equal(torch.cat(list(drawn)), before)


@pytest.mark.parametrize("made", [torch.zeros(256, 1, 8, 8), torch.zeros(2, 1, 8, 8).byte()])
def test_what_is_no_block_of_images_is_refused(tmp_path, made):
    generator = Counting()
    generator.sample = lambda n, **_: made
    with pytest.raises(ValueError, match=r"Counting.sample\(256\) must give uint8 images"):
        DrawnSamples(tmp_path, 10, MADE_BY).draw(generator)
    assert not list(tmp_path.glob("*.npy"))
