"""Reference bundles: judging with one gives what judging with the images gives, or one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import novum
from novum.cli.evaluate import main
from novum.core.errors import InputError
from novum.core.tensor_file import read_arrays, write_arrays
from novum.datamodules import ImageDataModule
from novum.datamodules.sources.reference_bundle import open_bundle
from novum.evaluation.api import save_reference
from novum.evaluation.request import Request
from novum.metrics.features.extraction import fingerprint
from tests.tiny import tiny_gan

NETWORK = "efficientnet_lite0@32"
SPACES = f"{NETWORK},pixels@16,pixels@2,alignment,local"  # moments of pixels@2 are held
NAMES = ("samples", "train", "heldout")


@pytest.fixture(scope="module")
def digits():
    """Digits as they are (8 px), and at 40 px, shuffled."""
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    found = {}
    for side in (8, 40):
        data = ImageDataModule("digits", image_size=side)
        images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
        found[side] = images[order[:160]]
    return found


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("novum.evaluation.images.PLANTED", 1)


def write_sets(images: torch.Tensor) -> None:
    """20 samples of which 8 are copies, 80 training and 60 held-out images, in files."""
    train, heldout = images[:80], images[80:140]
    samples = torch.cat([images[140:152], train[:8]])
    for name, side in zip(NAMES, (samples, train, heldout), strict=True):
        np.save(f"{name}.npy", side.numpy())


def save(file: str = "refs.safetensors", **options) -> Path:
    given = {"samples": None, "train": "train.npy", "heldout": "heldout.npy", "quiet": True}
    save_reference(Request(save_reference=Path(file), **{**given, **options}))
    return Path(file)


def hide_images() -> None:
    for name in ("train", "heldout"):
        Path(f"{name}.npy").unlink()


def figures(report: novum.Report) -> dict:
    """A report but for places, cost, origin, and what is said of a bundle."""
    content = json.loads(report.to_json())
    for key in ("cost", "made_by", "notes"):
        content.pop(key, None)
    for side in ("train", "heldout"):
        content[side].pop("path")
    return content


@pytest.mark.parametrize("side", [8, 40])
def test_a_bundle_judges_as_the_images_do(side, digits, monkeypatch, tmp_path):
    write_sets(digits[side])
    features = SPACES.split(",")
    save(features=features)
    expected = novum.evaluate(*(f"{name}.npy" for name in NAMES), features=features)
    hide_images()
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "another"))
    report = novum.evaluate("samples.npy", "refs.safetensors", features=features)
    assert figures(report) == figures(expected)
    assert len(report.facts) == 8 and len(report.power) > 10
    assert expected.notes == [note for note in report.notes if "thumbnails" not in note]
    assert any("thumbnails" in note for note in report.notes) == (side > 32)


def test_redacted_holds_no_picture_and_no_name(digits, monkeypatch, tmp_path):
    for name, images in (("train", digits[40][:30]), ("heldout", digits[40][30:60])):
        Path(name).mkdir()
        for i, image in enumerate(images[:, 0].numpy()):
            Image.fromarray(image).save(f"{name}/patient-{i:02d}.png")
    np.save("samples.npy", digits[40][20:50].numpy())
    sides = {"train": "train", "heldout": "heldout"}
    path = save(**sides, redacted=True, features=[NETWORK])
    assert b"patient" not in path.read_bytes()
    described, arrays = read_arrays(path)
    assert {name.split("/")[1] for name in arrays if "/" in name} == {"hashes", NETWORK}
    expected = novum.evaluate("samples.npy", **sides, features=NETWORK)
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "another"))
    report = novum.evaluate("samples.npy", str(path), output="out")  # spaces as those of the file
    assert report.features == expected.features and report.finding.value == "copying"
    assert [fact.sample for fact in report.facts] == [fact.sample for fact in expected.facts]
    assert "patient" not in Path("out/report.html").read_text()
    assert any("gray squares" in note for note in report.notes)
    with pytest.raises(InputError, match="alignment cannot be judged"):
        novum.evaluate("samples.npy", str(path), features="alignment")


def test_what_is_left_out_is_said(digits, capsys):
    write_sets(digits[40])
    save(redacted=True)
    capsys.readouterr()
    main(["samples.npy", "refs.safetensors"])
    out = capsys.readouterr().out
    report = json.loads(Path("evaluation/report.json").read_text())
    page = Path("evaluation/report.html").read_text()
    for name in ("pixels", "alignment", "local"):
        why = "the bundle was made with --redacted and holds no pictures"
        assert f"left out: {name}: {why}" in out
        assert f"{name}: not judged: {why}." in report["notes"]
        assert f"{name}: not judged: {why}." in page
    assert list(report["features"]) == ["efficientnet_lite0"]


def mend(path: Path, change) -> Path:
    """The bundle with another description or other arrays, and digests that fit."""
    described, arrays = read_arrays(path)
    kept = {name: array.numpy().copy() for name, array in arrays.items()}
    change(described, kept)
    write_arrays(path, {name: [array] for name, array in kept.items()}, described)
    return path


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """Folder of the sets, and of a bundle of them."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NOVUM_CACHE", str(folder / "cache"))
        patch.setattr("novum.evaluation.images.PLANTED", 1)
        write_sets(digits[40])
        save(features=["pixels@16", "alignment"])
    return folder


