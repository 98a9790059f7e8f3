import pytest
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from novum.metrics.features import FeatureExtractor, as_uint8, extract_features


class MeanColour(FeatureExtractor):
    spec = "mean-colour"

    def __init__(self) -> None:
        super().__init__("mean-colour")
        self.calls: list[int] = []

    def features(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return images.mean((2, 3))


class Source:
    """Images that are only ever read by slices."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Tensor:
        assert isinstance(rows, slice) and rows.stop <= len(self)
        return self.images[rows]


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (70, 3, 8, 8), generator=generator).to(torch.uint8)


def test_extracts_from_anything_sliced(images):
    features = extract_features(MeanColour(), Source(images), batch_size=16)
    assert features.dtype == torch.float32 and features.device.type == "cpu"
    assert torch.allclose(features, images.float().mean((2, 3)))
    assert torch.equal(extract_features(MeanColour(), images), features)


def test_any_module_will_do(images):
    plain = torch.nn.Sequential(torch.nn.Flatten())
    assert torch.equal(extract_features(plain, images), images.flatten(1).float())


def test_every_forward_has_one_shape(images):
    extractor = MeanColour()
    extract_features(extractor, images, batch_size=50)
    assert extractor.calls == [32, 32, 32]


def test_features_take_part_in_training_code(images):
    features = extract_features(MeanColour(), images)
    features += 1  # an inference tensor would refuse
    assert not features.is_inference() and not features.requires_grad


def test_fills_what_it_is_given(images):
    out = torch.zeros(70, 3)
    assert extract_features(MeanColour(), images, out=out) is out
    assert torch.allclose(out, images.float().mean((2, 3)))


def test_gray_is_repeated(images):
    gray = images[:, :1]
    features = extract_features(MeanColour(), gray)
    assert torch.equal(features, extract_features(MeanColour(), gray.repeat(1, 3, 1, 1)))


def test_floats_in_0_1_agree_with_bytes(images):
    floats = images / 255
    assert torch.equal(as_uint8(floats), images)
    assert torch.equal(
        extract_features(MeanColour(), floats), extract_features(MeanColour(), images)
    )


def test_floats_are_rounded_not_truncated():
    assert as_uint8(torch.tensor([0.0, 0.999 / 255, 1.6 / 255, 1.0])).tolist() == [0, 1, 2, 255]


def test_floats_of_another_range_are_refused():
    with pytest.raises(ValueError, match=r"float images lie in \[-1, 1\]: rescale"):
        as_uint8(torch.tensor([-1.0, 1.0]))
    with pytest.raises(ValueError, match="rescale"):
        as_uint8(torch.tensor([0.0, torch.nan]))


def test_integers_are_refused():
    with pytest.raises(ValueError, match="got torch.int64"):
        as_uint8(torch.tensor([1, 2]))


def test_other_channel_counts_are_refused():
    with pytest.raises(ValueError, match=r"\(n, 1 or 3, h, w\), got uint8 \(32, 4, 8, 8\)"):
        extract_features(MeanColour(), torch.zeros(5, 4, 8, 8, dtype=torch.uint8))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        extract_features(MeanColour(), torch.zeros(0, 3, 8, 8, dtype=torch.uint8))


def test_autocast_around_it_does_not_matter(images):
    class Linear(MeanColour):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = torch.nn.Linear(192, 4)

        def features(self, images: Tensor) -> Tensor:
            return self.linear(images.flatten(1))

    plain = extract_features(Linear(), images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(extract_features(Linear(), images), plain)


def test_is_torch_fidelitys_base():
    extractor = MeanColour()
    assert isinstance(extractor, FeatureExtractorBase)
    assert extractor.get_provided_features_list() == ("features",)
    assert extractor.get_default_feature_layer_for_metric("fid") == "features"
