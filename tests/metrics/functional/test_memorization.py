import pytest
import scipy.stats
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from novum.metrics.functional import (
    authenticity,
    data_copying_test,
    frechet_distance_from_features,
    memorization,
    memorization_distance,
    memorization_informed_frechet_distance,
)
from novum.metrics.neighbours import knn


def test_memorization_distance_by_hand():
    real = torch.tensor([[1.0, 0], [0, 2]])
    fake = torch.tensor([[3.0, 0], [1, 1], [-1, 0]])
    assert memorization_distance(real, fake) == pytest.approx((0 + 1 - 0.5**0.5 + 0) / 3)


@pytest.mark.parametrize("least", [-torch.inf, 0.0])
def test_memorization_distance_is_the_definitions(normal, least):
    """Opposite vectors are alike too, and rows of zeros are like none."""
    real, fake = (normal(n, 6, seed).clamp(min=least) for n, seed in ((400, 0), (300, 1)))
    real[::7], fake[::11] = 0, 0
    unit = [x.double() / x.double().norm(dim=1, keepdim=True).clamp(min=1e-9) for x in (real, fake)]
    expected = (1 - (unit[1] @ unit[0].T).abs()).amin(1).mean()
    assert memorization_distance(real, fake) == pytest.approx(float(expected), rel=1e-6)
    assert memorization_distance(torch.zeros(9, 6), fake) == 1


def test_directions_are_of_rows_however_they_are_read(normal):
    rows = normal(9, 6).index_fill(0, torch.tensor([4]), 0)
    found = memorization._Directions(rows)
    expected = torch.nn.functional.normalize(rows.double(), dim=1).float()
    expected[4, 0] = 3
    torch.testing.assert_close(found[torch.arange(8).view(2, 4)], expected[:8].view(2, 4, 6))
    torch.testing.assert_close(found[3:7], expected[3:7])


def test_a_generator_of_twenty_copies_is_penalised(normal):
    train = normal(2000, 32)
    fake = train[:20].repeat(25, 1)
    plain = frechet_distance_from_features(train, fake)
    assert memorization_distance(train, fake) < 1e-12
    assert memorization_informed_frechet_distance(train, fake) > 1e6 * plain


def test_a_fresh_generator_is_not_penalised(normal):
    train, fake = normal(500, 64), normal(500, 64, seed=1)
    plain = frechet_distance_from_features(train, fake)
    assert memorization_informed_frechet_distance(train, fake) == plain


def test_authenticity_by_hand():
    train = torch.tensor([[0.0], [1], [5]])
    # nearest 0 (own nearest at 1), 0 (at 1), 5 (at 4)
    fake = torch.tensor([[-0.5], [-2], [9.5]])
    assert authenticity(train, fake) == pytest.approx(2 / 3)


def test_copies_are_not_authentic(normal):
    train = normal(100, 4)
    assert authenticity(train, train[:50]) == 0


def z_score(train, heldout, fake):
    """Of the definition, by scipy's rank sum."""
    g = torch.cdist(fake.double(), train.double()).amin(1).numpy()
    h = torch.cdist(heldout.double(), train.double()).amin(1).numpy()
    u = scipy.stats.mannwhitneyu(g, h).statistic
    n, m = len(h), len(g)
    return (u - (n * m / 2 - 0.5)) / (n * m * (n + m + 1) / 12) ** 0.5


def test_data_copying_is_the_weighted_mean_over_cells(normal):
    train, heldout, fake = normal(90, 3), normal(60, 3, 1), 0.9 * normal(80, 3, 2)
    cells = tuple((x[:, 0] > 0.3).long() for x in (train, heldout, fake))
    expected = weights = 0.0
    for cell in (0, 1):
        t, h, g = (x[c == cell] for x, c in zip((train, heldout, fake), cells, strict=True))
        assert len(g) > 20
        expected += len(h) * z_score(t, h, g)
        weights += len(h)
    value = data_copying_test(train, heldout, fake, cells)
    assert value == pytest.approx(expected / weights, rel=1e-9)


