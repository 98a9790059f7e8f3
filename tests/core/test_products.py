import pytest
import torch
from torch import Tensor

from novum.core.products import SMALLEST, row_products


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5, 4), (130, 257, 70), (1, 2**18, 5)])
def test_products_of_rows(shape, dtype):
    n, d, m = shape
    a, b = normal(n, d).to(dtype), normal(m, d, seed=1).to(dtype)
    expected = a.double() @ b.double().T
    bound = d * torch.finfo(dtype).eps * (a.double().abs() @ b.double().abs().T)
    assert ((row_products(a, b) - expected).abs() <= bound).all()


def test_large_and_small_products_agree_where_sums_are_exact():
    a, b = ((8 * normal(120, 100, seed)).round() for seed in (0, 1))
    assert 120 * 120 * 100 > SMALLEST > 10 * 10 * 100
    assert row_products(a, b)[:10, :10].equal(row_products(a[:10], b[:10]))


def test_rows_of_any_layout_and_of_leaves_with_gradients():
    a, b = normal(100, 130).T.requires_grad_(), normal(90, 200)[:, ::2]
    with torch.inference_mode():
        assert row_products(a, b).isclose(a @ b.T, rtol=1e-4, atol=1e-4).all()
    assert not row_products(a, b).requires_grad


def test_what_is_not_a_number_stays_in_its_row_and_column():
    a, b = normal(120, 100), normal(110, 100, seed=1)
    a[3, 7], b[5, 2] = torch.nan, torch.inf
    found = row_products(a, b).isfinite()
    expected = torch.ones(120, 110, dtype=torch.bool)
    expected[3], expected[:, 5] = False, False
    assert found.equal(expected)
