"""Views are the windows they say they are, and candidates hold the source."""

import pytest
import torch
from torch.nn import functional as F

from novum.metrics.novelty import retrieval
from novum.metrics.novelty.alterations import alter
from novum.metrics.novelty.retrieval import (
    FAMILIES,
    PER_FAMILY,
    POOL_VIEWS,
    SAMPLE_VIEWS,
    STARTS,
    WHOLE,
    Best,
    Descriptions,
    Search,
    View,
    covariance,
    merge,
    tiles,
    window,
)
from tests.metrics.novelty.textures import textures


@pytest.fixture(scope="module")
def pool():
    return textures(300)


@pytest.fixture(scope="module")
def descriptions(pool):
    return Descriptions(sum(covariance(t.images) for t in tiles(pool, torch.arange(len(pool)))))


def retrieve(samples, pool, descriptions, exclude=None, positions=None) -> Best:
    """The candidates of all families, side by side."""
    search = Search(samples, descriptions, exclude)
    for tile in tiles(pool, torch.arange(len(pool)) if positions is None else positions):
        search.add(tile)
    return Best(*(torch.cat(x, 1) for x in zip(*search.best, strict=True)))


def test_a_window_is_described_as_the_image_it_shows(pool, descriptions):
    """Twice as large, the upper left quarter is a whole image with that description."""
    quarter = F.interpolate(pool[:20, :, :16, :16].float(), scale_factor=2, mode="nearest")
    whole = descriptions(quarter.to(torch.uint8), [WHOLE])[0]
    seen = descriptions(pool[:20], [window(16, 0, 0)])[0]
    torch.testing.assert_close(seen, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(20))


def test_a_turned_view_is_described_as_the_turned_image(pool, descriptions):
    turned = descriptions(pool[:20].rot90(1, (2, 3)), [WHOLE])[0]
    seen = descriptions(pool[:20], [View(degrees=90)])[0]
    torch.testing.assert_close(seen, turned, atol=1e-4, rtol=0)


@pytest.mark.parametrize("degrees", [0, 90])
def test_map_takes_one_window_onto_the_other(degrees):
    sample = window(24, 4, 0)._replace(degrees=degrees)
    affine = retrieval.affine_between(sample, window(12, 20, 8))
    take = lambda x, y: (affine @ torch.tensor([x, y, 1])).tolist()  # noqa: E731
    assert take(sample.x, sample.y) == pytest.approx((26 / 16 - 1, 14 / 16 - 1))
    corner = (sample.x + 0.75, sample.y + 0.75)  # lower right; turned back it is the upper right
    sign = -1 if degrees else 1
    assert take(*corner) == pytest.approx((32 / 16 - 1, (14 + sign * 6) / 16 - 1))


@pytest.mark.parametrize(
    "attack",
    ["identical", "mirrored", "turned 90° or more", "shifted 20%", "corner of 75%", "corner of 50%",
     "rotated 30°", "left half pasted"],
)  # fmt: skip
def test_the_source_is_a_candidate(attack, pool, descriptions):
    samples = alter(pool[:30], attack, 0, textures(30, 7))
    candidates = retrieve(samples, pool, descriptions)
    assert candidates.positions.shape == candidates.starts.shape
    found = (candidates.positions == torch.arange(30)[:, None]).any(1)
    assert found.double().mean() >= 0.95


@pytest.mark.parametrize("rounding", ["native", "bfloat16", "float32"])
def test_candidates_are_those_of_every_product(rounding, pool, descriptions, monkeypatch):
    """Of all pairs of views in float64: nothing is lost to rounding; flat images are none's kin."""
    if rounding != "native":
        dtypes = [getattr(torch, rounding)]
        monkeypatch.setattr(retrieval, "screening_dtypes", lambda _: dtypes)
    pool = torch.cat([pool, torch.full_like(pool[:3], 7), pool[:9]])
    samples = torch.cat([alter(pool[:40], "cropped to 88%"), torch.zeros_like(pool[:2])])
    found = retrieve(samples, pool, descriptions)
    views = descriptions(pool, POOL_VIEWS).double()
    seen = [descriptions(x, SAMPLE_VIEWS).double() for x in (samples, samples.flip(-1))]
    for number, family in enumerate(FAMILIES):
        products = [
            own[SAMPLE_VIEWS.index(sample)] @ views[POOL_VIEWS.index(other)].T
            for own in seen
            for sample, other in family
        ]
        best = torch.stack(products).amax(0).topk(PER_FAMILY).values
        part = slice(number * PER_FAMILY, (number + 1) * PER_FAMILY)
        torch.testing.assert_close(found.scores[:, part].double(), best, rtol=0, atol=2e-6)
        assert all(len(row.unique()) == PER_FAMILY for row in found.positions[:, part])


