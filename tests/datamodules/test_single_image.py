import numpy as np
import pytest
import torch
from PIL import Image

from novum.core.errors import InputError
from novum.datamodules import SingleImageDataModule
from novum.datamodules.single_image import read_image


def test_embedded_images_and_noise():
    assert read_image("china.jpg").shape == (3, 427, 640)
    assert read_image("flower.jpg", size=64).shape == (3, 43, 64)
    noise = read_image("noise", size=32, seed=1)
    assert noise.shape == (3, 32, 32) and noise.dtype == torch.uint8
    assert torch.equal(noise, read_image("noise", size=32, seed=1))
    assert not torch.equal(noise, read_image("noise", size=32, seed=2))


def test_a_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5, 4), "red").save("china.jpg")
    assert read_image("china.jpg").shape == (3, 4, 5)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(str(tmp_path / "x.jpg")).shape == (3, 6, 3)


def test_sixteen_bits_cmyk_palette_and_transparency(tmp_path):
    gray = np.full((4, 4), 257 * 100, dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert read_image(str(tmp_path / "gray.png")).unique().tolist() == [100]
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cmyk.tif")
    assert read_image(str(tmp_path / "cmyk.tif"))[:, 0, 0].tolist() == [0, 255, 255]
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(str(tmp_path / "clear.png")).unique().tolist() == [255]
    Image.new("P", (4, 4)).save(tmp_path / "palette.gif")
    assert read_image(str(tmp_path / "palette.gif")).shape == (3, 4, 4)


def test_sizes_keep_the_proportions(tmp_path):
    Image.new("RGB", (1000, 3)).save(tmp_path / "strip.png")
    assert read_image(str(tmp_path / "strip.png"), size=100).shape == (3, 1, 100)
    with pytest.raises(ValueError, match="size is 0"):
        read_image("noise", size=0)


def test_bombs_are_refused_by_their_size(tmp_path, monkeypatch):
    Image.new("1", (400, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(ValueError, match="bomb.png is too large .*120000 pixels.*100000 pixels"):
        read_image(str(tmp_path / "bomb.png"))


def test_mistakes_are_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no image chna.jpg: .*did you mean china.jpg"):
        read_image("chna.jpg")
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(ValueError, match="x.png is not a readable image") as error:
        read_image(str(tmp_path / "x.png"))
    assert "\n" not in str(error.value)


def test_the_data_module_gives_steps_and_references():
    data = SingleImageDataModule("flower.jpg", guide="china.jpg", size=32, guide_size=16)
    assert len(data.train_reference()) == 1
    assert data.train_reference().shape == (3, 21, 32)
    assert data.guide_reference().shape == (3, 11, 16)
    assert SingleImageDataModule(size=32).guide_reference() is None
    assert len(data.train_reference().fingerprint) == 64
    assert next(iter(data.train_dataloader())) == 0


def test_a_size_that_does_not_fit_is_refused_with_one_that_does():
    with pytest.raises(InputError, match=r"an image of 9999999 px takes about .* give a size of"):
        read_image("china.jpg", 9_999_999)
