"""The published weights are a download, so these use one random set of them in both networks."""

import io

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from novum.metrics.features.inception import Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], empty)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or name.endswith("bn.weight"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean") or name.endswith("bn.bias"):
            tensor.uniform_(-0.5, 0.5)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def extractor(weights):
    return Inception(feature_extractor_weights_path=weights)


@pytest.fixture(scope="module")
def theirs(weights):
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], weights)


def test_features_are_torch_fidelitys(extractor, theirs, images):
    ours, (expected, logits) = extractor(images)[0], theirs(images)
    assert (ours - expected).norm() / expected.norm() < 1e-5
    assert torch.allclose(extractor.logits(expected), logits, rtol=1e-5, atol=1e-6)


def test_spec(extractor):
    assert extractor.spec.startswith("inception/2048/tf1-bilinear-299/float32/weights-")


def test_other_layers_for_torch_fidelity(weights, theirs, images):
    extractor = Inception("novum-inception", ["logits_unbiased"], 0, weights)
    assert torch.allclose(extractor(images)[0], theirs(images)[1], rtol=1e-4, atol=1e-5)


def test_gray_images(extractor, images):
    gray = images[:2, :1]
    assert torch.equal(extractor(gray)[0], extractor(gray.repeat(1, 3, 1, 1))[0])


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="inception takes 299 px images, not 64"):
        Inception(size=64)
