"""Pictures hold the right pixels in the right places."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from novum.report import pictures


def images(n=3, c=1, size=4):
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, c, size, size) * 10 + 5


def test_gray_becomes_rgb_in_channels_last_order():
    rgb = pictures.to_rgb(images(2, 1))
    assert rgb.shape == (2, 4, 4, 3)
    assert (rgb[1] == 15).all()
    colour = torch.stack([torch.full((2, 2), v, dtype=torch.uint8) for v in (1, 2, 3)])[None]
    assert pictures.to_rgb(colour)[0, 0, 0].tolist() == [1, 2, 3]


def test_enlarge_by_whole_numbers():
    big = pictures.enlarge(pictures.to_rgb(images(1)), at_least=10)
    assert big.shape == (1, 12, 12, 3)
    same = pictures.to_rgb(images(1))
    assert pictures.enlarge(same, at_least=4) is same


def test_tile_puts_images_row_by_row_with_gaps():
    sheet = pictures.tile(pictures.to_rgb(images(3)), columns=2, gap=1)
    assert sheet.shape == (11, 11, 3)
    assert (sheet[1:5, 1:5] == 5).all()
    assert (sheet[1:5, 6:10] == 15).all()
    assert (sheet[6:10, 1:5] == 25).all()
    assert (sheet[6:10, 6:10] == 255).all()  # no fourth image
    assert (sheet[0] == 255).all() and (sheet[5] == 255).all()


def test_encode_is_lossless_png_and_jpeg_when_large():
    sheet = pictures.tile(pictures.to_rgb(images(3)), columns=3)
    decoded = Image.open(io.BytesIO(pictures.encode(sheet)))
    assert decoded.format == "PNG"
    assert np.array_equal(np.asarray(decoded), sheet)
    large = np.zeros((1200, 1200, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(pictures.encode(large))).format == "JPEG"


def test_gif_loops_through_all_frames():
    frames = [np.full((8, 8, 3), v, dtype=np.uint8) for v in (0, 120, 240)]
    gif = Image.open(io.BytesIO(pictures.encode_gif(frames, seconds=3)))
    assert gif.format == "GIF"
    assert gif.n_frames == 3
    assert gif.info["loop"] == 0
    assert gif.info["duration"] == 1000


@pytest.mark.parametrize("captions", [(), [[], ["1.5", "a very long caption that is wide"]]])
def test_table_shows_every_image_whole(captions):
    columns = [pictures.to_rgb(images(2, size=8)), pictures.to_rgb(images(2, size=8) + 100)]
    sheet = np.asarray(
        pictures.captioned_table(columns, ["sample", "training\npixels"], captions, at_least=16)
    )
    for value in (5, 15, 105, 115):
        assert (sheet == value).all(2).sum() >= 16 * 16  # not clipped, not overdrawn


def test_rgba_is_shown_over_white():
    image = torch.tensor([[10, 200, 0, 255], [10, 200, 0, 0], [0, 100, 200, 51]]).to(torch.uint8)
    shown = pictures.to_rgb(image.T.reshape(1, 4, 1, 3))[0, 0]
    assert shown.tolist() == [[10, 200, 0], [255, 255, 255], [204, 224, 244]]


@pytest.mark.parametrize(
    ("count", "side", "heading"),
    [(3, 64, "held-out\npixels"), (5, 64, "training\nefficientnet_lite0"), (12, 64, "12.8k"),
     (5, 256, "training\nefficientnet_lite0")],
)  # fmt: skip
def test_captions_can_be_read_on_a_card_of_tensorboard(monkeypatch, count, side, heading):
    sizes = []
    load = pictures.ImageFont.load_default
    monkeypatch.setattr(
        pictures.ImageFont, "load_default", lambda size: sizes.append(size) or load(size)
    )
    columns = [np.zeros((2, side, side, 3), np.uint8)] * count
    sheet = pictures.captioned_table(columns, [heading] * count, [["1.23"] * 2] * count)
    assert sizes[0] * 350 / sheet.width >= 8  # pixels, as shown


def test_headings_are_parted_at_their_marks():
    columns = [np.zeros((1, 64, 64, 3), np.uint8)] * 2
    short, long = (
        pictures.captioned_table(columns, ["a", name]) for name in ("b", "efficientnet_lite0")
    )
    assert long.height > short.height and long.width < short.width + 20
