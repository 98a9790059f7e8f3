"""evaluate.py as a user types it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from novum.cli.evaluate import main
from novum.datamodules import ImageDataModule
from novum.metrics.novelty.local_copies import LocalCopyDetector
from tests import programs
from tests.datamodules.test_resolve_source import write
from tests.project import ROOT
from tests.report.pages import check_against_verdict

PIXELS = ("--features", "pixels")


@pytest.fixture(scope="module")
def digits():
    """All 1,797 digits (n, 1, 8, 8), shuffled: any two parts of them are alike."""
    data = ImageDataModule("digits", image_size=8)
    images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))].numpy()


@pytest.fixture
def sets(digits, tmp_path, monkeypatch):
    """Arrays on disk: 400 fresh samples, 100 of them replaced by copies, training, held-out."""
    monkeypatch.chdir(tmp_path)
    fresh, train, heldout = digits[:400], digits[400:1200], digits[1200:]
    copies = np.concatenate([fresh[100:], train[:100]])
    named = {"fresh": fresh, "copies": copies, "train": train, "heldout": heldout}
    for name, images in named.items():
        np.save(f"{name}.npy", images)
    return named


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """First images of Fashion-MNIST's test set (n, 1, 28, 28)."""
    monkeypatch.chdir(tmp_path)
    return ImageDataModule("fashion_mnist", image_size=28).heldout_reference()[:440].numpy()


