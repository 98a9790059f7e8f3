import pytest
import torch
from torch import nn
from torch.nn import functional as F

from novum.core.pretrained import efficientnet_lite
from novum.metrics.features import extract_features, load_extractor
from novum.metrics.features.efficientnet import EfficientNetLite0, pad_within


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def features(images):
    return extract_features(load_extractor("efficientnet_lite0"), images)


def test_equals_the_plain_network(images, features):
    network = efficientnet_lite("efficientnet_lite0")
    with torch.no_grad():
        x = F.interpolate(images.float(), (64, 64), mode="bilinear") / 127.5 - 1
        plain = network.forward_head(network.forward_features(x), pre_logits=True)
    assert features.shape == (40, 1280)
    assert (features - plain).norm() / plain.norm() < 1e-5


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 13), (5, 6)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_within_is_padding_before(size, kernel):
    from timm.layers.conv2d_same import Conv2dSame

    torch.manual_seed(0)
    network = nn.Sequential(
        Conv2dSame(4, 8, kernel, 2), nn.ReLU(), Conv2dSame(8, 8, 3, 2, groups=8)
    )
    x = torch.randn(2, 4, *size)
    wanted = network(x)
    found = pad_within(network)
    assert not any(isinstance(module, Conv2dSame) for module in found)
    torch.testing.assert_close(found(x), wanted)


def test_its_weights_are_trained_ones():
    """A red flower on green: ImageNet's class 985 is daisy."""
    from sklearn.datasets import load_sample_image

    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
    x = F.interpolate(flower.float(), (224, 224), mode="bilinear", antialias=True) / 127.5 - 1
    with torch.no_grad():
        assert int(efficientnet_lite("efficientnet_lite0")(x).argmax()) == 985


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(images, features, batch_size):
    extractor = load_extractor("efficientnet_lite0")
    assert torch.equal(extract_features(extractor, images, batch_size), features)


def test_spec_names_all_that_matters():
    spec = load_extractor("efficientnet_lite0").spec
    assert spec.startswith("efficientnet_lite0/pooled/bilinear-antialias-64/float32/weights-")
    assert "antialias-32/" in EfficientNetLite0(size=32).spec


def test_other_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not hold the weights of EfficientNet-Lite0"):
        efficientnet_lite("efficientnet_lite0", tmp_path / "w.pth")