@pytest.fixture
def bundle(made):
    for path in made.glob("*.*"):
        shutil.copy(path, ".")
    return Path("refs.safetensors")


def refused(capsys, *arguments: str) -> str:
    """The one line of a user's mistake."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1 and "Traceback" not in err
    return err


JUDGE = ("--samples", "samples.npy", "--train", "refs.safetensors", "--features", "pixels@16")


@pytest.mark.parametrize("place", [0, 5, 40, 0.1, 0.5, -1])
def test_a_changed_bit_is_found(place, bundle, capsys):
    data = bytearray(bundle.read_bytes())
    at = int(len(data) * place) if isinstance(place, float) else place
    data[at] ^= 4
    bundle.write_bytes(data)
    assert "refs.safetensors is damaged" in refused(capsys, *JUDGE)


@pytest.mark.parametrize("length", [0, 7, 100, 0.5, -1])
def test_a_truncated_file_is_found(length, bundle, capsys):
    data = bundle.read_bytes()
    bundle.write_bytes(data[: int(len(data) * length) if isinstance(length, float) else length])
    assert "refs.safetensors is damaged" in refused(capsys, *JUDGE)


CHANGES = {
    "another version": lambda d, a: d.update(schema=99),
    "another transform": lambda d, a: d.update(transform="centre crop, PIL bicubic to 40"),
    "holds features of pixels@16 as": lambda d, a: d["spaces"].update({"pixels@16": "other"}),
    "is no bundle of references": lambda d, a: d.update(format="weights"),
    "its train/hashes is not of its images": lambda d, a: a.update(
        {"train/hashes": a["train/hashes"][1:]}
    ),
    "features are not of its images": lambda d, a: a.update(
        {"train/pixels@16/features": a["train/pixels@16/features"][1:]}
    ),
    "its description lacks": lambda d, a: d.pop("left_out"),
    "its audit is none": lambda d, a: d["sets"]["train"]["audit"].update(colour=1),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_not_of_here_is_refused(what, bundle, capsys):
    mend(bundle, CHANGES[what])
    assert what in refused(capsys, *JUDGE)


def test_another_detector_is_refused(bundle, capsys):
    mend(bundle, lambda d, a: d["detectors"].update(alignment=[99, 32]))
    line = refused(capsys, *JUDGE[:-1], "alignment")
    assert "'alignment' of another version" in line


def test_images_that_do_not_fit(bundle, digits, capsys):
    np.save("small.npy", digits[8][:20].numpy())
    assert "40x40 gray, and the samples are 8x8 gray" in refused(capsys, "small.npy", str(bundle))
    assert "give it as --train" in refused(capsys, str(bundle), "train.npy", "heldout.npy")
    line = refused(capsys, *JUDGE, "--heldout", str(bundle), "--groups", "(.)")
    assert "--groups" in line


def test_held_out_images_of_another_set(bundle, digits, capsys):
    np.save("train.npy", digits[40][10:90].numpy())
    save("other.safetensors", features=["pixels@16"])
    line = refused(capsys, *JUDGE, "--heldout", "other.safetensors")
    assert "other.safetensors holds out images of another training set" in line
    line = refused(capsys, *JUDGE[:3], "train.npy", *JUDGE[4:], "--heldout", str(bundle))
    assert "refs.safetensors holds out images of another training set" in line
    report = novum.evaluate("samples.npy", str(bundle), "heldout.npy", features="pixels@16")
    assert report.heldout.n == 60  # a held-out set of one's own


def test_what_cannot_be_saved(bundle, capsys, monkeypatch):
    sets = ("--train", "train.npy", "--heldout", "heldout.npy", "--features", "pixels@16")
    assert "ends in .safetensors" in refused(capsys, *sets, "--save-reference", "refs.npz")
    assert "cannot write to" in refused(capsys, *sets, "--save-reference", "no/refs.safetensors")
    Path("weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    line = refused(capsys, *sets, "--save-reference", "weights.safetensors")
    assert "is no bundle of references" in line
    line = refused(capsys, "--train", str(bundle), "--save-reference", "new.safetensors")
    assert "is a bundle already" in line
    line = refused(capsys, *sets, "--redacted", "--save-reference", "new.safetensors")
    assert "needs pictures" in line
    line = refused(capsys, "train.npy", "heldout.npy", "--save-reference", "new.safetensors")
    assert "name the sets" in line
    line = refused(capsys, *sets, "--save-reference", "new.safetensors", "--fail-on-copying")
    assert "--fail-on-copying: there is nothing to judge" in line
    text = ("--kind", "text", "--train", "train.txt", "--save-reference", "new.safetensors")
    assert "--save-reference is of images" in refused(capsys, *text)
    text = ("--kind", "text", "--samples", "a.txt", "--train", str(bundle), "--heldout", "none")
    assert "texts have none" in refused(capsys, *text)
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(
        "novum.core.tensor_file.shutil.disk_usage", lambda folder: usage._replace(free=1000)
    )
    monkeypatch.setattr("novum.evaluation.save_reference.reference_features", None)  # no work yet
    line = refused(capsys, *sets, "--save-reference", "new.safetensors")
    assert "GB are free" in line and not Path("new.safetensors").exists()


def test_a_bundle_is_judged_under_a_name_of_its_own(bundle):
    images = open_bundle(str(bundle)).side("train")
    identity = fingerprint(images)
    assert identity != images.fingerprint  # nothing computed with it is taken for the images'
    mend(bundle, lambda d, a: a["train/pixels@16/features"].__imul__(0.5))
    assert fingerprint(open_bundle(str(bundle)).side("train")) != identity


def test_the_run_of_a_checkpoint_knows_its_set(bundle):
    from novum.datamodules.resolve_source import open_images
    from novum.evaluation.image_sets import require_data_of_run

    run = Path("runs/a/version_0")
    (run / "checkpoints").mkdir(parents=True)
    request = Request(samples=str(run / "checkpoints/best.ckpt"), train=str(bundle))
    opened = open_images(str(bundle))
    for known in (opened.images.fingerprint, "names 1234"):
        (run / "run.json").write_text(json.dumps({"data": {"train": known}}))
        require_data_of_run(request, opened)
    (run / "run.json").write_text(json.dumps({"data": {"train": "1234"}}))
    with pytest.raises(InputError, match="is of another set"):
        require_data_of_run(request, opened)
    require_data_of_run(replace(request, samples="samples.npy"), opened)


@pytest.mark.filterwarnings("ignore:skipped 1 of 40 images")
def test_rows_that_could_not_be_read_keep_their_numbers(digits):
    import datasets

    write_sets(digits[40])
    buffers = []
    for image in digits[40][:40, 0].numpy():
        path = Path("one.png")
        Image.fromarray(image).save(path)
        buffers.append({"bytes": path.read_bytes(), "path": None})
    buffers[1]["bytes"] = b"no image"
    table = datasets.Dataset.from_dict({"image": buffers}).cast_column("image", datasets.Image())
    table.to_parquet("train.parquet")
    save(train="train.parquet", features=["pixels@16"], on_bad_image="skip")
    images = open_bundle("refs.safetensors").side("train")
    assert list(images.ids)[:3] == [0, 2, 3] and len(images) == 39


def test_another_seed_has_no_power_card(bundle):
    report = novum.evaluate("samples.npy", str(bundle), features="pixels@16,alignment", seed=1)
    assert not report.power
    assert any(note.startswith("power: not computed: copies are planted") for note in report.notes)


@pytest.mark.parametrize("side", [8, 40])
def test_callbacks_judge_with_a_bundle(side, digits, tmp_path):
    """Features and hashes stand for the images; a bundle of another size is refused."""
    from torch.utils.data import DataLoader, TensorDataset

    from novum.callbacks import FrechetDistanceCallback, NearestNeighbours
    from tests.callbacks.test_any_trainer import Yours, trainer

    write_sets(digits[side])
    save(features=["pixels@16"])
    images = digits[side]

    class Copier(Yours):
        def sample(self, n, *, seed=None, labels=None):
            return images[60 : 60 + n % 100 + 60].repeat(9, 1, 1, 1)[:n]

    def judged(train, heldout):
        neighbours = NearestNeighbours(("pixels@16",), 64, train=train, heldout=heldout)
        frechet = FrechetDistanceCallback(("pixels@16",), 64)
        run = trainer(tmp_path, neighbours, frechet, max_epochs=1, enable_checkpointing=False)
        run.fit(Copier(), DataLoader(TensorDataset(images), 80))
        return neighbours.found, run.callback_metrics

    opened = open_bundle("refs.safetensors")
    mine, figures_of_mine = judged(opened.side("train"), opened.side("heldout"))
    theirs, figures_of_theirs = judged(images[:80], images[80:140])
    assert mine is not None and len(mine.facts) == len(theirs.facts) > 10
    assert figures_of_mine == figures_of_theirs
    with pytest.raises(InputError, match="make a bundle at their size"):
        images = digits[48 - side]
        judged(opened.side("train"), opened.side("heldout"))


def test_groups_are_those_of_the_bundle(digits):
    for side, images in (("train", digits[40][:40]), ("heldout", digits[40][40:80])):
        Path(side).mkdir()
        for i, image in enumerate(images[:, 0].numpy()):
            Image.fromarray(image).save(f"{side}/{side}{i // 4}-{i:02d}.png")
    np.save("samples.npy", digits[40][30:60].numpy())
    sides = {"train": "train", "heldout": "heldout"}
    save(**sides, features=["pixels@16"], groups="[a-z]+[0-9]+")
    plain, grouped = (
        novum.evaluate("samples.npy", **sides, features="pixels@16", groups=groups)
        for groups in (None, "[a-z]+[0-9]+")
    )
    report = novum.evaluate("samples.npy", "refs.safetensors", features="pixels@16")
    assert report.gate == grouped.gate != plain.gate
    with pytest.raises(InputError, match="was made with groups"):
        novum.evaluate("samples.npy", "refs.safetensors", "heldout", features="pixels@16")


@pytest.mark.parametrize("redacted", [False, True])
def test_losses_of_items_need_the_images_themselves(redacted, digits):
    write_sets(digits[8])
    save(features=[NETWORK], redacted=redacted)
    options = {"features": [NETWORK], "num_samples": 20}
    report = novum.evaluate(tiny_gan(), "refs.safetensors", **options)
    assert (report.membership is None) == redacted
    said = "losses: not measured: refs.safetensors does not hold the images themselves"
    assert (said in report.notes) == redacted
