"""torchvision's edits: every one changes images, keeps their form and depends on its seed alone."""

import pytest
import torch

from novum.metrics.novelty.library_edits import CHAIN, edited_by_library, library_edits
from tests.metrics.novelty.scenes import scenes

FORMS = {"gray": (1, 28, 28), "small": (3, 32, 32), "wide": (3, 40, 64)}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def images(request):
    channels, height, width = request.param
    return scenes(6, 64)[:, :channels, :height, :width]


def test_edits_change_images_and_keep_their_form(images):
    edits = library_edits(len(images[0]), max(images.shape[-2:]))
    assert CHAIN in edits
    for edit in edits:
        edited = edited_by_library(images, edit, seed=3)
        assert edited.shape == images.shape and edited.dtype == torch.uint8, edit
        changed = (edited != images).flatten(1).any(1).sum()
        assert changed >= 4, edit  # channels can be permuted to what they were


def test_a_seed_gives_the_same_images_and_leaves_the_callers_draws_alone():
    images = scenes(4, 32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = edited_by_library(images, CHAIN, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(edited_by_library(images, CHAIN, seed=1), first)
    assert not torch.equal(edited_by_library(images, CHAIN, seed=2), first)


def test_images_of_a_chain_go_through_different_edits():
    image = scenes(1, 32).expand(12, -1, -1, -1)
    assert len(edited_by_library(image, CHAIN).flatten(1).unique(dim=0)) == 12


def test_gray_images_have_no_edits_of_colour_alone():
    assert not {"gray", "channels permuted"} & library_edits(1, 32).keys()
    assert {"gray", "channels permuted"} < library_edits(3, 32).keys()
