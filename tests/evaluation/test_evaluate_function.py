"""novum.evaluate: what a program holds is judged as files of the same images are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import novum
from novum.datamodules import ImageDataModule
from novum.evaluation.verify import verify
from novum.report.schema import read_report
from novum.report.short_answer import short_answer
from tests.project import ROOT

FAST = {"features": "pixels"}


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    data = ImageDataModule("digits", image_size=8)
    images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sets(digits):
    """60 fresh samples and 20 copies, 300 training and 200 held-out digits (n, 1, 8, 8)."""
    train, heldout = digits[:300], digits[300:500]
    return torch.cat([digits[500:560], train[:20]]), train, heldout


def fingerprints(report: novum.Report) -> list[str | None]:
    return [side.fingerprint for side in report.sides().values()]


@pytest.fixture
def expected(sets, tmp_path):
    """The report on the same images in files."""
    for name, images in zip(("samples", "train", "heldout"), sets, strict=True):
        np.save(tmp_path / f"{name}.npy", images.numpy())
    places = (tmp_path / f"{name}.npy" for name in ("samples", "train", "heldout"))
    return novum.evaluate(*places, **FAST)


def test_a_quick_report_says_what_it_left_out(sets, tmp_path, digits):
    """The same facts and matches as in full, in one space; none found is of unaltered copies."""
    train = sets[1]
    quick = novum.evaluate(*sets, features="pixels", quick=True, output=tmp_path / "quick")
    full = novum.evaluate(*sets, features="pixels")
    assert quick.finding == full.finding == "copying" and quick.facts == full.facts
    assert quick.novelty["pixels"]["copy_rate"] == full.novelty["pixels"]["copy_rate"]
    assert set(quick.quality["pixels"]) < set(full.quality["pixels"])
    for metric in ("frechet_distance", "coverage"):
        assert quick.quality["pixels"][metric] == full.quality["pixels"][metric]
    assert not quick.power and any("without alignment and local" in x for x in quick.notes)
    assert "without alignment and local" in quick.page
    read = read_report(tmp_path / "quick" / "report.json")
    assert read.quick and not full.quick
    fresh, heldout = digits[500:1100], digits[1100:]
    fresh = novum.evaluate(fresh, train, heldout, features="pixels", quick=True)
    assert fresh.finding == "none_found"
    assert "Altered copies, and parts of images, were not looked for" in fresh.verdict.text
    assert "without --quick" in fresh.verdict.next
    for report in (quick, fresh):
        assert "But: Altered copies, and parts of images, were not looked" in short_answer(report)
    assert "not looked for" not in short_answer(full)


def test_quick_takes_one_space_of_images(sets):
    with pytest.raises(ValueError, match="quick judges one feature space, features names 2"):
        novum.evaluate(*sets, features="pixels,local", quick=True)
    with pytest.raises(ValueError, match="quick is of images"):
        novum.evaluate(["a"], ["b"], kind="text", quick=True)


def table(images):
    import datasets

    pictures = [Image.fromarray(image[0].numpy()) for image in images]
    return datasets.Dataset.from_dict({"image": pictures}).cast_column("image", datasets.Image())


class Pairs(torch.utils.data.Dataset):
    """A map-style data set of pictures and labels, as torchvision's are."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return Image.fromarray(self.images[i, 0].numpy()), 3


AS = {
    "array": lambda x: x.numpy(),
    "array_hwc": lambda x: x.permute(0, 2, 3, 1).numpy(),
    "array_of_grays": lambda x: x[:, 0].numpy(),
    "floats": lambda x: x.float() / 255,
    "tensors": list,
    "arrays": lambda x: [image[0].numpy() for image in x],
    "pictures": lambda x: [Image.fromarray(image[0].numpy()) for image in x],
    "generator": lambda x: iter(x.split(33)),
    "loader": lambda x: DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=33),
    "loader_of_grays": lambda x: DataLoader(x[:, 0], batch_size=33),
    "loader_of_mappings": lambda x: DataLoader([{"image": y, "y": 1} for y in x], batch_size=33),
    "pairs": Pairs,
    "table": table,
}  # fmt: skip


