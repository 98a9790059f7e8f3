"""Projection, directions and ranges of styles."""

import pytest
import torch

from novum.lightning_modules.stylegan.style_space import (
    directions,
    project,
    pyramid_distance,
)
from novum.report.style_grids import style_ranges
from tests.tiny import tiny_stylegan


def generator():
    g = tiny_stylegan().ema.eval()
    torch.manual_seed(1)
    g.mapping.layers[1].weight.data.mul_(3)
    return g


@pytest.mark.parametrize("space", ["w", "w+"])
def test_generated_images_are_found_again(space):
    g = generator()
    with torch.no_grad():
        images = g(torch.randn(3, 4))
    start = project(g, images, space=space, steps=1, lr=1e-6).distance
    found = project(g, images, space=space, steps=150)
    assert found.ws.shape == (3, g.num_styles, 4)
    assert (found.distance < 0.1 * start).all()
    assert torch.equal(found.distance, pyramid_distance(found.images, images))
    if space == "w":
        assert torch.equal(found.ws, found.ws[:, :1].expand_as(found.ws))


def test_projection_leaves_the_generator_as_it_is():
    g = tiny_stylegan().generator
    before = {k: v.clone() for k, v in g.state_dict().items()}
    project(g, torch.zeros(1, 1, 8, 8), steps=3)
    assert all(torch.equal(before[k], v) for k, v in g.state_dict().items())
    assert all(p.requires_grad for p in g.parameters())


def test_pyramid_distance_of_flat_images():
    a, b = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    assert torch.equal(pyramid_distance(a, b), torch.zeros(2))
    assert pyramid_distance(a, b + 0.5).shape == (2,)


def test_directions_are_those_that_move_styles_most():
    g = generator()
    for block in g.synthesis.blocks:  # one axis of w does nearly everything
        for layer in filter(None, (block.up, block.layer)):
            layer.affine.weight.data[:, 2] *= 50
    found, values = directions(g, 4)
    torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-5, rtol=0)
    assert float(found[0, 2]) > 0.99
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    coarse, _ = directions(g, 2, layers=range(1))
    assert coarse.shape == (2, 4)


@pytest.mark.parametrize(
    "size,expected",
    [(8, [(0, 1), (1, 4)]), (32, [(0, 3), (3, 5), (5, 8)]), (1024, [(0, 5), (5, 11), (11, 18)])],
)
def test_style_ranges(size, expected):
    num_styles = 2 * (size.bit_length() - 1) - 2
    assert [(r.start, r.stop) for r in style_ranges(num_styles).values()] == expected
