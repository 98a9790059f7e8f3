"""Two real processes (gloo) run the command line."""

import json
import os

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from novum.cli.train import CONFIGS
from novum.datamodules import ImageDataModule
from novum.evaluation.space import quality_floor
from novum.metrics.features import load_extractor, reference_features
from novum.metrics.functional import Moments
from novum.metrics.record import FeatureSets
from tests import programs
from tests.project import ROOT


def train(folder, cache, *arguments):
    env = {"OMP_NUM_THREADS": "1", "NOVUM_CACHE": str(cache)}
    return programs.run(ROOT / "train.py", *arguments, cwd=folder, env=env, starts=1)


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory, shared_cache):
    """A run of two ranks, 8 images each a step; and the same checkpoint judged by one process."""
    folder = tmp_path_factory.mktemp("ddp")
    config = yaml.safe_load((CONFIGS / "dcgan_digits.yaml").read_text())
    keep = ("FilmStrip", "FrechetDistanceCallback", "PrecisionRecall", "NearestNeighbours",
            "BestCheckpoint", "RunSummary")  # fmt: skip
    config["trainer"]["callbacks+"] = [
        c for c in config["trainer"]["callbacks+"] if c["class_path"].endswith(keep)
    ]
    for callback in config["trainer"]["callbacks+"]:
        if callback["class_path"].endswith(keep[1:4]):
            callback["init_args"] = {"num_samples": 300}
    config["trainer"] |= {"max_steps": 6, "val_check_interval": 3, "log_every_n_steps": 3}
    config["data"]["init_args"] |= {"image_size": 8, "batch_size": 8, "split_seed": 1}
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    two = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    done = train(folder, shared_cache, "fit", "--config", "two.yaml", *two)
    assert done.returncode == 0, done.stderr[-3000:]
    run = folder / "runs" / "two" / "version_0"
    last = str(run / "checkpoints" / "last.ckpt")
    one = ("--trainer.devices=1", "--trainer.strategy=auto")
    tested = train(folder, shared_cache, "test", "--ckpt_path", last, *one)
    assert tested.returncode == 0, tested.stderr[-3000:]
    return run, done, tested


@pytest.mark.slow
def test_two_ranks_train_and_log_once(run_of_two):
    run, done, _ = run_of_two
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert saved["images_seen"] == 6 * 8 * 2
    assert all(v.isfinite().all() for v in saved["state_dict"].values())
    assert done.stdout.count("Verdict") == 1
    assert "Traceback" not in done.stderr
    assert len(list(run.glob("events*"))) <= 2  # one of the fit, one of the later test


@pytest.mark.slow
def test_metrics_do_not_depend_on_the_number_of_ranks(run_of_two):
    run, *_ = run_of_two
    scalars = EventAccumulator(str(run)).Reload()
    report = json.loads((run / "report.json").read_text())
    for tag in (
        "quality/frechet_distance/efficientnet_lite0",
        "novelty/closer_to_train/pixels",
        "novelty/closer_to_train/efficientnet_lite0",
    ):
        by_two, by_one = [e.value for e in scalars.Scalars(tag) if e.step == 6 * 8 * 2]
        assert by_two == pytest.approx(by_one, rel=1e-6)
    quality = report["features"]["efficientnet_lite0"]["quality"]
    assert quality["frechet_distance"]["value"] == pytest.approx(
        scalars.Scalars("quality/frechet_distance/efficientnet_lite0")[-1].value, rel=1e-6
    )


@pytest.mark.slow
def test_quality_is_rated_beside_its_floor(run_of_two, use_shared_cache):
    """Shared out by two ranks, the floor is that of one process."""
    run, done, _ = run_of_two
    report = json.loads((run / "report.json").read_text())
    data, name = ImageDataModule("digits", image_size=8, split_seed=1), "efficientnet_lite0"
    extractor = load_extractor(name)
    sides = data.train_reference(), data.heldout_reference()
    train, heldout = (reference_features(side, extractor, progress=False) for side in sides)
    known = quality_floor(FeatureSets(train, heldout, heldout[:300], Moments().update(train)))
    floor = report["features"][name]["floor"]
    assert {"frechet_distance", "precision", "recall"} <= set(floor) < set(known)
    for metric, value in floor.items():
        assert value["value"] == pytest.approx(known[metric].value, rel=1e-4)
    assert report["quality_finding"] == "poor" and "(held-out images: " in report["verdict"]
    assert "Quality is poor" in (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stylegan_ranks(tmp_path_factory):
    """The same four steps of a StyleGAN on one rank, on two, and on two in two parts."""
    folder = tmp_path_factory.mktemp("ranks")
    script = ROOT / "tests" / "integration" / "two_ranks.py"
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])

    def run(name: str, devices: int, *arguments: str) -> list[dict]:
        place = folder / name
        place.mkdir()
        env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        done = programs.run(script, place, devices, *arguments, env=env, starts=devices - 1)
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = range(devices)
        return [torch.load(place / f"rank{rank}.pt", weights_only=True) for rank in ranks]

    one, two = run("one", 1, "4"), run("two", 2, "4")
    return one, two, run("again", 2, "4", str(folder / "two" / "step=3.ckpt"))


@pytest.mark.slow
def test_a_stylegan_learns_the_same_on_one_rank_and_on_two(stylegan_ranks):
    (one,), two, _ = stylegan_ranks
    assert one["losses"].keys() == {"discriminator", "generator", "r1", "path_length"}
    for name, losses in one["losses"].items():
        mean = (two[0]["losses"][name] + two[1]["losses"][name]) / 2
        torch.testing.assert_close(mean, losses, rtol=1e-4, atol=1e-5)
    for name, value in one["state"].items():
        torch.testing.assert_close(two[0]["state"][name], value, rtol=1e-3, atol=1e-4)
    assert two[0]["state"]["augment._extra_state"][0] > 0


@pytest.mark.slow
def test_two_ranks_of_a_stylegan_stay_equal_and_resume_exactly(stylegan_ranks):
    _, two, again = stylegan_ranks
    for name, value in two[0]["state"].items():
        assert torch.equal(value, two[1]["state"][name]), name
        assert torch.equal(value, again[0]["state"][name]), name
        assert torch.equal(again[1]["state"][name], two[1]["state"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_find_unused_parameters_true"])
def test_other_strategies_of_ddp_train_and_hand_weights_back(strategy, tmp_path, shared_cache):
    data = {"image_size": 8, "batch_size": 8, "split_seed": 1}
    settings = [f"--data.init_args.{name}={value}" for name, value in data.items()]
    settings += [f"--trainer.strategy={strategy}", "--trainer.accelerator=cpu"]
    settings += ["--trainer.devices=2", "--trainer.max_steps=3", "--trainer.limit_val_batches=0"]
    done = train(tmp_path, shared_cache, "fit", "--config", "dcgan_digits", *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    (last,) = tmp_path.glob("runs/**/last.ckpt")
    assert torch.load(last, weights_only=True)["images_seen"] == 3 * 2 * 8
