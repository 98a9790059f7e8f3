"""Exhibits of the page: training images brought onto the samples that copy them."""

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from novum.evaluation.evidence import lay_over
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.pool import pool_of_items
from tests.metrics.novelty.scenes import scenes

SIZES = {"square": (96, 96), "wide": (72, 120)}


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def train(request):
    height, width = request.param
    return scenes(40, 120)[..., :height, :width].contiguous()


def detected(kind, train, samples):
    if kind == "local":
        pool = pool_of_items(torch.arange(len(train)), len(train), 0)
        detector = LocalCopyDetector(train, None, pool=pool, progress=False)
    else:
        detector = AlteredCopyDetector(train, progress=False)
    return detector.search(samples)


@pytest.mark.parametrize("kind", ["local", "alignment"])
def test_images_are_brought_onto_their_mirrored_and_cropped_copies(kind, train):
    height, width = train.shape[-2:]
    crops = train[:6, :, height // 8 :, : -width // 8]
    samples = TF.resize(crops, [height, width], antialias=True).flip(-1)
    found = detected(kind, train, samples)
    rows = torch.arange(6)
    assert torch.equal(found.items[:, 0], rows)
    placed = found.placed(rows, torch.zeros(6).long())
    laid = lay_over(samples, train[:6], placed)
    apart = (laid.float() - samples.float()).abs().mean((1, 2, 3))
    plain = (train[:6].float() - samples.float()).abs().mean((1, 2, 3))
    assert (apart < 0.25 * plain).all()
    _, on_train = placed.outlines()
    box = torch.tensor([[-1, -0.75], [0.75, -0.75], [0.75, 1], [-1, 1]])
    assert (on_train - box).abs().amax() < 0.12


def test_parts_of_wide_images_are_described_in_their_own_measures(train):
    height, width = train.shape[-2:]
    turned = TF.rotate(train[:4], 30, TF.InterpolationMode.BILINEAR)
    found = detected("local", train, turned)
    assert found.items[:, 0].tolist() == [0, 1, 2, 3]
    angles = [int(found.transform(i).split("°")[0].removeprefix("rotated ")) for i in range(4)]
    assert all(abs(angle + 30) <= 2 for angle in angles), angles