@pytest.fixture
def evaluate(monkeypatch, capsys, use_shared_cache):
    """Runs evaluate.py; returns the report and the printed text."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    monkeypatch.setattr("novum.evaluation.images.PLANTED", 10)  # copies of each edit

    def call(*arguments: str, train: str = "train.npy", heldout: str = "heldout.npy"):
        try:
            main([*arguments, "--train", train, "--heldout", heldout])
        finally:
            report = json.loads(Path("evaluation/report.json").read_text())
            check_against_verdict(Path("evaluation/report.html").read_text(), report)
        return report, capsys.readouterr().out

    return call


@pytest.fixture
def fails(monkeypatch, capsys):
    """Runs evaluate.py on a user's mistake; returns the one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])

    def call(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("python evaluate.py: ")
        return lines[0]

    return call


def test_help_answers_at_once():
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", str(ROOT / "evaluate.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert time.perf_counter() - start < 5
    assert done.returncode == 0
    assert "--fail-on-copying" in done.stdout and "exit codes" in done.stdout
    assert " torch" not in done.stderr and "lightning" not in done.stderr


def test_fresh_samples_are_not_called_copies(sets, evaluate):
    report, out = evaluate("--samples", "fresh.npy", "--fail-on-copying", *PIXELS)
    assert report["finding"] == "too_little_evidence"  # 1% are 4 samples: too few to be seen
    assert report["facts"] == [] and report["gate"]["p"] > 0.003
    novelty = report["features"]["pixels"]["novelty"]
    assert novelty["closer_to_train"]["low"] < 0.5 < novelty["closer_to_train"]["high"]
    assert novelty["copies_flagged"] == 0 and novelty["copy_rate"]["low"] == 0
    assert report["copies"] == []
    assert report["controls"]["negative"]["pixels"]["p"] > 0.01
    assert " ".join(report["verdict"].split()) in " ".join(out.split())


def test_planted_copies_are_found(sets, evaluate):
    with pytest.raises(SystemExit) as exit_:
        evaluate("--samples", "copies.npy", "--fail-on-copying", *PIXELS)
    assert exit_.value.code == 3
    report, _ = evaluate("--samples", "copies.npy", *PIXELS)  # code 0: judged
    assert report["verdict"].startswith("Copying found: 25.")
    assert "100 of 400 samples are identical to 100 training images:" in report["verdict"]
    assert [fact["train"] for fact in report["facts"]] == list(range(100))
    novelty = report["features"]["pixels"]["novelty"]
    assert novelty["closer_to_train"]["low"] > 0.5
    assert novelty["copies_flagged"] == len(report["copies"])
    assert novelty["permutation_p"] <= 0.01
    assert novelty["data_copying_ct"] < -3


def test_everything_that_is_measured_is_written(sets, evaluate):
    report, out = evaluate("--samples", "fresh.npy", "--features", "efficientnet_lite0,pixels")
    assert list(report["features"]) == ["efficientnet_lite0", "pixels"]
    quality = {"frechet_distance", "memorization_informed_frechet_distance", "kernel_distance",
               "frechet_distance_infinity", "precision", "recall", "density", "coverage",
               "expected_coverage", "sliced_wasserstein_distance", "vendi_score"}  # fmt: skip
    novelty = {"copy_rate", "drawn_to_training", "copies_flagged", "items_copied", "permutation_p",
               "closer_to_train", "authenticity", "data_copying_ct", "fld_gap"}  # fmt: skip
    for space in report["features"].values():
        assert set(space["quality"]) >= quality
        assert set(space["novelty"]) >= novelty
        assert space["quality"]["precision"]["value"] > 0.7
        kernel = space["quality"]["kernel_distance"]
        assert kernel["low"] < kernel["value"] < kernel["high"]
        assert space["extractor"]
    assert report["schema"] == 2
    assert report["samples"]["path"] == "fresh.npy"
    assert [report[side]["n"] for side in ("samples", "train", "heldout")] == [400, 800, 597]
    assert len({report[side]["fingerprint"] for side in ("samples", "train", "heldout")}) == 3
    assert set(report["cost"]) == {"seconds", "peak_rss_bytes", "images_per_second"}
    assert all(metric in out for metric in quality)
    with Image.open("evaluation/nearest_neighbours.png") as picture:
        assert picture.format == "PNG"

    logged = EventAccumulator(
        "evaluation/tensorboard", size_guidance={"images": 0, "tensors": 0}
    ).Reload()
    for tag in ("quality/frechet_distance/pixels", "quality/kernel_distance_low/pixels",
                "novelty/closer_to_train/efficientnet_lite0", "novelty/authenticity/pixels",
                "novelty/closer_to_train_high/pixels"):  # fmt: skip
        assert tag in logged.Tags()["scalars"]
    assert logged.Tags()["images"] == ["novelty/boden", "novelty/nearest_neighbours"]
    distance = report["features"]["pixels"]["quality"]["frechet_distance"]["value"]
    assert logged.Scalars("quality/frechet_distance/pixels")[0].value == pytest.approx(distance)


@pytest.fixture
def offline_datasets(tmp_path, monkeypatch):
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(
        datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False
    )  # 5 s at each end


@pytest.mark.parametrize("kind", [".npz", ".parquet", ".tar", "_folder"])
def test_every_kind_of_samples_is_judged_alike(kind, sets, evaluate, offline_datasets):
    np.save("few.npy", sets["fresh"][:40])
    expected, _ = evaluate("--samples", "few.npy", *PIXELS)
    where = write(kind, sets["fresh"][:40, 0], Path("."))
    report, _ = evaluate("--samples", where, *PIXELS)
    assert report["samples"]["fingerprint"] == expected["samples"]["fingerprint"]
    assert report["features"] == expected["features"]


def test_the_same_numbers_twice(sets, evaluate):
    first, _ = evaluate("--samples", "fresh.npy", *PIXELS)
    second, _ = evaluate("--samples", "fresh.npy", *PIXELS)
    assert first.pop("cost") != second.pop("cost")
    assert first == second
    logged = EventAccumulator("evaluation/tensorboard").Reload()
    assert len(logged.Scalars("quality/recall/pixels")) == 1  # the second replaces the first


def test_without_heldout_images(sets, evaluate):
    report, out = evaluate("--samples", "fresh.npy", *PIXELS, "--fail-on-copying", heldout="none")
    assert report["verdict"].startswith("Copying was not judged: without held-out images")
    assert report["heldout"] is None and report["facts"] == []
    assert set(report["features"]["pixels"]["novelty"]) == {"authenticity"}
    assert "closer_to_train" not in out


def test_an_identical_sample_convicts_without_heldout_images(sets, evaluate):
    np.save("one.npy", np.concatenate([sets["fresh"][:199], sets["train"][7:8]]))
    with pytest.raises(SystemExit) as exit_:
        evaluate("--samples", "one.npy", *PIXELS, "--fail-on-copying", heldout="none")
    assert exit_.value.code == 3
    report, _ = evaluate("--samples", "one.npy", *PIXELS, heldout="none")
    assert report["facts"] == [{"kind": "identical", "sample": 199, "train": 7}]
    assert report["identical"]["samples"] == 1 and report["near_identical"]["samples"] == 0
    assert 'class="pair"' in Path("evaluation/report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["alignment", "local"])
def test_altered_copies_are_shown_without_heldout_images(fashion, evaluate, detector):
    """Mirrored copies come first among the pairs; the detector of whole images convicts."""
    np.save("train.npy", fashion[:400])
    np.save("some.npy", np.concatenate([fashion[400:440], fashion[:4, :, :, ::-1]]))
    report, _ = evaluate("--samples", "some.npy", "--features", detector, heldout="none")
    found = {(fact["kind"], fact["sample"], fact["train"]) for fact in report["facts"]}
    mirrored = {("near_identical", 40 + i, i) for i in range(4)}
    assert found == (mirrored if detector == "alignment" else set())
    assert report["finding"] == ("copying" if detector == "alignment" else "cannot_judge")
    assert report["features"][detector]["novelty"] == {} and "power" not in report
    shown = Path("evaluation/report.html").read_text()
    assert "mirrored" in shown and "nearest held-out image" not in shown


def test_samples_that_are_one_training_image(sets, evaluate):
    np.save("collapsed.npy", np.repeat(sets["train"][5:6], 100, 0))
    report, _ = evaluate("--samples", "collapsed.npy", *PIXELS)
    assert report["finding"] == "copying" and report["quality_finding"] == "poor"
    assert "100 of 100 samples are identical to 1 training image:" in report["verdict"]


def test_heldout_images_that_are_training_images_leave_no_judgement(sets, evaluate):
    """Half of the held-out images and half of the samples are training images."""
    train, fresh = sets["train"], sets["fresh"]
    np.save("leaked.npy", np.concatenate([train[:100], sets["heldout"][:100]]))
    np.save("samples.npy", np.concatenate([train[:30], fresh[:30]]))
    arguments = ("--samples", "samples.npy", *PIXELS)
    report, _ = evaluate(*arguments, heldout="leaked.npy")
    assert report["finding"] == "cannot_judge" and len(report["facts"]) == 30
    assert "100 of 200 held-out images are training images" in report["verdict"]
    with pytest.raises(SystemExit) as exit_:
        evaluate(*arguments, "--fail-on-copying", heldout="leaked.npy")
    assert exit_.value.code == 4


@pytest.mark.parametrize("copies", [0, 60])
def test_heldout_images_that_were_processed_otherwise(copies, sets, evaluate, digits):
    """One gray level in eight is missing in them: fresh samples are nearer to training."""
    train, fresh = digits[:700], digits[1100:1797]
    heldout = (digits[700:1100] // 24) * 24
    rng = np.random.default_rng(0)
    noisy = (train[:copies] + rng.integers(-6, 7, train[:copies].shape)).clip(0, 255)
    np.save("a.npy", np.concatenate([fresh[copies:], noisy.astype(np.uint8)]))
    np.save("t.npy", train)
    np.save("h.npy", heldout)
    report, _ = evaluate("--samples", "a.npy", *PIXELS, train="t.npy", heldout="h.npy")
    assert report["finding"] == ("copying" if copies else "cannot_judge")
    assert ("training images too are nearer" in report["verdict"]) == (not copies)


def test_swapped_references_are_doubted(sets, evaluate):
    report, _ = evaluate(
        "--samples", "copies.npy", *PIXELS, train="heldout.npy", heldout="train.npy"
    )
    assert report["verdict"].startswith("These held-out images do not allow a judgement: ")


def test_few_samples_get_what_can_be_measured(sets, evaluate):
    np.save("few.npy", sets["fresh"][:5])
    report, out = evaluate("--samples", "few.npy", *PIXELS)
    space = report["features"]["pixels"]
    assert space["quality"]["precision"]["value"] is not None
    assert space["quality"]["density"] == space["quality"]["coverage"] == {"value": None}
    assert space["novelty"]["data_copying_ct"] is None
    note = (
        "pixels: not computed: density and coverage and expected_coverage: needs at least 6 of"
        " each, there are 5"
    )
    assert any(line.startswith(note) for line in report["notes"])
    assert "more than 20 of the 5 samples" in " ".join(out.split())


def test_names_and_samples_of_another_size(sets, evaluate):
    """Colour PNGs of 12 px, as `predict` writes gray samples, against digits of 8 px."""
    Path("samples").mkdir()
    for i, image in enumerate(sets["fresh"][:60, 0]):
        Image.fromarray(image).convert("RGB").resize((12, 12)).save(f"samples/{i}.png")
    report, _ = evaluate("--samples", "samples", *PIXELS, train="digits", heldout="digits")
    assert [report[s]["shape"] for s in ("samples", "train", "heldout")] == [[3, 12, 12]] * 3
    assert report["train"]["n"] == 1438 and report["heldout"]["n"] == 359
    assert [note for note in report["notes"] if "8x8 gray are read as 12x12 RGB" in note]


def test_large_images_are_compared_as_thumbnails(sets, evaluate):
    for name in ("fresh", "train", "heldout"):
        np.save(f"{name}.npy", sets[name][:20, 0].repeat(9, 1).repeat(9, 2))  # 72 px
    report, _ = evaluate("--samples", "fresh.npy")
    assert list(report["features"]) == ["efficientnet_lite0", "pixels@32", "alignment", "local"]


def test_one_place_for_both_sets_is_cut_by_groups(sets, evaluate):
    """Three images of each of 200 people; the split of images alone would tear them apart."""
    Path("people").mkdir()
    for i, image in enumerate(sets["train"][:600, 0]):
        Image.fromarray(image).save(f"people/person{i // 3}_{i % 3}.png")
    where = {"train": "people", "heldout": "people"}
    groups = ("--groups", "person[0-9]+")
    report, _ = evaluate("--samples", "fresh.npy", *PIXELS, *groups, **where)
    assert [report[side]["n"] for side in ("train", "heldout")] == [480, 120]
    data = ImageDataModule("folder", "people", image_size=8, groups="person[0-9]+")
    assert report["heldout"]["fingerprint"] == data.heldout_reference().fingerprint
    assert report["controls"]["negative"]["pixels"]["rows"] <= 480


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A tiny GAN trained for two steps on a split of its own."""
    from novum.cli.train import main as train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    nets = [f"--model.init_args.{n}.init_args.width=8" for n in ("generator", "discriminator")]
    train(["fit", "--config", "dcgan_digits", *nets, "--data.init_args.image_size=8",
           "--data.init_args.subset=300", "--data.init_args.split_seed=3",
           "--data.init_args.groups=^[0-9]*(?=.$)",
           "--trainer.max_steps=2", "--trainer.val_check_interval=2",
           "--trainer.logger.init_args.save_dir=runs", "--trainer.accelerator=cpu",
           "--trainer.callbacks=[{class_path: novum.callbacks.LastCheckpoint}]"])  # fmt: skip
    return "runs/dcgan_digits/version_0/checkpoints/last.ckpt"


@pytest.mark.filterwarnings("ignore:.*treespec.*", "ignore:.*litlogger.*")
def test_a_checkpoint_brings_samples_and_its_own_split(checkpoint, monkeypatch, fails):
    def report(*arguments: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["evaluate.py"])
        main(["--samples", checkpoint, "--num-samples", "300", *PIXELS, *arguments])
        return json.loads(Path("evaluation/report.json").read_text())

    found = report()
    assert found["samples"]["n"] == 300
    assert found["samples"]["images_seen"] == 2 * 64
    assert found["train"]["n"] == 300  # the run's subset
    data = ImageDataModule("digits", image_size=8, split_seed=3, subset=300, groups="^[0-9]*(?=.$)")
    assert found["heldout"]["fingerprint"] == data.heldout_reference().fingerprint
    again, named, other = report(), report("--train", "digits"), report("--seed", "1")
    assert again["samples"] == named["samples"] == found["samples"]
    assert named["train"] == found["train"]
    assert other["samples"]["fingerprint"] != found["samples"]["fingerprint"]

    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["generator"]["class_path"] = "subprocess.Popen"
    torch.save(saved, "evil.ckpt")
    line = fails("--samples", "evil.ckpt", "--train", "digits", "--heldout", "digits")
    assert "evil.ckpt names subprocess.Popen" in line
    Path("runs/dcgan_digits/version_0/config.yaml").write_text(yaml.safe_dump({"data": 3}))
    assert "config.yaml is not a config of a run" in fails("--samples", checkpoint)


class TestMistakes:
    """Each ends in one line that names the thing and the mend, and exit code 2."""

    references = ("--train", "train.npy", "--heldout", "heldout.npy", *PIXELS)

    def test_missing_path(self, sets, fails):
        assert "no file or folder nowhere" in fails("--samples", "nowhere", *self.references)

    def test_missing_checkpoint(self, sets, fails):
        assert "no checkpoint x.ckpt" in fails("--samples", "x.ckpt", *self.references)

    def test_file_that_is_no_checkpoint(self, sets, fails):
        Path("x.ckpt").write_text("hello")
        assert "x.ckpt is not a checkpoint" in fails("--samples", "x.ckpt", *self.references)

    def test_empty_folder(self, sets, fails):
        Path("empty").mkdir()
        assert "no images in empty" in fails("--samples", "empty", *self.references)

    def test_file_that_is_no_image(self, sets, fails):
        Path("samples").mkdir()
        Path("samples/0.png").write_text("hello")
        assert "samples/0.png: not a readable" in fails("--samples", "samples", *self.references)

    def test_floats(self, sets, fails):
        np.savez("x.npz", sets["fresh"] / 255)
        assert "x.npz holds float64" in fails("--samples", "x.npz", *self.references)

    def test_pickled_objects(self, sets, fails):
        np.save("x.npy", np.array([{}], dtype=object))
        assert "x.npy cannot be read" in fails("--samples", "x.npy", *self.references)

    def test_a_single_sample(self, sets, fails):
        np.save("x.npy", sets["fresh"][:1])
        assert "x.npy holds 1 image: give at least 2" in fails(
            "--samples", "x.npy", *self.references
        )

    def test_channels_that_cannot_be_converted(self, sets, fails):
        np.save("x.npy", np.zeros((9, 8, 8, 5), np.uint8))
        line = fails("--samples", "fresh.npy", "--train", "x.npy", "--heldout", "none")
        assert "x.npy has the shape (9, 8, 8, 5)" in line and "1 or 3 channels" in line

    def test_unknown_name(self, sets, fails):
        line = fails("--samples", "fresh.npy", "--train", "digit", "--heldout", "digits")
        assert "did you mean 'digits'?" in line

    def test_unknown_features(self, sets, fails):
        line = fails("--samples", "fresh.npy", *self.references[:4], "--features", "pixel")
        assert "did you mean 'pixels'?" in line

    def test_same_images_on_both_sides(self, sets, fails):
        line = fails("--samples", "fresh.npy", "--train", "train.npy", "--heldout", "train.npy")
        assert "train.npy is given for both sides" in line

    def test_output_that_cannot_be_written(self, sets, fails):
        line = fails("--samples", "fresh.npy", *self.references, "--output", "train.npy")
        assert "--output train.npy would replace --train" in line

    def test_missing_references(self, sets, fails):
        assert "--train is needed" in fails("--samples", "fresh.npy")
        assert "--heldout is needed" in fails("--samples", "fresh.npy", "--train", "train.npy")

    def test_misspelt_detector(self, fails):
        for name in ("locall", "alignement"):
            assert "did you mean '" in fails("--samples", "fresh.npy", "--features", name)

    def test_options(self, fails):
        assert "--samples" in fails()
        assert "--seed -1" in fails("--samples", "x", "--seed", "-1")
        assert "--num-samples 1" in fails("--samples", "x", "--num-samples", "1")
        assert "unrecognized arguments: --sample" in fails("--samples", "x", "--sample", "y")


@pytest.mark.slow
def test_altered_copies_are_named_with_what_was_done_to_them(sets, evaluate):
    """Mirrored training digits, which the pixels' nearest neighbours do not see."""
    train = sets["train"][:300, 0]
    np.save("mirrored.npy", np.concatenate([sets["fresh"][:60, 0], train[:40, :, ::-1]]))
    np.save("train.npy", train)
    np.save("heldout.npy", sets["heldout"][:200, 0])
    report, out = evaluate("--samples", "mirrored.npy")
    assert list(report["features"]) == ["efficientnet_lite0", "pixels", "alignment", "local"]
    assert report["verdict"].startswith("Copying found: ")
    named = [copy for copy in report["copies"] if "transform" in copy]
    right = [copy for copy in named if copy["train"] == copy["sample"] - 60]
    assert len(right) >= 30
    assert all("mirrored" in copy["transform"] for copy in right)
    recall = {attack["attack"]: attack["recall"] for attack in report["power"]}
    others = {attack["edit"] for attack in report["power"] if attack["library"] == "torchvision"}
    assert {"rotated up to 180°", "three of these in turn"} < others
    assert {"identical", "mirrored"} < recall.keys() - others
    assert recall["identical"] >= 0.9
    assert report["heldout"]["searched"] == 200
    assert [r["edit"] for r in report["controls"]["positive"]] == list(recall)
    page = Path("evaluation/report.html").read_text()
    assert "Power of the copy test" in page and "Nearest neighbours in alignment" in page


@pytest.mark.slow
def test_controls_are_made_once_for_the_same_references(sets, evaluate, monkeypatch, tmp_path):
    """A second evaluation searches its samples alone, and says the same of the references."""
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    np.save("train.npy", sets["train"][:200])
    np.save("heldout.npy", sets["heldout"][:100])
    searched = []

    def counting(detector, samples, exclude=None, search=LocalCopyDetector.search):
        searched.append(len(samples))
        return search(detector, samples, exclude)

    monkeypatch.setattr(LocalCopyDetector, "search", counting)
    monkeypatch.setattr(LocalCopyDetector, "match", lambda *args: counting(*args).matches)
    local = ("--features", "local")
    first = evaluate("--samples", "copies.npy", *local)[0]
    assert len(searched) == 2  # samples, then what the power card plants
    again = evaluate("--samples", "copies.npy", *local)[0]
    assert len(searched) == 3
    for report in (first, again):
        del report["cost"]
    assert first == again
    evaluate("--samples", "fresh.npy", "--seed", "1", *local)  # another pool
    np.save("heldout.npy", sets["heldout"][:99])
    evaluate("--samples", "copies.npy", *local)
    assert len(searched) == 7


def test_reports_are_compared_side_by_side(sets, monkeypatch, capsys):
    for name in ("fresh", "copies"):
        main(["--samples", f"{name}.npy", "--train", "train.npy", "--heldout", "heldout.npy",
              "--output", name, *PIXELS])  # fmt: skip
    capsys.readouterr()
    main(["--compare", "fresh/report.json", "copies/report.json", "--output", "both"])
    out = capsys.readouterr().out
    assert "frechet_distance" in out and "copies flatter" in out
    assert "copies" in Path("both/compare.html").read_text()


def test_compare_and_samples_exclude_each_other(sets, fails):
    assert "one of them" in fails("--samples", "fresh.npy", "--compare", "a", "b")
    assert "one of them" in fails("--train", "train.npy")
    assert "cannot be read" in fails("--compare", "none/report.json", "also/report.json")


@pytest.fixture
def started(sets, tmp_path, monkeypatch):
    """evaluate.py as a process of its own, with an empty cache, that prints to out.txt, err.txt."""
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))

    def start(*arguments: str, file_size: int | None = None):
        command = (ROOT / "evaluate.py", "--samples", "fresh.npy", "--train", "train.npy",
                   "--heldout", "heldout.npy", *arguments)  # fmt: skip
        with open("out.txt", "w") as out, open("err.txt", "w") as err:
            return programs.start(*command, out=out.fileno(), err=err.fileno(), file_size=file_size)

    return start


def test_full_disk_is_told_in_one_line_and_leaves_no_half_report(started):
    process = started(*PIXELS, file_size=24 * 1024)
    assert process.wait(120) == 2
    error = Path("err.txt").read_text()
    assert "Traceback" not in error
    assert error.splitlines()[-1].endswith("(File too large): make room, then run it again")
    assert not list(Path("evaluation").glob("*.tmp"))
    for page in Path("evaluation").glob("report.html"):
        assert page.read_text().endswith("</html>\n")


def test_interrupted_keeps_what_is_cached(started):
    process = started("--features", "pixels,efficientnet_lite0,alignment")
    cached = Path("cache/references")
    while not list(cached.glob("*.features.npy")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    error = Path("err.txt").read_text()
    assert error.splitlines()[-1] == "python evaluate.py: interrupted"
    assert "Traceback" not in error
    assert not Path("evaluation/report.json").exists()
    for path in cached.iterdir():
        assert path.suffix in (".npy", ".npz") and np.load(path) is not None
