"""Path length against closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from novum.metrics.functional import perceptual_path_length
from novum.metrics.functional.path_length import lerp, slerp


def squared(a, b):
    return (a.double() - b.double()).square().sum((1, 2, 3))


def as_images(x):
    return x.double()[:, :, None, None]


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_has_its_distance_as_path_length(sampling):
    """x = w: every step is epsilon * (end - start)."""
    torch.manual_seed(0)
    starts, ends = torch.randn(2, 500, 6, dtype=torch.float64)
    found = perceptual_path_length(as_images, squared, starts, ends, sampling=sampling)
    lengths = (ends - starts).square().sum(1).sort().values
    assert found.value == pytest.approx(float(lengths[4:-4].mean()), rel=1e-6)
    assert found.low < found.value < found.high


def test_in_z_paths_are_arcs():
    """x = z / |z|: a step is epsilon * the angle between start and end."""
    torch.manual_seed(0)
    starts, ends = torch.randn(2, 300, 6, dtype=torch.float64)
    found = perceptual_path_length(as_images, squared, starts, ends, space="z")
    angles = torch.cosine_similarity(starts, ends).acos().square().sort().values
    assert found.value == pytest.approx(float(angles[2:-2].mean()), rel=1e-3)


def test_extreme_steps_are_left_out():
    starts = torch.zeros(200, 1, dtype=torch.float64)
    ends = torch.ones(200, 1, dtype=torch.float64)
    ends[0] = 1e6
    assert perceptual_path_length(as_images, squared, starts, ends).value == pytest.approx(1)


def test_batches_do_not_matter():
    torch.manual_seed(0)
    starts, ends = torch.randn(2, 50, 3, 4, dtype=torch.float64)  # styles of three layers

    def decode(ws):
        return ws.sin().sum(1)[:, :, None, None]

    lengths = [
        perceptual_path_length(decode, squared, starts, ends, batch_size=b).value for b in (7, 64)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)


@given(st.floats(0, 1))
def test_interpolations_start_and_end_where_they_should(t):
    a, b = torch.randn(2, 3, 5, dtype=torch.float64)
    at = torch.full((3,), t, dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, at).norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(slerp(a, b, at * 0 + 1), b / b.norm(dim=1, keepdim=True))
    torch.testing.assert_close(lerp(a, b, at), a + t * (b - a))


def test_unequal_ends_are_refused():
    with pytest.raises(ValueError, match="two or more pairs"):
        perceptual_path_length(as_images, squared, torch.zeros(3, 2), torch.zeros(2, 2))
