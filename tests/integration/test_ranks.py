"""The same batch on 1, 2 and 4 real processes: same losses, same figures, no draw made twice."""

from pathlib import Path

import pytest
import torch

from tests import programs

WORLDS = (1, 2, 4)
# what draws nothing but latents
EXACT = ("gan", "classifier", "char_lstm", "char_transformer", "flow_matching")
TECHNIQUES = (*EXACT, "gan_augmented", "stylegan")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """World size -> what each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("of_ranks.py")
    done = programs.run(script, folder, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    load = {"weights_only": True}
    return {w: [torch.load(folder / f"{w}-{r}.pt", **load) for r in range(w)] for w in WORLDS}


def losses(run, technique):
    """Of each step, the mean over the ranks."""
    steps = zip(*(rank[technique]["losses"] for rank in run), strict=True)
    return [{k: sum(r[k] for r in ranks) / len(ranks) for k in ranks[0]} for ranks in steps]


@pytest.mark.parametrize("technique", EXACT)
@pytest.mark.parametrize("world", [2, 4])
def test_the_same_batch_gives_the_same_losses_and_weights(runs, technique, world):
    one, several = runs[1][0][technique], runs[world][0][technique]
    expected, found = losses(runs[1], technique), losses(runs[world], technique)
    assert len(expected) >= 4
    for a, b in zip(expected, found, strict=True):
        assert b == pytest.approx(a, rel=1e-5)
    for name, tensor in one["state"].items():
        torch.testing.assert_close(several["state"][name], tensor, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    "technique", ["classifier", "char_lstm", "char_transformer", "flow_matching"]
)
def test_validation_counts_everything_once(runs, technique):
    one, *others = (runs[world][0][technique]["validation"] for world in WORLDS)
    assert one
    for other in others:
        assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_stay_equal(runs, technique, world):
    first, *others = (rank[technique]["state"] for rank in runs[world])
    assert all(tensor.isfinite().all() for tensor in first.values())
    own = ("mean_w",) if technique == "stylegan" else ()  # broadcast before it is used or saved
    for other in others:
        for name, tensor in first.items():
            if not name.endswith(own) or not own:
                assert torch.equal(other[name], tensor), name


@pytest.mark.parametrize("technique", ["gan", "gan_augmented", "stylegan", "flow_matching"])
def test_no_two_ranks_draw_the_same_latents(runs, technique):
    rows = torch.cat([latents for rank in runs[4] for latents in rank[technique]["latents"]])
    assert len(rows.unique(dim=0)) == len(rows) > 0


@pytest.mark.parametrize("technique", ["gan", "flow_matching"])
def test_latents_are_those_of_one_process(runs, technique):
    (one,), four = runs[1], runs[4]
    for whole, *parts in zip(
        one[technique]["latents"], *(r[technique]["latents"] for r in four), strict=True
    ):
        assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)


def test_no_two_ranks_draw_the_same_crops(runs):
    """Where an image is afterwards: which of its rows and columns are empty."""
    shifts = []
    for rank in runs[4]:
        crops, images = (torch.cat(rank["gan_augmented"][k]) for k in ("crops", "images"))
        assert not torch.equal(crops, images)
        shifts.append(torch.cat([(crops == 0).all(2), (crops == 0).all(3)], 2).flatten(1))
    for i, a in enumerate(shifts):
        for b in shifts[i + 1 :]:
            assert not torch.equal(a, b)
