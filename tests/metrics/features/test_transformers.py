import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from novum.metrics.features.transformers import DinoV2, build_network, resize_positions


class TinyDino(DinoV2):
    MODEL = "vit_tiny_patch16_224"
    SIZE = 64


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_file(build_network("vit_tiny_patch16_224", 0, 64).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_features_are_the_networks(weights):
    extractor = TinyDino(feature_extractor_weights_path=weights)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(x)[:, None, None] for x in (DinoV2.MEAN, DinoV2.STD))
    expected = extractor.network((images / 255 - mean) / std)
    assert torch.allclose(extractor(images)[0], expected, atol=1e-4)
    assert extractor.spec.startswith("dinov2/class_token/bicubic-antialias-64/float32/weights-")


def test_small_images_are_resized(weights):
    extractor = TinyDino(feature_extractor_weights_path=weights)
    assert extractor(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))[0].shape == (2, 192)


def test_other_weights_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights of vit_tiny"):
        TinyDino(feature_extractor_weights_path=tmp_path / "other.safetensors")


def _state():
    positions = torch.randn(1, 1 + 4 * 4, 6)
    return {"pos_embed": positions, "patch_embed.proj.weight": torch.zeros(6, 3, 14, 14)}


def test_positions_are_resized_as_dinov2_does():
    torch.manual_seed(0)
    state = {
        "pos_embed": torch.randn(1, 1 + 16, 6),
        "patch_embed.proj.weight": torch.zeros(6, 3, 14, 14),
    }
    resized = resize_positions(state, 14 * 7)["pos_embed"]
    grid = state["pos_embed"][:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, scale_factor=(7.1 / 4, 7.1 / 4), mode="bicubic")
    assert torch.equal(resized[:, :1], state["pos_embed"][:, :1])
    assert torch.allclose(resized[:, 1:].reshape(7, 7, 6), expected[0].permute(1, 2, 0))


def test_positions_of_the_same_grid_stay():
    state = {
        "pos_embed": torch.randn(1, 17, 6),
        "patch_embed.proj.weight": torch.zeros(6, 3, 14, 14),
    }
    assert resize_positions(state, 56) is state