@pytest.mark.parametrize("kind", AS)
def test_what_a_program_holds_is_judged_as_files_are(kind, sets, expected):
    report = novum.evaluate(*map(AS[kind], sets), **FAST)
    assert fingerprints(report) == fingerprints(expected)
    assert report.features == expected.features
    assert report.finding == expected.finding == "copying"
    assert len(report.facts) == 20
    written = {path.name for path in Path().iterdir()}
    assert written == {"samples.npy", "train.npy", "heldout.npy", "cache"}  # by the test itself


def test_paths_of_images_in_a_list(sets, expected):
    Path("out").mkdir()
    for i, image in enumerate(sets[0][:, 0].numpy()):
        Image.fromarray(image).save(f"out/{i:03d}.png")
    places = sorted(Path("out").iterdir())
    report = novum.evaluate(places, *sets[1:], **FAST)
    assert report.samples.fingerprint == expected.samples.fingerprint
    assert report.facts[0].sample == "out/060.png"


def test_a_function_of_n_and_seed(sets):
    asked = []

    def draw(n: int, seed: int) -> torch.Tensor:
        asked.append((n, seed))
        rows = torch.randint(len(sets[0]), (n,), generator=torch.Generator().manual_seed(seed))
        return sets[0][rows]

    report = novum.evaluate(draw, sets[1], num_samples=300, **FAST)
    assert asked == [(256, 0), (256, 1)] and report.samples.n == 300
    assert "draw" in str(report.samples.path)
    again = novum.evaluate(draw, sets[1], num_samples=300, **FAST)
    other = novum.evaluate(draw, sets[1], num_samples=300, seed=1, **FAST)
    assert again.samples.fingerprint == report.samples.fingerprint != other.samples.fingerprint
    novum.evaluate(draw, sets[1], num_samples=30, **FAST)
    assert asked[-1][0] == 30  # no more than are needed of a slow one


def test_a_module_with_sample_is_judged_in_evaluation_mode(sets):
    class Mine(torch.nn.Module):
        images_seen = 5

        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout()
            self.frozen = torch.nn.Dropout().eval()

        def sample(self, n, *, seed=None, labels=None):
            assert not self.training and not self.dropout.training
            return sets[0][torch.arange(n) % len(sets[0])]

    module = Mine()
    report = novum.evaluate(module, *sets[1:], num_samples=80, **FAST)
    assert report.samples.images_seen == 5 and report.finding == "copying"
    assert module.training and module.dropout.training and not module.frozen.training


def test_samples_of_a_module_that_are_no_squares_are_cut_as_an_array_of_them(sets):
    wide = torch.nn.functional.pad(sets[0], (1, 3))  # (80, 1, 8, 12)

    class Wide:
        def sample(self, n, *, seed=None):
            return wide[:n]

    drawn = novum.evaluate(Wide(), *sets[1:], num_samples=80, **FAST)
    read = novum.evaluate(wide, *sets[1:], **FAST)
    assert drawn.samples.fingerprint == read.samples.fingerprint
    assert drawn.facts == read.facts


def test_batches_that_a_loader_drops_are_counted(sets):
    loader = DataLoader(sets[1], batch_size=64, drop_last=True)
    report = novum.evaluate(sets[0], loader, **FAST)
    assert report.train.n == 256
    assert report.audit["train"].left_out == {"in a last batch that the loader drops": 44}


def test_a_built_in_set_brings_its_own_heldout_images(sets):
    report = novum.evaluate(sets[0], "digits", **FAST)
    assert report.heldout is not None and (report.train.n, report.heldout.n) == (1438, 359)


def test_the_report_answers(sets, tmp_path, capsys):
    report = novum.evaluate(*sets, **FAST, output="out")
    assert capsys.readouterr().out == ""
    assert report.quality["pixels"]["precision"].value == pytest.approx(0.95, abs=0.05)
    assert report.novelty["pixels"]["copies_flagged"].value >= 20
    assert json.loads(report.to_json()) == json.loads(Path("out/report.json").read_text())
    assert report.page == Path("out/report.html").read_text()
    frame = report._repr_html_()
    assert frame is not None and frame.startswith("<iframe srcdoc=") and "sandbox" in frame
    assert "<script" not in frame
    assert repr(report) == "<Report on samples (in memory): Copying found; 20 facts>"
    report.show()
    shown = capsys.readouterr().out
    assert shown.startswith("Copying found\n") and len(shown.splitlines()) < 15
    with pytest.raises(AssertionError, match="^Copying found: "):
        report.assert_no_copying()


