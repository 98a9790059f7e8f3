"""The published weights are a download, so these use one random set of them in both networks."""

import io

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from novum.metrics.features.inception import Inception, InceptionBFloat16, resize_as_tensorflow


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


@pytest.mark.slow
def test_features_are_torch_fidelitys(extractor, theirs, images):
    ours, (expected, logits) = extractor(images)[0], theirs(images)
    assert ((ours - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-6
    assert torch.allclose(extractor.logits(expected), logits, rtol=1e-5, atol=1e-6)


def test_spec(extractor):
    assert extractor.spec.startswith("inception/2048/tf1-bilinear-299/float32/weights-")


@pytest.mark.slow
def test_all_layers_for_torch_fidelity(weights, images):
    layers = ["logits", "64", "2048", "192", "logits_unbiased", "768"]
    extractor = Inception("novum-inception", layers, 0, weights)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", layers, weights)
    for ours, expected in zip(extractor(images[:2]), theirs(images[:2]), strict=True):
        assert ours.shape == expected.shape
        assert (ours - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("shape", [(32, 32), (1, 1), (28, 400), (299, 299)])
def test_resize_is_tensorflows(normal, shape):
    x = 100 * normal(6, shape[0] * shape[1]).view(2, 3, *shape)
    expected = interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False)
    assert torch.equal(resize_as_tensorflow(x, 299), expected)


def test_more_images_than_go_at_a_time(extractor, images):
    many = images.repeat(5, 1, 1, 1)
    features = extractor(many)[0]
    assert features.shape == (20, 2048)
    assert torch.allclose(features, extractor(images)[0].repeat(5, 1), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_and_named(weights, extractor, images):
    half = InceptionBFloat16(feature_extractor_weights_path=weights)
    features, expected = half(images)[0], extractor(images)[0]
    assert features.dtype == half.logits(features).dtype == torch.float32
    assert 1e-5 < (features - expected).norm() / expected.norm() < 0.01
    assert half.spec == extractor.spec.replace("float32", "bfloat16")


def test_gray_images(extractor, images):
    gray = images[:2, :1]
    assert torch.equal(extractor(gray)[0], extractor(gray.repeat(1, 3, 1, 1))[0])


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="inception takes 299 px images, not 64"):
        Inception(size=64)
