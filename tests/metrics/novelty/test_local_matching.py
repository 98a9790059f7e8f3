"""Features vote for the image that they are of, and the affine map between the two is recovered."""

import math

import pytest
import torch
from torch.nn import functional as F

from novum.metrics.novelty.descriptor_index import (
    DescriptorIndex,
    exact_distances,
    merge,
    nearest,
    train_quantiser,
)
from novum.metrics.novelty.local_features import (
    MOST_POINTS,
    VARIANTS,
    LocalFeatures,
    extract_local_features,
)
from novum.metrics.novelty.local_matching import (
    Pairs,
    Voters,
    _agree,
    candidates,
    match,
    voters,
)
from tests.metrics.novelty.scenes import scenes


@pytest.fixture(scope="module")
def images():
    return scenes(30, 96)


def voted(
    samples: LocalFeatures, pool: LocalFeatures, exclude: torch.Tensor | None = None
) -> Pairs:
    """Candidates by an index of the pool's features."""
    owners, found = pool.owners, []
    keys = owners * MOST_POINTS + torch.arange(len(owners)) - pool.starts[owners]
    quantiser = train_quantiser(pool.descriptors, len(keys))
    index = DescriptorIndex(quantiser)
    index.add(pool.descriptors, keys)
    place = {key: row for row, key in enumerate(keys.tolist())}

    def known(wanted: torch.Tensor) -> torch.Tensor:
        return pool.descriptors[[place[key] for key in wanted.tolist()]]

    for number in range(VARIANTS):
        asked = voters(samples, number)
        near = index.search(asked.descriptors, *quantiser.assign(asked.descriptors))
        near = merge([near], len(near.key))
        distance = torch.cat(list(exact_distances(near, asked.descriptors, known)))
        found.append(Voters(asked, nearest(near._replace(distance=distance))))
    return candidates(found, len(pool.starts) - 1, exclude)


def warped(images: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Images whose place x shows what place `affine` x of the originals does."""
    grid = F.affine_grid(affine.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    out = F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
    return out.round().to(torch.uint8)


def turned(scale: float, degrees: float, tx: float, ty: float) -> torch.Tensor:
    a = scale * math.cos(math.radians(degrees))
    b = scale * math.sin(math.radians(degrees))
    return torch.tensor([[a, -b, tx], [b, a, ty]])


MAPS = {
    "as it is": turned(1, 0, 0, 0),
    "turned": turned(1, 40, 0, 0),
    "shrunk": turned(1.8, 0, 0.2, -0.1),
    "cropped": turned(0.6, -10, 0.2, 0.1),
    "stretched": torch.tensor([[0.6, 0.0, 0.1], [0.0, 1.0, 0.0]]),
    "sheared": torch.tensor([[1.1, 0.3, 0.0], [0.0, 1.1, 0.0]]),
}


@pytest.mark.parametrize("affine", MAPS.values(), ids=MAPS)
def test_recovers_the_planted_map(images, affine):
    samples, pool = (extract_local_features(x) for x in (warped(images[:8], affine), images))
    own = torch.arange(8)
    found = match(samples, pool, Pairs(own, own, torch.zeros(8, dtype=torch.int64)))
    assert (found.score > 8).all()
    assert (found.affine - affine).abs().amax((1, 2)).median() < 0.15  # refined later


@pytest.mark.parametrize(
    "affine",
    [turned(6, 0, 0, 0), torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])],
    ids=["six times smaller", "stretched three times"],
)
def test_maps_that_no_edit_makes_do_not_count(affine):
    """40 keypoints that lie exactly where a map says, one within the limits and one beyond."""
    x = torch.rand(1, 40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mild = turned(2, 0, 0, 0)

    def score(linear: torch.Tensor) -> float:
        y = x @ linear[:, :2].T
        zoom = torch.linalg.det(linear[:, :2]).abs().sqrt().expand(1, 40)
        own, other = (
            torch.cat([p, size[..., None], torch.zeros(1, 40, 1)], -1)
            for p, size in ((x, torch.full((1, 40), 0.1)), (y, 0.1 * zoom))
        )
        return float(_agree(own, other, torch.ones(1, 40, dtype=torch.bool)).score)

    assert score(mild) > 20
    assert score(affine) <= 3  # a few points lie where some milder map says


def test_votes_find_the_source_in_its_variant(images):
    pool = extract_local_features(images)
    samples = images[:8].clone()
    samples[2:4] = samples[2:4].flip(-1)
    samples[4:6] = 255 - samples[4:6]
    samples[6:8] = 255 - samples[6:8].flip(-1)
    pairs = voted(extract_local_features(samples), pool)
    best = {}
    for sample, image, number in zip(*(x.tolist() for x in pairs), strict=True):
        best.setdefault(sample, (image, number))  # those with most votes come first
    assert best == {i: (i, i // 2) for i in range(8)}


def test_an_excluded_image_is_no_candidate(images):
    features = extract_local_features(images)
    own = torch.arange(len(images))
    pairs = voted(features, features, own)
    assert (pairs.sample != pairs.image).all()


def test_other_scenes_hardly_agree(images):
    pool, fresh = extract_local_features(images), extract_local_features(scenes(20, 96, seed=7))
    pairs = voted(fresh, pool)
    assert match(fresh, pool, pairs).score.max() <= 7


def test_torch_keeps_its_threads(images):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        features = extract_local_features(images)
        voted(features, features)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
