import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from novum.metrics.features import extract_features, load_extractor
from novum.metrics.functional import frechet_distance_from_features


def some_images(n: int, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator).to(torch.uint8)


class Images(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def test_pixels_are_scaled_and_flat():
    images = some_images(5)
    features = extract_features(load_extractor("pixels"), images)
    assert torch.equal(features, images.flatten(1).float() / 255)


def test_gray_pixels_stay_one_channel():
    assert extract_features(load_extractor("pixels"), some_images(5, 1)).shape == (5, 256)


def test_resolution_is_part_of_name_and_spec():
    extractor = load_extractor("pixels@8")
    assert extract_features(extractor, some_images(3)).shape == (3, 3 * 8 * 8)
    assert load_extractor("pixels").spec == "pixels/native/float32"
    assert extractor.spec == "pixels/bilinear-antialias-8/float32"


def test_loaded_once():
    assert load_extractor("pixels") is load_extractor("pixels")


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(ValueError, match="no feature extractor 'inceptoin': did you mean 'incept"):
        load_extractor("inceptoin")
    with pytest.raises(
        ValueError, match="'xyz': there are inception, inception_bf16, dinov2, clip"
    ):
        load_extractor("xyz")
    with pytest.raises(ValueError, match="no feature extractor 'pixels@big'"):
        load_extractor("pixels@big")


def test_ours_work_in_torch_fidelity():
    real, fake = some_images(60, size=4), some_images(50, size=4, seed=1) // 2
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        feature_extractor="novum-pixels",
        fid=True,
        cuda=False,
        save_cpu_ram=True,
        verbose=False,
        cache=False,
    )["frechet_inception_distance"]
    pixels = load_extractor("pixels")
    ours = frechet_distance_from_features(
        extract_features(pixels, real), extract_features(pixels, fake)
    )
    assert ours == pytest.approx(theirs, rel=1e-6)


class Corner(FeatureExtractorBase):
    """Somebody else's, registered with torch-fidelity."""

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return ("other", "corner")

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "corner"

    def forward(self, x):
        assert x.shape[1] == 3
        return (x[:, :, 0, 0].float(),)


def test_theirs_work_here(monkeypatch):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "corner", Corner)
    extractor = load_extractor("corner")
    images = some_images(5, channels=1)
    assert extractor.spec.startswith("corner/corner/float32/weights-")
    assert torch.equal(
        extract_features(extractor, images), images[:, :, 0, 0].float().expand(-1, 3)
    )
