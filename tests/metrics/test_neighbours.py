import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from novum.metrics import candidate_filter as screening
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


def small_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few candidates, and so few rows at a time, that small problems show what large ones do."""
    for name, value in {"MARGIN": 1, "ROWS": 16, "TILE": 5, "SAMPLE": 4, "GROUP": 4}.items():
        monkeypatch.setattr(screening, name, value)
    monkeypatch.setattr(screening, "SMALLEST_PRODUCT", 1)


@examples
@given(problems(), st.booleans())
def test_equals_brute_force(problem, small):
    queries, reference, k, max_bytes = problem
    with pytest.MonkeyPatch.context() as monkeypatch:
        if small:
            small_screens(monkeypatch)
        check_exact(queries, reference, k, max_bytes=max_bytes)


def hard_problem(kind: str) -> tuple[Tensor, Tensor]:
    """Queries (40, 64) and reference (3000, 64) that bfloat16, or a running threshold, may fail."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3040, 64, generator=generator)
    if kind == "clusters far from the mean":  # bfloat16 sees no difference within a cluster
        x = 1e-3 * x + 100 * torch.randn(6, 64, generator=generator).repeat(507, 1)[:3040]
    elif kind == "near-copies":
        x = x[torch.randint(0, 200, (3040,), generator=generator)] + 1e-4 * x
    elif kind == "near-copies beyond float32":
        x = x[:20].double().repeat(152, 1) + 1e-9 * x
    elif kind == "equal rows":
        x = torch.where(torch.arange(3040)[:, None] % 7 == 0, x, x[:1])
    elif kind == "each nearer than those before":
        x = x * torch.linspace(2, 0.01, 3040).flip(0).roll(40)[:, None]
    elif kind == "one feature outweighs the others":
        x[:, 0] *= 1e4
    elif kind == "heavy tails":
        x = x * torch.randn(3040, 1, generator=generator).exp() ** 2
    elif kind == "an outlier":
        x[1000] = 1e15
    elif kind == "an infinite norm":
        x[1000] = 1e30
    elif kind == "tiny":
        x = x * 1e-22
    elif kind == "halves apart":
        x[:, :32] += 1000 * (torch.arange(3040)[:, None] >= 1500)
    return x[:40], x[40:]


KINDS = (
    "normal",
    "clusters far from the mean",
    "near-copies",
    "near-copies beyond float32",
    "equal rows",
    "each nearer than those before",
    "one feature outweighs the others",
    "heavy tails",
    "an outlier",
    "an infinite norm",
    "tiny",
    "halves apart",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["as drawn", "nearest last"])
@pytest.mark.parametrize("dtypes", [[torch.bfloat16, torch.float32], [torch.float32]])
def test_hard_problems_equal_brute_force(kind, order, dtypes, monkeypatch):
    """Whatever the processor multiplies fast."""
    monkeypatch.setattr("novum.metrics.neighbours.screening_dtypes", lambda device: dtypes)
    queries, reference = hard_problem(kind)
    if order == "nearest last":
        reference = reference[squared_distances(queries[:1], reference).argsort(descending=True)]
    check_exact(queries, reference, 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bounds_of_candidates_hold(kind, dtype, monkeypatch):
    """No candidate is nearer than its bound, and no other row nearer than the cutoff."""
    monkeypatch.setattr(screening, "ROWS", 512)
    queries, reference = hard_problem(kind)
    squared = squared_distances(queries[:, None], reference[None])
    bounds, rows, cutoff = screening.find_candidates(
        queries, reference, 5, dtype=dtype, within=None, max_bytes=2**20
    )
    found = bounds < torch.inf
    if kind != "an infinite norm":
        assert found[:, :5].all()  # the running threshold shut no neighbour out
    assert (bounds.double() <= squared.gather(1, rows))[found].all()
    others = torch.ones_like(squared).scatter_(1, rows.where(found, rows[:, :1]), 0) > 0
    assert (squared >= cutoff[:, None])[others].all()


@pytest.mark.slow
@pytest.mark.parametrize("d", [8, 64, 512])
def test_bfloat16_settles_plain_features(normal, d):
    """Else every search would be done twice."""
    decay = torch.arange(1, d + 1) ** -0.5
    queries, reference = normal(200, d) * decay, normal(5000, d, seed=1) * decay
    _, _, cutoff = screening.find_candidates(
        queries, reference, 5, dtype=torch.bfloat16, within=None, max_bytes=2**27
    )
    kth = brute_force(queries, reference, 5)[0][:, -1] ** 2
    assert (cutoff > kth).double().mean() > 0.98


@pytest.mark.parametrize("size", [1e15, 1e30])
def test_one_huge_row_unsettles_no_query(normal, size):
    queries, reference = normal(50, 64), normal(5000, 64, seed=1)
    reference[1] = size  # every other row is sampled: not this one
    _, _, cutoff = screening.find_candidates(
        queries, reference, 5, dtype=torch.bfloat16, within=None, max_bytes=2**27
    )
    assert (cutoff > brute_force(queries, reference, 5)[0][:, -1] ** 2).double().mean() > 0.98


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest new tensor, views of `source` aside."""

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        self.source, self.nbytes = source.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() != self.source:
                self.nbytes = max(self.nbytes, x.nbytes)
        return result


@pytest.mark.slow
def test_a_mapped_reference_is_read_in_blocks(normal, tmp_path):
    """Nothing may touch more rows of the file at once than a block holds."""
    normal(20_000, 32).numpy().tofile(tmp_path / "reference")
    mapped = torch.from_file(str(tmp_path / "reference"), size=640_000).view(20_000, 32)
    whole = mapped.clone()
    whole[:5000] = whole[0]  # a crowd, so that the slow path runs as well
    mapped[:5000] = mapped[0].clone()
    expected = knn(whole[4990:5100], whole, 3)
    with LargestTensor(mapped) as largest:
        found = knn(mapped[4990:5100], mapped, 3, max_bytes=2**18)
    assert torch.equal(found.indices, expected.indices)
    assert largest.nbytes < 2**20 < mapped.nbytes / 2


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


@pytest.mark.slow
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
    reference, queries = normal(1000, 48), normal(200, 48, seed=1)
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


def test_tf32_by_the_newer_name_does_not_stop_a_search(normal):
    allowed = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        check_exact(normal(20, 64, seed=1), normal(500, 64), 3)
    finally:
        torch.backends.cuda.matmul.fp32_precision = allowed


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


def test_squared_distances_keep_no_other_memory(normal):
    squared = squared_distances(normal(10, 64), normal(10, 64, seed=1))
    assert squared.untyped_storage().nbytes() == squared.nbytes


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