def test_data_copying_tells_copies_from_fresh(normal):
    train, heldout = normal(400, 8), normal(400, 8, 1)
    copies = train[:300] + 0.01 * normal(300, 8, 2)
    assert data_copying_test(train, heldout, copies) < -10
    assert abs(data_copying_test(train, heldout, normal(300, 8, 3))) < 3
    assert data_copying_test(train, heldout, 2 * normal(300, 8, 3)) > 5


def test_cells_without_heldout_or_enough_samples_are_left_out(normal):
    train, heldout, fake = normal(90, 3), normal(60, 3, 1), normal(80, 3, 2)
    cells = [torch.zeros(len(x), dtype=torch.int64) for x in (train, heldout, fake)]
    one = data_copying_test(train, heldout, fake, tuple(cells))
    far = [torch.full((n, 3), 50.0) for n in (10, 0, 30)]  # a cell where held-out data has no row
    sets = [torch.cat([x, y]) for x, y in zip((train, heldout, fake), far, strict=True)]
    labels = tuple(
        torch.cat([c, torch.ones(len(y), dtype=torch.int64)])
        for c, y in zip(cells, far, strict=True)
    )
    assert data_copying_test(*sets, labels) == one


def test_what_is_known_of_the_references_spares_work_alone(normal):
    """Known neighbours change nothing, and k-means is fitted once for the same references."""
    train, heldout, fake = normal(900, 70), normal(300, 70, 1), normal(400, 70, 2)
    expected, stored = data_copying_test(train, heldout, fake), {}

    def keep(name, compute, columns, dtype=float):
        if name not in stored:
            stored[name] = compute().astype(dtype)
        assert stored[name].shape[1:] == (columns,)
        return stored[name]

    nearest = tuple(x[:, 0] for x in knn(fake, train, 1))
    for _ in range(2):
        found = data_copying_test(train, heldout, fake, nearest=nearest, keep=keep)
        assert found == expected
    assert len(stored) == 3
    stored["C_T"] = stored["C_T"] + 1
    other = data_copying_test(train, heldout, fake, nearest=nearest, keep=keep)
    assert other < expected


def test_cells_are_those_of_k_means(normal):
    x = normal(500, 70)
    reduced = PCA(64, random_state=0).fit(x.double().numpy())
    kmeans = KMeans(3, random_state=0, n_init=10).fit(reduced.transform(x.double().numpy()))
    model = memorization._fit_cells(x, 3, 0)
    assert (memorization._cell_of(x, model) == kmeans.labels_).all()


def test_data_copying_is_seeded_and_reduces_wide_features(normal):
    train, heldout, fake = normal(200, 100), normal(100, 100, 1), normal(150, 100, 2)
    assert data_copying_test(train, heldout, fake) == data_copying_test(train, heldout, fake)


def test_too_few_samples_for_any_cell(normal):
    with pytest.raises(ValueError, match="no cell holds more than 20 of the 10 samples"):
        data_copying_test(normal(50, 2), normal(50, 2), normal(10, 2))


def test_goldens(goldens, generator_name):
    expected, train = goldens.values[generator_name], goldens.train
    fake = goldens.fake(generator_name)
    assert authenticity(train, fake) == pytest.approx(expected["authenticity"], rel=1e-6)
    nearness = memorization_distance(train, fake)
    assert nearness == pytest.approx(expected["memorization_distance_cosine"], rel=1e-6)
    names = ("cell_train", "cell_heldout", f"cell_gen_{generator_name}")
    cells = tuple(goldens.arrays[name] for name in names)
    ct = data_copying_test(train, goldens.arrays["heldout"], fake, cells)
    assert ct == pytest.approx(expected["ct_3cells"], rel=1e-6)
