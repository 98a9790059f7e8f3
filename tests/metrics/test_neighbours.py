import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from novum.metrics.neighbours import (
    distinct_rows,
    knn,
    kth_neighbour_radii,
    sphere_sides,
    squared_distances,
)

examples = settings(max_examples=40)


def brute_force(queries: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    squared = squared_distances(queries[:, None], reference[None])
    values, order = squared.sort(dim=1, stable=True)
    return values[:, :k].sqrt(), order[:, :k]


def check_exact(queries: Tensor, reference: Tensor, k: int, **options) -> None:
    distances, indices = knn(queries, reference, k, **options)
    expected_distances, expected_indices = brute_force(queries, reference, k)
    assert torch.equal(indices, expected_indices)
    assert torch.equal(distances, expected_distances)


@st.composite
def problems(draw):
    """Rows full of ties and copies, tight clusters far from the mean, and plain ones."""
    n, m, d = draw(st.integers(1, 60)), draw(st.integers(1, 12)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(["normal", "grid", "copies", "clusters", "uint8"]))
    x = torch.randn(n + m, d, generator=generator)
    if kind == "grid":
        x = (x * 1.5).round()
    elif kind == "copies":
        x = x[torch.randint(0, min(3, n + m), (n + m,), generator=generator)]
    elif kind == "clusters":
        x = x * 1e-4 + 100 * torch.randint(0, 3, (n + m, 1), generator=generator)
    elif kind == "uint8":
        x = torch.randint(0, 3, (n + m, d), generator=generator).to(torch.uint8)
    return x[n:], x[:n], draw(st.integers(1, n)), draw(st.sampled_from([1, 4096, 2**20]))


@examples
@given(problems())
def test_equals_brute_force(problem):
    queries, reference, k, max_bytes = problem
    check_exact(queries, reference, k, max_bytes=max_bytes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_equals_brute_force_for_all_floats(normal, dtype):
    x = normal(500, 24).to(dtype)
    check_exact(x[:50], x[50:], 7)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e18])
def test_equals_brute_force_where_float32_products_would_not_do(normal, scale):
    x = normal(400, 16) * scale
    check_exact(x[:20], x[20:], 3)


def test_equals_brute_force_with_an_outlier(normal):
    x = normal(400, 16)
    x[123] = 1e6
    check_exact(x[:150], x, 3)


def test_near_copies_are_told_apart_far_from_the_origin(normal):
    reference = normal(300, 64).double() + 1e4
    queries = reference[:40] + 1e-9 * normal(40, 64, seed=1)
    assert torch.equal(knn(queries, reference, 1).indices[:, 0], torch.arange(40))


def test_exact_copies_are_at_zero(normal):
    x = 30 * normal(2000, 128).abs()
    distances, indices = knn(x[::40], x, 2)
    assert distances[:, 0].tolist() == [0.0] * 50
    assert torch.equal(indices[:, 0], torch.arange(0, 2000, 40))


def test_ties_go_to_the_smaller_index():
    reference = torch.ones(100, 3)
    distances, indices = knn(torch.zeros(2, 3), reference, 4)
    assert indices.tolist() == [[0, 1, 2, 3]] * 2
    assert torch.allclose(distances, torch.tensor(3.0).double().sqrt())


def test_crowds_of_equal_rows_cost_no_more_than_one(normal):
    """Ten thousand queries among ten thousand equal rows: pairwise it would take minutes."""
    collapsed = torch.ones(10_000, 256)
    collapsed[5000] = 2
    found = knn(collapsed, collapsed, 3)
    assert found.indices[0].tolist() == [0, 1, 2]
    assert found.indices[5000].tolist() == [5000, 0, 1]


def test_images_of_bytes(normal):
    x = torch.randint(0, 256, (300, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    x = x.to(torch.uint8)
    found = knn(x[:20], x, 4)
    expected = knn(x[:20].flatten(1).double(), x.flatten(1).double(), 4)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


def test_does_not_depend_on_block_sizes_or_on_the_other_queries(normal):
    reference, queries = normal(3000, 48), normal(200, 48, seed=1)
    whole = knn(queries, reference, 5)
    for max_bytes in (2**14, 2**18, 2**24):
        found = knn(queries, reference, 5, max_bytes=max_bytes)
        assert torch.equal(found.distances, whole.distances)
        assert torch.equal(found.indices, whole.indices)
    alone = torch.cat([knn(q[None], reference, 5).distances for q in queries[:20]])
    assert torch.equal(alone, whole.distances[:20])


def test_callers_precision_does_not_matter(normal):
    reference, queries = normal(500, 64), normal(20, 64, seed=1)
    allowed = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            check_exact(queries, reference, 3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(allowed)


def test_too_many_neighbours_are_refused():
    with pytest.raises(ValueError, match="k = 4 neighbours asked of 3 reference rows"):
        knn(torch.zeros(1, 2), torch.zeros(3, 2), 4)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="queries has NaN"):
        knn(torch.full((1, 2), torch.nan), torch.zeros(3, 2), 1)


def test_radii_leave_the_row_itself_out(normal):
    x = normal(50, 4)
    x[1] = x[0]
    radii = kth_neighbour_radii(x, 1)
    assert radii[0] == radii[1] == 0
    assert torch.equal(radii, brute_force(x, x, 2)[0][:, 1])


def test_radii_need_more_rows_than_neighbours():
    with pytest.raises(ValueError, match="3 samples have no 3-th neighbour: 4 are needed"):
        kth_neighbour_radii(torch.zeros(3, 2), 3)


@examples
@given(problems())
def test_sides_of_spheres_are_exact(problem):
    queries, centres, _, max_bytes = problem
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(0, len(queries), (len(centres),), generator=generator)
    distances = squared_distances(queries[:, None], centres[None]).sqrt()
    radii = distances[chosen, torch.arange(len(centres))]  # one query is on each sphere
    sides = torch.full(distances.shape, 9, dtype=torch.int8)
    for rows, columns, side in sphere_sides(queries, centres, radii, max_bytes=max_bytes):
        sides[rows, columns] = side
    assert torch.equal(sides, (distances - radii).sign().to(torch.int8))


def test_distinct_rows():
    x = torch.tensor([[5, 1], [2, 2], [5, 1], [0, 0], [2, 2], [2, 1]], dtype=torch.float32)
    first, inverse = distinct_rows(x)
    assert first.tolist() == [0, 1, 3, 5]
    assert inverse.tolist() == [0, 1, 0, 2, 1, 3]


def test_rows_of_equal_hash_are_kept_apart(monkeypatch):
    monkeypatch.setattr("novum.metrics.neighbours._row_hashes", lambda x: x[:, 0].long())
    x = torch.tensor([[1.0, 0], [1, 0], [1, 7], [2, 0]])
    first, inverse = distinct_rows(x)
    assert first.tolist() == [0, 2, 3]
    assert inverse.tolist() == [0, 0, 1, 2]
