import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full

from novum.metrics.functional import (
    density_coverage,
    expected_coverage,
    precision_recall,
    rarity,
    realism,
)
from novum.metrics.functional.clipped import clipped_density_coverage, ideal_density
from novum.metrics.functional.manifold import find_spheres
from novum.metrics.neighbours import knn, kth_neighbour_radii, neighbour_distances


@pytest.fixture
def sets(normal):
    return normal(300, 8), 0.8 * normal(250, 8, seed=1) + 0.2


def test_precision_recall_is_torch_fidelitys(sets):
    real, fake = sets
    precision, recall = calculate_precision_recall_full(fake.double(), real.double(), 3)
    value = precision_recall(real, fake, k=3)
    assert value.precision == pytest.approx(precision, rel=1e-6)
    assert value.recall == pytest.approx(recall, rel=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_density_coverage_is_prdcs(sets, k):
    prdc = pytest.importorskip("prdc")
    real, fake = sets
    theirs = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    value = density_coverage(real, fake, k=k)
    assert value.density == pytest.approx(theirs["density"], rel=1e-12)
    assert value.coverage == pytest.approx(theirs["coverage"], rel=1e-12)


@pytest.mark.parametrize("copies", [1, 2, 3, 9])
def test_a_set_against_itself_is_perfect_with_duplicates_too(normal, copies):
    x = normal(40, 8).repeat(copies, 1)
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == pytest.approx((1, 1), abs=1e-12)


def test_constant_sets_are_perfect_against_themselves():
    x = torch.ones(4000, 16)
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == (1, 1)


def test_ties_on_a_grid():
    x = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == pytest.approx((1, 1), abs=1e-12)


@pytest.mark.parametrize("whole", [False, True])
def test_one_pass_finds_what_each_metric_finds(normal, whole):
    """With ties on a grid, and rows that occur again."""
    real, fake = normal(300, 3), 0.9 * normal(260, 3, seed=1)
    if whole:
        real, fake = (2 * real).round(), (2 * fake).round()
    real, fake = torch.cat([real, real[:40]]), torch.cat([fake, fake[:30], real[:9]])
    near = neighbour_distances(real, 5)
    spheres, met = find_spheres(real, fake, near), knn(real, fake, 5).distances
    found = (
        precision_recall(real, fake, near=near, spheres=spheres),
        density_coverage(real, fake, near=near, spheres=spheres, met=met),
        clipped_density_coverage(
            real, fake, near=near, spheres=spheres, met=met, ideal=ideal_density(real, near[:, 5])
        ),
    )
    alone = (f(real, fake) for f in (precision_recall, density_coverage, clipped_density_coverage))
    assert found == tuple(alone)


def test_far_sets_do_not_meet(normal):
    real, fake = normal(50, 4), normal(50, 4, seed=1) + 100
    assert precision_recall(real, fake) == (0, 0)
    assert density_coverage(real, fake) == (0, 0)


def test_one_mode_of_two_is_half_recalled(normal):
    left, right = normal(100, 4), normal(100, 4, seed=1) + 100
    value = precision_recall(torch.cat([left, right]), left)
    assert value.precision == 1
    assert value.recall == pytest.approx(0.5)


def test_a_collapsed_generator_covers_one_ball(normal):
    real = normal(60, 4)
    collapsed = real[:1].repeat(60, 1)
    assert density_coverage(real, collapsed, k=1).coverage < 0.1
    assert precision_recall(real, collapsed) == (1, pytest.approx(1 / 60))


def test_expected_coverage_is_what_fresh_samples_reach(normal):
    values = [
        density_coverage(normal(200, 3, 2 * seed), normal(150, 3, 2 * seed + 1), k=3).coverage
        for seed in range(20)
    ]
    assert sum(values) / 20 == pytest.approx(expected_coverage(200, 150, 3), abs=0.01)


def test_expected_coverage_at_equal_sizes_nears_its_limit():
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-5)


def test_realism_by_hand():
    real = torch.tensor([[0.0], [1], [3], [100]])
    # radii at k = 1: 1, 1, 2, 97; the two smaller ones count
    score = realism(real, torch.tensor([[2.0], [1.5], [1], [-4]]), k=1)
    assert score.tolist() == [1, 2, float("inf"), 0.25]


def test_realism_is_that_of_direct_differences(normal):
    """Near copies far from the origin keep their digits."""
    real = 1000 + normal(60, 8).double()
    fake = torch.cat([real[:20] + 1e-7 * normal(20, 8, 1), 1000 + normal(20, 8, 2)])
    radii = kth_neighbour_radii(real, 3)
    kept = radii <= radii.median()
    distances = (fake[:, None] - real[kept]).square().sum(2).sqrt()
    expected = (radii[kept] / distances).amax(1)
    torch.testing.assert_close(realism(real, fake), expected, rtol=1e-8, atol=0)


def test_realism_of_copies_in_a_crowd_is_infinite():
    score = realism(torch.zeros(10, 2), torch.tensor([[0.0, 0], [1, 0]]), k=2)
    assert score.tolist() == [float("inf"), 0]


def test_rarity_by_hand():
    real = torch.tensor([[0.0], [1], [3], [100]])
    score = rarity(real, torch.tensor([[0.5], [4.5], [150], [1000]]), k=1)
    assert score[:3].tolist() == [1, 2, 97]
    assert score[3].isnan()


def test_too_few_samples_for_k(normal):
    with pytest.raises(ValueError, match="real has 5 samples, this metric needs at least 6"):
        density_coverage(normal(5, 2), normal(9, 2), k=5)
    with pytest.raises(ValueError, match="fake has 3 samples, this metric needs at least 4"):
        precision_recall(normal(9, 2), normal(3, 2), k=3)


def test_widths_must_agree(normal):
    with pytest.raises(ValueError, match="features differ in width"):
        precision_recall(normal(9, 2), normal(9, 3))


def test_goldens(goldens, generator_name):
    expected = goldens.values[generator_name]
    real, fake = goldens.train, goldens.fake(generator_name)
    manifold, balls = precision_recall(real, fake), density_coverage(real, fake)
    assert manifold.precision == pytest.approx(expected["precision_k3"], rel=1e-6)
    assert manifold.recall == pytest.approx(expected["recall_k3"], rel=1e-6)
    assert balls.density == pytest.approx(expected["density_k5"], rel=1e-6)
    assert balls.coverage == pytest.approx(expected["coverage_k5"], rel=1e-6)
