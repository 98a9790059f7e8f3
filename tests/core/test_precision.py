import pytest
import torch

from novum.core.precision import full_precision

CPU = torch.device("cpu")
BACKENDS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,
)


def precisions() -> list[str]:
    return [backend.fp32_precision for backend in BACKENDS]


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    for backend in BACKENDS:
        backend.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


def set_by_older_names() -> None:
    torch.set_float32_matmul_precision("medium")


def set_by_newer_names() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"


@pytest.mark.parametrize("allow", [set_by_older_names, set_by_newer_names])
def test_what_the_caller_allows_is_lifted_and_restored(allow):
    allow()
    before = precisions()
    with pytest.raises(KeyError), full_precision(CPU):
        assert "tf32" not in precisions() and "bf16" not in precisions()
        raise KeyError
    assert precisions() == before
    if allow is set_by_older_names:  # which the caller can read still
        assert torch.get_float32_matmul_precision() == "medium"


def test_products_under_autocast_are_float32():
    x = torch.randn(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(CPU):
            found = x @ x
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(found, x @ x)


def test_the_older_names_can_be_read_inside():
    with full_precision(CPU):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