def test_starts_say_what_was_done(pool, descriptions):
    """The best pair of views of a mirrored corner crop starts near the truth."""
    samples = F.interpolate(pool[:20, :, 8:, :24].float(), (32, 32), mode="bilinear")
    samples = samples.round().to(torch.uint8).flip(3)
    _, rows, starts = retrieve(samples, pool, descriptions)
    family = slice(retrieval.PER_FAMILY, 2 * retrieval.PER_FAMILY)  # crops to 24 px
    assert torch.equal(rows[:, family][:, 0], torch.arange(20))
    for start in (STARTS[i] for i in starts[:, family][:, 0].tolist()):
        assert start.mirrored and start.region == 0
        assert start.affine == pytest.approx((0.75, 0, -0.25, 0, 0.75, 0.25))


def test_a_squeezed_window_starts_as_a_stretch():
    affine = retrieval.affine_between(WHOLE, View(width=0.6))
    torch.testing.assert_close(affine, torch.tensor([[0.6, 0, 0], [0, 1, 0]]))


@pytest.mark.parametrize("left,top,side", [(3, 5, 20), (12, 2, 16), (8, 16, 16), (0, 0, 26)])
def test_an_image_within_another_is_a_candidate(left, top, side, pool, descriptions):
    """With another around it, at half of the size and more; midway between windows too."""
    samples = textures(30, 7)
    small = F.interpolate(pool[:30].float(), (side, side), mode="bilinear", antialias=True)
    samples[..., top : top + side, left : left + side] = small.round().to(torch.uint8)
    found = (retrieve(samples, pool, descriptions).positions == torch.arange(30)[:, None]).any(1)
    assert found.double().mean() >= 0.7


def test_a_quarter_moved_to_another_corner_is_a_candidate(pool, descriptions):
    samples = textures(30, 7)
    samples[..., 16:, :16] = pool[:30, :, :16, 16:]
    found = (retrieve(samples, pool, descriptions).positions == torch.arange(30)[:, None]).any(1)
    assert found.double().mean() >= 0.95


def test_excluded_rows_are_no_candidates(pool, descriptions):
    exclude = torch.arange(30).where(torch.arange(30) % 2 == 0, -1)
    rows = retrieve(pool[:30], pool, descriptions, exclude).positions
    found = (rows == torch.arange(30)[:, None]).any(1)
    assert torch.equal(found, exclude == -1)
    assert len(rows.unique(dim=1)) == len(rows) and (rows >= 0).all()


def test_who_sees_which_tile_and_when_does_not_matter(pool, descriptions, monkeypatch):
    monkeypatch.setattr(retrieval, "TILE", 32)
    samples, exclude = pool[:30], torch.arange(30) + 5
    twice = torch.cat([pool[:100], pool])  # so that scores tie
    positions = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    positions[positions % 5 == 0] = -1  # which are none of the pool
    known = retrieve(samples, twice, descriptions, exclude, positions)
    assert known.scores.isfinite().all() and (known.positions % 5 > 0).all()
    seen = list(tiles(twice, positions))
    ranks = [Search(samples, descriptions, exclude) for _ in range(3)]
    for number, tile in enumerate(reversed(seen)):
        ranks[number % 3].add(tile)
    for i, parts in enumerate(zip(*(rank.best for rank in ranks), strict=True)):
        family = slice(i * retrieval.PER_FAMILY, (i + 1) * retrieval.PER_FAMILY)
        for found, whole in zip(merge(list(parts)), known, strict=True):
            assert torch.equal(found, whole[:, family])


def test_sums_of_covariances_do_not_depend_on_their_order(pool):
    parts = [covariance(tile.images) for tile in tiles(pool.repeat(4, 1, 1, 1), torch.arange(1200))]
    assert torch.equal(sum(parts), sum(parts[::-1]))
