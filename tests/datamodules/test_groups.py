"""Groups that were held out whole."""

from types import SimpleNamespace

import pytest
import torch

from novum.datamodules.groups import cut_groups, read_groups
from novum.metrics.novelty.nearest_matches import find_clusters, match_pool
from novum.metrics.novelty.negative_control import match_within_pool, negative_control
from novum.metrics.novelty.permutation import surprise_test
from novum.metrics.novelty.pool import pool_of_items

IMAGES = {
    "train": SimpleNamespace(ids=["p1/a.png", "p1/b.png", "p2/a.png"]),
    "heldout": SimpleNamespace(ids=["p3/a.png"]),
}


def test_groups_of_names_and_of_a_file(tmp_path):
    assert read_groups("^[^/]+", IMAGES).tolist() == [0, 0, 1, 2]
    assert read_groups("p([0-9])/", IMAGES).tolist() == [0, 0, 1, 2]
    path = tmp_path / "groups.csv"
    rows = [f"{side},{name},{name[:2]}" for side in IMAGES for name in IMAGES[side].ids]
    path.write_text("\n".join(["set,image,group", *rows]))
    assert read_groups(str(path), IMAGES).tolist() == [0, 0, 1, 2]
    path.write_text("\n".join(["set,image,group", *rows[1:]]))
    with pytest.raises(ValueError, match="no group for p1/a.png of train: add a line"):
        read_groups(str(path), IMAGES)
    path.write_text("image,name")
    with pytest.raises(ValueError, match="needs the columns image, group"):
        read_groups(str(path), IMAGES)


def test_a_file_needs_no_set_unless_two_sets_share_a_name(tmp_path):
    path = tmp_path / "groups.csv"
    names = [name for side in IMAGES.values() for name in side.ids]
    path.write_text("\n".join(["image,group", *(f"{name},{name[:2]}" for name in names)]))
    assert read_groups(str(path), IMAGES).tolist() == [0, 0, 1, 2]
    path.write_text("set,image,group\ntrain,a.png,1\nheldout,a.png,2")
    twice = {side: SimpleNamespace(ids=["a.png"]) for side in IMAGES}
    assert read_groups(str(path), twice).tolist() == [0, 1]
    with pytest.raises(ValueError, match="no group for a.png: add a line"):
        cut_groups(str(path), ["a.png"], 1, 0)


def test_whole_groups_are_held_out_at_random():
    """About the share asked for: 20 of 100 images, in groups of 1 to 7."""
    sizes = [1 + i % 7 for i in range(25)]
    ids = [f"patient{p:02d}/{i}.png" for p, size in enumerate(sizes) for i in range(size)]
    held = [cut_groups("patient[0-9]+", ids, 20, seed) for seed in range(20)]
    for mask in held:
        sides = [{name[:9] for name, of in zip(ids, mask, strict=True) if of == s} for s in (0, 1)]
        assert not sides[0] & sides[1] and 16 <= mask.sum() <= 24
    often = torch.stack(held).double().mean(0)
    assert often.max() < 0.8 and len({tuple(mask.tolist()) for mask in held}) == 20


@pytest.mark.parametrize("large", [0, 1])
def test_neither_side_is_left_without_a_group(large):
    ids = [*(f"{large}/{i}" for i in range(99)), f"{1 - large}/0"]
    for count in (1, 20, 99):
        for seed in range(5):
            assert 0 < cut_groups("^[01]", ids, count, seed).sum() < 100
    with pytest.raises(ValueError, match="all images are in '0': to hold one out takes two"):
        cut_groups("^[01]", ["0/1", "0/2"], 1, 0)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("[a-z]$", "'g' is in training and in held-out images: hold out groups whole"),
        ("p[12]", "does not match 'p3/a.png' of heldout"),
        ("(", "neither a file nor a regular expression"),
    ],
)
def test_mistakes_end_in_one_line(pattern, says):
    with pytest.raises(ValueError) as error:
        read_groups(pattern, IMAGES)
    assert says in str(error.value)


def clips(seed: int, groups: int, size: int = 6, width: int = 8):
    """Frames near to each other, numbered by their clip."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, 1, width, generator=generator)
    frames = centres + 0.1 * torch.randn(groups, size, width, generator=generator)
    return frames.flatten(0, 1), torch.arange(groups).repeat_interleave(size)


@pytest.mark.slow
def test_clips_held_out_whole_are_one_draw_each():
    """40 clips of training, 40 held out, samples of 5 fresh clips near to some of either.

    By frames each clip that samples fall near to counts six times, by clips once.
    """
    alarms = {True: 0, False: 0}
    for seed in range(200):
        frames, group = clips(seed, 80)
        generator = torch.Generator().manual_seed(1000 + seed)
        near = frames[torch.randint(80, (5,), generator=generator) * 6]  # five clips of the pool
        fake = near.repeat(40, 1) + 0.1 * torch.randn(200, 8, generator=generator)
        for grouped in (True, False):
            pool = pool_of_items(torch.arange(480), 240, seed, group if grouped else None)
            found = match_pool(fake, pool, pool.table(frames[:240], frames[240:]))
            assert (found.train_items, found.heldout_items) == ((40, 40) if grouped else (240, 240))
            assert not grouped or len(find_clusters(found).item) <= 10
            alarms[grouped] += surprise_test(found, 499, seed) <= 0.05
    assert alarms[True] <= 21  # the 99.9% point of 5%
    assert alarms[False] > 21


def test_the_control_looks_beyond_an_items_own_group():
    frames, group = clips(0, 80)
    pool = pool_of_items(torch.arange(480), 240, 0, group)
    found = match_within_pool(pool, pool.table(frames[:240], frames[240:]))
    assert (pool.unit[found.own] != pool.unit[found.nearest]).all() and len(found.own) == 480
    assert negative_control(found, 199).p > 0.01
    alone = pool_of_items(torch.arange(480), 240, 0)
    blind = match_within_pool(alone, alone.table(frames[:240], frames[240:]))
    assert negative_control(blind, 199).p <= 0.01  # of its own clip, on its own side
