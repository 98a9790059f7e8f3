import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from novum.datamodules.sources.decode import ImageTransform, native_channels


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(mode: str, color, size=(4, 4)) -> Image.Image:
    return Image.new(mode, size, color)


@pytest.mark.parametrize(
    ("image", "kind", "rgb"),
    [
        (flat("L", 77), "PNG", (77, 77, 77)),
        (flat("1", 1), "PNG", (255, 255, 255)),
        (flat("RGB", (1, 2, 3)), "PNG", (1, 2, 3)),
        (flat("RGBA", (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (flat("RGBA", (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (flat("LA", (0, 128)), "PNG", (127, 127, 127)),
        (flat("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (flat("I;16", 257 * 100), "PNG", (100, 100, 100)),
        (flat("I;16", 65535), "TIFF", (255, 255, 255)),
        (flat("I", 257 * 100), "TIFF", (100, 100, 100)),
    ],
)
def test_every_mode_becomes_rgb_and_gray(image, kind, rgb):
    data = file_of(image, kind)
    color = ImageTransform(4, 3)(data)
    assert color.shape == (3, 4, 4) and color.dtype == torch.uint8
    assert color[:, 0, 0].tolist() == list(rgb)
    gray = ImageTransform(4, 1)(data)
    assert gray.shape == (1, 4, 4)
    assert gray[0, 0, 0] == flat("RGB", rgb).convert("L").getpixel((0, 0))


def test_palette_and_its_transparent_colour():
    image = flat("P", 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    opaque = ImageTransform(4, 3)(file_of(image))
    assert opaque[:, 0, 0].tolist() == [10, 20, 30] and opaque[:, 0, 1].tolist() == [200, 100, 50]
    cut_out = ImageTransform(4, 3)(file_of(image, transparency=0))
    assert cut_out[:, 0, 0].tolist() == [255] * 3 and cut_out[:, 0, 1].tolist() == [200, 100, 50]


def test_exif_orientation_is_honoured():
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 10)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = ImageTransform(4, 1)(file_of(image, exif=exif))
    assert torch.equal(turned[0], torch.from_numpy(np.array(image)).flip(0, 1))


@pytest.mark.parametrize("shape", [(40, 40), (64, 40), (41, 97), (5, 9)])
def test_shorter_side_is_resized_and_the_centre_cut(shape):
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint8)
    got = ImageTransform(16, 1)(smooth)
    image = F.center_crop(Image.fromarray(smooth), min(shape))
    want = F.pil_to_tensor(image.resize((16, 16), Image.Resampling.LANCZOS))
    assert (got.int() - want.int()).abs().max() <= 2  # a crop of whole pixels is half a pixel off


def test_same_size_is_left_alone(pictures):
    image = pictures(1)[0]
    assert torch.equal(ImageTransform(8, 3)(image), torch.from_numpy(image).permute(2, 0, 1))


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    assert (ImageTransform(8, 1)(stripes).int() - 127).abs().max() <= 10


def test_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 30):  # PIL warns at the first and raises at the second
        with pytest.raises(Exception, match="decompression bomb"):
            ImageTransform(4, 1)(file_of(flat("L", 0, (side, side))))


def test_float_pixels_are_refused():
    with pytest.raises(ValueError, match="32-bit float"):
        ImageTransform(4, 1)(file_of(flat("F", 0.5), "TIFF"))


def test_native_channels():
    assert native_channels(file_of(flat("L", 0))) == 1
    assert native_channels(file_of(flat("LA", (0, 0)))) == 1
    assert native_channels(file_of(flat("I;16", 0))) == 1
    assert native_channels(file_of(flat("P", 0))) == 3
    assert native_channels(file_of(flat("RGBA", 0))) == 3


def test_spec_tells_sizes_and_channels_apart():
    assert len({ImageTransform(s, c).spec for s in (8, 16) for c in (1, 3)}) == 4
