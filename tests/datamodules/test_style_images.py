import pytest
import torch
from PIL import Image

from novum.datamodules import StyleImageDataModule


def test_names_sizes_and_sources():
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg", "china.jpg"], [3, 1], size=32)
    assert data.contents.shape == (1, 3, 21, 32)
    assert data.styles[0].shape == (3, 427, 640)
    assert data.style_weights == [0.75, 0.25]
    assert data.titles == ["china-flower-china"]
    assert set(data.sources()) == set(data.fingerprints()) == {"china.jpg", "flower.jpg"}
    pairs = StyleImageDataModule(["china.jpg", "flower.jpg"], ["flower.jpg"], size=32)
    assert pairs.titles == ["0-china-flower", "1-flower-flower"]


def test_masks(tmp_path):
    half = Image.new("L", (640, 427))
    half.paste(255, (0, 0, 320, 427))
    half.save(tmp_path / "left.png")
    masks = [str(tmp_path / "left.png")] * 2
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg"] * 2, masks=masks, size=32)
    assert data.masks.shape == (2, 1, 21, 32)
    assert data.masks[..., :15].min() > 0.9 and data.masks[..., 17:].max() < 0.1
    with pytest.raises(ValueError, match="1 masks for 2 styles"):
        StyleImageDataModule(["china.jpg"], ["flower.jpg"] * 2, masks=masks[:1])
    Image.new("L", (64, 43)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="small.png is 64 x 43 px, its content china.jpg is 640 x"):
        StyleImageDataModule(["china.jpg"], ["flower.jpg"], masks=[str(tmp_path / "small.png")])
    Image.new("L", (640, 427)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="black.png is black"):
        StyleImageDataModule(["china.jpg"], ["flower.jpg"], masks=[str(tmp_path / "black.png")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contents": []}, "at least one"),
        ({"styles": ["nowhere.jpg"]}, "there is no image nowhere.jpg"),
        ({"style_weights": [1, 2]}, "2. for 1 styles"),
        ({"style_weights": [0]}, "not all 0"),
        ({"contents": ["china.jpg"] * 3, "styles": ["flower.jpg"] * 2}, "3 contents and 2 styles"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        StyleImageDataModule(**{"contents": ["china.jpg"], "styles": ["flower.jpg"], **settings})


def test_contents_at_once_have_one_shape(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "square.png")
    with pytest.raises(ValueError, match="contents that are done at once have one shape"):
        StyleImageDataModule(["china.jpg", str(tmp_path / "square.png")], ["flower.jpg"], size=32)
    assert torch.is_tensor(StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=None).contents)