def test_no_copying_is_asserted_only_where_it_was_judged(sets, digits):
    samples, train, heldout = digits[500:560], *sets[1:]
    report = novum.evaluate(samples, train, heldout, **FAST)
    assert report.finding == "too_little_evidence"
    report.assert_no_copying()
    novum.evaluate(samples, train, **FAST).assert_no_copying()  # facts alone decide
    rounded = digits[700:1100] // 24 * 24
    unfit = novum.evaluate(digits[1100:], digits[:700], rounded, **FAST)
    assert unfit.finding == "cannot_judge"
    with pytest.raises(AssertionError, match="held-out"):
        unfit.assert_no_copying()


def test_a_page_in_a_report_of_a_stranger_is_not_taken(sets, tmp_path):
    novum.evaluate(*sets, **FAST, output="out")
    content = json.loads(Path("out/report.json").read_text()) | {"page": "<b>hello</b>"}
    Path("evil.json").write_text(json.dumps(content))
    assert read_report(Path("evil.json"))._repr_html_() is None


def test_a_report_of_arrays_is_verified_against_their_files(sets, expected):
    novum.evaluate(*sets, **FAST, output="out")
    with pytest.raises(ValueError, match="samples was held by a program: name its place"):
        verify(Path("out/report.json"), {})
    places = {name: f"{name}.npy" for name in ("samples", "train", "heldout")}
    assert verify(Path("out/report.json"), places).same
    assert not verify(Path("out/report.json"), places | {"train": "samples.npy"}).same


TEXT = "It was the {} of times, it was the {} of times, and {} went on as {} always had. "


def sentences(seed: int, n: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("aeioubcdfghlmnprst"), 6)) for _ in range(200)]
    return [TEXT.format(*rng.choice(words, 4)) + " ".join(rng.choice(words, 30)) for _ in range(n)]


def test_texts_in_a_list_a_function_and_a_table():
    import datasets

    train, heldout = sentences(1), sentences(2)
    samples = [*sentences(3, 10), *train[:5]]
    report = novum.evaluate(samples, train, heldout, kind="text")
    assert report.finding == "copying" and report.samples.texts == 15
    assert {fact.file for fact in report.facts} == {f"train, row {i}" for i in range(5)}
    called = novum.evaluate(
        lambda n, seed: samples[:n], train, heldout, kind="text", num_samples=15
    )
    rows = datasets.Dataset.from_dict({"text": train, "n": list(range(60))})
    tabled = novum.evaluate(samples, rows, heldout, kind="text")
    for other in (called, tabled):
        assert fingerprints(other) == fingerprints(report) and other.facts == report.facts


def test_texts_in_memory_are_judged_as_the_rows_of_a_table_are():
    train, samples = sentences(1), [*sentences(3, 10), *sentences(1)[:5]]
    for name, texts in (("train", train), ("samples", samples)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    filed = novum.evaluate("samples.jsonl", "train.jsonl", kind="text")
    held = novum.evaluate(samples, train, kind="text")
    assert held.samples.fingerprint == filed.samples.fingerprint
    assert held.train.n == filed.train.n and held.features == filed.features


def test_the_copier_of_the_readme_is_caught(monkeypatch):
    """Every sample differs from its training image, and its quality is that of fresh digits."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    report = novum.evaluate("copier:draw", "digits", num_samples=200, **FAST)
    assert report.finding == "copying" and report.gate.samples_named > 180
    assert all(fact.kind == "near_identical" for fact in report.facts)
    assert report.quality["pixels"]["precision"].value > 0.8


def test_a_report_that_names_the_hub_fetches_nothing_unasked(sets):
    novum.evaluate(*sets, output="out", **FAST)
    content = json.loads(Path("out/report.json").read_text())
    content["made_by"]["settings"]["train"] = "hf://datasets/a/b"
    content["train"]["path"] = "hf://datasets/a/b"
    Path("out/report.json").write_text(json.dumps(content))
    np.save("samples.npy", sets[0][:, 0].numpy())
    np.save("heldout.npy", sets[2][:, 0].numpy())
    given = {"samples": "samples.npy", "heldout": "heldout.npy"}
    with pytest.raises(
        ValueError, match="names hf://datasets/a/b, which would be fetched: --trust"
    ):
        verify(Path("out/report.json"), given)
