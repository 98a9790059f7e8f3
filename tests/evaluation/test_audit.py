"""What is said of the sets before any figure is the case."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from novum.cli import evaluate
from novum.datamodules.resolve_source import Opened, open_images
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.audit import add_audit, audit_caveats, row_digests
from novum.evaluation.image_sets import Sets
from novum.evaluation.request import Request
from novum.report.model import Overlap, Report
from novum.report.schema import dump, parse, read_report


def pictures(n: int, seed: int = 0, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def array(images: np.ndarray, where: str = "x") -> Opened:
    return Opened(where, ImageArray(torch.from_numpy(images).permute(0, 3, 1, 2)), None)


def audited(samples: Opened, train: Opened | None = None, heldout: Opened | None = None) -> Report:
    report = Report()
    sets = Sets(samples, train or array(pictures(20, 1)), heldout)
    add_audit(report, sets, Request(samples="x"))
    return report


def folder(path: Path, images: np.ndarray) -> Path:
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:03d}.png")
    return path


def samples(path: Path) -> Opened:
    return open_images(str(path), "samples")


def test_equal_images_are_counted_in_each_set_and_between_each_pair():
    train, heldout, fresh = pictures(20, 1), pictures(10, 2), pictures(6, 3)
    heldout[:4] = train[[0, 0, 5, 6]]
    made = np.concatenate([fresh, fresh[:2], train[[5, 7, 7]], heldout[[8]]])
    report = audited(array(made), array(train), array(heldout))
    assert report.overlap == Overlap(train_heldout=4, train_samples=3, heldout_samples=2)
    duplicates = {name: audit.duplicates for name, audit in report.audit.items()}
    assert duplicates == {"samples": 3, "train": 0, "heldout": 1}
    assert "Held-out images: 1 of 10 equal an earlier one." in report.notes


def test_one_changed_pixel_is_another_image():
    train = pictures(5)
    made = train.copy()
    made[:, 7, 7, 2] ^= 1
    assert audited(array(made), array(train)).overlap == Overlap(train_samples=0)


def test_no_heldout_images():
    report = audited(array(pictures(5)))
    assert report.overlap == Overlap(None, 0, None) and set(report.audit) == {"samples", "train"}


@pytest.mark.parametrize("budget", [10, 1e9])
def test_digests_are_those_of_the_pixels_however_they_are_read(budget, tmp_path, monkeypatch):
    monkeypatch.setattr("novum.datamodules.resolve_source.MEMORY_BUDGET", budget)
    monkeypatch.setattr("novum.evaluation.audit.BLOCK_BYTES", 500)
    images = pictures(30)
    images[3] = images[17]
    rows, lowest, highest = row_digests(samples(folder(tmp_path / "x", images)).images)
    whole, *ends = row_digests(array(images).images)
    assert np.array_equal(rows, whole) and [lowest, highest] == ends == [0, 255]
    assert len(np.unique(rows)) == 29 and rows[3] == rows[17]


def test_gray_and_small_images_among_others_are_named(tmp_path, capsys):
    path = folder(tmp_path / "x", pictures(12))
    Image.new("L", (8, 8), 9).save(path / "000.png")
    Image.new("RGB", (4, 4)).save(path / "005.png")
    report = audited(samples(path))
    audit = report.audit["samples"]
    assert audit.modes == {"RGB": 11, "L": 1} and audit.sizes == {"8 x 8": 11, "4 x 4": 1}
    assert (audit.read, audit.files, audit.resized, audit.gray_in_colour) == (12, 12, 1, 1)
    assert audit.examples == {"resized": ["005.png"], "gray_in_colour": ["000.png"]}
    line = capsys.readouterr().out.splitlines()[0]
    assert line == (
        f"samples: 12 images of 8 x 8 in colour from {path};"
        " 1 of other sizes resized (005.png); 1 gray shown in colour (000.png)"
    )
    said = " ".join(report.notes)
    assert "1 of 12 are not of the commonest size" in said and "1 of 12 are gray" in said


def test_what_is_left_out_is_printed_with_its_reason(tmp_path, capsys):
    path = folder(tmp_path / "x", pictures(4))
    for i in range(6):
        (path / f"{i}.heic").write_bytes(b"x")
    (path / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match="left out"):
        report = audited(samples(path))
    audit = report.audit["samples"]
    assert audit.left_out == {".heic cannot be decoded": 6, "no images": 1}
    assert audit.examples[".heic cannot be decoded"] == ["0.heic", "1.heic", "2.heic"]
    line = capsys.readouterr().out.splitlines()[0]
    assert line.endswith("; left out 7: 6 .heic cannot be decoded, 1 no images")
    (caveat,) = report.notes
    assert caveat.startswith("Samples: left out 6: 6 .heic cannot be decoded (0.heic, ")


def test_frames_are_counted(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    for k in range(2):
        first, *more = map(Image.fromarray, pictures(5, k))
        first.save(tmp_path / "x" / f"{k}.tiff", save_all=True, append_images=more)
    audit = audited(samples(tmp_path / "x")).audit["samples"]
    assert (audit.read, audit.files, audit.frames) == (10, 2, 10)
    assert "10 are frames or pages, from 2 files in all" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("bits", "factor"), [(12, 16), (10, 64)])
def test_few_bits_in_16(suffix, bits, factor, tmp_path):
    (tmp_path / "x").mkdir()
    values = np.random.default_rng(0).integers(0, 2**bits, (4, 8, 8)).astype(np.uint16)
    values[0, 0, 0] = 2**bits - 2
    values[values == 2**bits - 1] = 0
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / "x" / f"{i}.{suffix}")
    report = audited(samples(tmp_path / "x"), array(pictures(4)))
    assert report.audit["samples"].stored_highest == 2**bits - 2
    (caveat,) = report.notes
    assert f"the largest value of the 16-bit images is {2**bits - 2:,} of 65,535" in caveat
    assert f"data of {bits} bits, multiply it by {factor} before" in caveat
    for i, image in enumerate(values):
        Image.fromarray(image * factor).save(tmp_path / "x" / f"{i}.{suffix}")
    assert audited(samples(tmp_path / "x")).notes == []


def test_small_values_of_8_bits_are_a_caveat_too(tmp_path):
    path = folder(tmp_path / "x", pictures(4) // 16)
    assert "the largest value of all images is 15 of 255" in audited(samples(path)).notes[0]
    path = folder(tmp_path / "y", np.full((4, 8, 8), 7, np.uint8))
    assert "every pixel of every image is 7" in audited(samples(path)).notes[0]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_zeros_and_ones_stop(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    (np.savez if suffix == "npz" else np.save)(path, pictures(4) // 128)
    with pytest.raises(ValueError, match=rf"x\.{suffix} holds values from 0 to 1, .* \* 255"):
        audited(samples(path))


def test_ordinary_sets_have_no_caveats():
    report = audited(array(pictures(4)), array(pictures(5, 1)), array(pictures(5, 2)))
    assert report.notes == [] == audit_caveats(report.audit, report.overlap)


def test_it_is_written_and_read_back(tmp_path):
    path = folder(tmp_path / "x", pictures(4))
    Image.new("L", (4, 4)).save(path / "000.png")
    report = audited(samples(path), heldout=array(pictures(5, 2)))
    content = json.loads(json.dumps(dump(report)))
    assert set(content["audit"]) == {"samples", "train", "heldout", "overlap"}
    assert {"read", "left_out", "duplicates", "modes", "sizes", "frames", "lowest", "highest"} <= (
        set(content["audit"]["samples"])
    )
    assert content["audit"]["overlap"] == {
        "train_heldout": 0, "train_samples": 0, "heldout_samples": 0,
    }  # fmt: skip
    read = parse(content)
    assert (read.audit, read.overlap) == (report.audit, report.overlap)
    del content["audit"]
    assert parse(content).audit == {} and parse(content).overlap is None


def test_the_commonest_of_many_sizes_are_listed(tmp_path):
    (tmp_path / "x").mkdir()
    for i in range(24):
        side = 8 if i < 10 else i
        Image.new("RGB", (side, side), (i, 200, 0)).save(tmp_path / "x" / f"{i}.png")
    sizes = audited(samples(tmp_path / "x")).audit["samples"].sizes
    assert len(sizes) == 9 and sizes["8 x 8"] == 10 and sizes["other"] == 7


@pytest.fixture
def sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "made", pictures(30))
    for name, seed in (("train", 1), ("heldout", 2)):
        np.save(f"{name}.npy", pictures(40, seed))


ARGUMENTS = ["--train", "train.npy", "--heldout", "heldout.npy", "--features", "pixels"]


def test_evaluate_prints_it_before_any_number_and_writes_it(sets, capsys):
    Image.fromarray(np.load("train.npy")[3]).save("made/000.png")
    evaluate.main(["--samples", "made", *ARGUMENTS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "samples: 30 images of 8 x 8 in colour from made",
        "train: 40 images of 8 x 8 in colour from train.npy",
        "heldout: 40 images of 8 x 8 in colour from heldout.npy",
        "overlap: 1 of 30 samples equal a training image",
    ]
    report = read_report(Path("evaluation/report.json"))
    assert report.overlap == Overlap(0, 1, 0) and report.audit["samples"].read == 30


def test_options_of_the_data_module_are_options_here(sets, capsys):
    Path("made/000.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--samples", "made", *ARGUMENTS])
    assert stopped.value.code == 2 and "--on-bad-image skip" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="skipped 1 of 30"):
        evaluate.main(["--samples", "made", *ARGUMENTS, "--on-bad-image", "skip"])
    assert "29 images of 8 x 8" in (out := capsys.readouterr().out)
    assert "left out 1: 1 cannot be read" in out
    for option in ("--image-column", "--split"):
        with pytest.raises(SystemExit) as stopped:
            evaluate.main(["--samples", "made", *ARGUMENTS, option, "test"])
        assert stopped.value.code == 2
        assert f"{option}: no set is a table or an archive" in capsys.readouterr().err


def test_text_takes_no_options_of_images(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--kind", "text", "--samples", "x", "--image-column", "x"])
    assert stopped.value.code == 2 and "are of images" in capsys.readouterr().err
