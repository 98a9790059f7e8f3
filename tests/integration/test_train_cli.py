"""train.py as a user types it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from novum.cli.train import CONFIGS, expand_arguments, main
from novum.lightning_modules import GAN
from tests.project import ROOT
from tests.tiny import states_equal
from tests.tiny_text import small_text

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec.*", "ignore:.*litlogger.*", "ignore:Trying to infer the `batch_size`"
)

TINY = [
    "--model.init_args.generator.init_args.width=8",
    "--model.init_args.discriminator.init_args.width=8",
    "--data.init_args.image_size=8",
    "--data.init_args.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=2",
]
EXPERIMENTS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "default")


SAMPLING = (
    "FrechetDistanceCallback", "KernelDistance", "PrecisionRecall", "DensityCoverage",
    "NearestNeighbours", "TrainingHealth",
)  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, use_shared_cache):
    """Runs train.py in an empty folder; returns the printed text."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py"])
        main(list(arguments))
        return capsys.readouterr().out

    return call


@pytest.fixture
def fails(run, capsys):
    """Runs train.py on a user's mistake; returns the one line on stderr."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run(*arguments)
        assert exit_.value.code == 2
        lines = [
            line
            for line in capsys.readouterr().err.splitlines()
            if line.startswith(("python train.py: ", "train: "))
        ]
        assert len(lines) == 1
        return lines[0]

    return call


def tiny_config(tmp_path: Path, callbacks: list[str] | None = None, **settings) -> str:
    """A config of its own: digits at 8 px with the callbacks named, or all of them."""
    config = yaml.safe_load((CONFIGS / "dcgan_digits.yaml").read_text())
    by_name = {c["class_path"].rsplit(".", 1)[1]: c for c in config["trainer"]["callbacks+"]}
    for name in SAMPLING:
        by_name[name]["init_args"] = {"num_samples": 300}
    config["trainer"] = {
        "max_steps": 8,
        "val_check_interval": 4,
        "callbacks+": [by_name[name] for name in (by_name if callbacks is None else callbacks)],
        **settings,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def events(run_folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_folder), size_guidance={"images": 0, "tensors": 0})
    return accumulator.Reload()


def test_help_answers_at_once():
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--help"], capture_output=True, text=True
    )
    assert time.perf_counter() - start < 5
    assert done.returncode == 0
    assert "fit" in done.stdout
    assert all(name in done.stdout for name in EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_config_opens_with_its_command(name):
    head = (CONFIGS / f"{name}.yaml").read_text().split("model:")[0]
    assert f"fit --config configs/{name}.yaml" in head


SMALL = {  # what makes a trial of it fast: by its data's class, and by its name
    "ImageDataModule": ["--data.init_args.dataset=digits", "--data.init_args.image_size=8"],
    "goodfellow_mnist": ["--data.init_args.image_size=28"],
    "stylegan_cifar10": [
        "--model.init_args.generator.init_args.max_width=64",
        "--model.init_args.discriminator.init_args.max_width=64",
    ],
    "TextDataModule": [
        "--data.init_args.dataset=files",
        "--data.files=text.txt",
        "--data.chunk_length=10",
    ],
    **{
        f"char_lstm_{text}": ["--model.init_args.network.init_args.hidden_size=32"]
        for text in ("shakespeare", "stdlib")
    },
    **{
        f"char_transformer_{text}": [
            "--model.init_args.network.init_args.width=32",
            "--model.init_args.network.init_args.layers=1",
            "--model.init_args.network.init_args.heads=2",
            "--model.init_args.network.init_args.context=10",
            "--model.init_args.compile_network=false",
            "--data.window=10",
        ]
        for text in ("shakespeare", "shakespeare_gpu", "stdlib")
    },
    "SingleImageDataModule": ["--data.init_args.size=64"],
    "StyleImageDataModule": ["--data.init_args.size=64", "--model.init_args.min_scale=64"],
    **dict.fromkeys(
        ("flow_cifar10", "flow_digits", "flow_fashion_mnist"),
        [
            "--model.init_args.network.init_args.width=8",
            "--model.init_args.network.init_args.blocks=1",
            "--model.init_args.sampler.init_args.steps=2",
            "--model.init_args.likelihood_images=2",
            "--model.init_args.compile_network=false",
        ],
    ),
    "class_visualisation": ["--model.init_args.per_class=1", "--model.init_args.size=64"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_config_runs(run, tmp_path, name):
    """One step and one evaluation of each, on small data where its own is large or a download."""
    run("fit", "--config", name, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu",
        *small_data(name, tmp_path))  # fmt: skip


def small_data(name: str, folder: Path) -> list[str]:
    data = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["data"]["class_path"]
    (folder / "text.txt").write_text(small_text(4000), encoding="utf-8")
    return [*SMALL.get(data.rsplit(".", 1)[1], []), *SMALL.get(name, [])]


@pytest.mark.slow
def test_a_run_leaves_everything_a_user_looks_for(run, tmp_path):
    out = run("fit", "--config", tiny_config(tmp_path), *TINY)
    folder = tmp_path / "runs" / "tiny" / "version_0"
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert "Verdict" in out
    assert "tensorboard --logdir" in out
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == 2
    space = report["features"]["efficientnet_lite0"]
    assert space["quality"]["frechet_distance"]["value"] > 0
    share = space["novelty"]["closer_to_train"]
    assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    assert space["novelty"]["copy_rate"]["low"] >= 0
    assert "of the first evaluation" in (folder / "report.html").read_text()

    logged = events(folder)
    tags = logged.Tags()
    for tag in ("samples/grid", "samples/film_strip", "samples/interpolation",
                "novelty/nearest_neighbours", "novelty/boden"):  # fmt: skip
        assert tag in tags["images"]
    for tag in (
        "loss/generator",
        "loss/discriminator",
        "quality/frechet_distance/efficientnet_lite0",
        "quality/kernel_distance/efficientnet_lite0",
        "quality/precision/efficientnet_lite0",
        "quality/coverage/efficientnet_lite0",
        "novelty/closer_to_train/pixels",
        "novelty/drawn_to_training/pixels",
        "novelty/permutation_p/pixels",
        "novelty/closer_to_train_low/efficientnet_lite0",
        "novelty/membership_auc/losses",
        "health/diversity",
        "health/duplicate_rate",
        "health/class_coverage",
        "health/discriminator_heldout",
        "speed/images_per_second",
    ):
        assert tag in tags["scalars"], tag
        steps = [event.step for event in logged.Scalars(tag)]
        assert steps[-1] == 8 * 16  # images_seen, not batches
    assert "health/verdict/text_summary" in tags["tensors"]
    assert any("_hparams_" in tag for tag in logged.summary_metadata)


@pytest.mark.slow
def test_checkpoint_commands_need_no_config(run, tmp_path):
    config = tiny_config(tmp_path, ["FrechetDistanceCallback", "BestCheckpoint", "RunSummary"])
    run("fit", "--config", config, *TINY)
    folder = tmp_path / "runs" / "tiny" / "version_0"
    before = (folder / "config.yaml").read_text()
    best = str(folder / "checkpoints" / "best.ckpt")
    assert "quality/frechet_distance/efficientnet_lite0" in run("test", "--ckpt_path", best)
    run("predict", "--ckpt_path", best, "--model.init_args.predict_samples=70")
    written = list((folder / "samples").glob("*.png"))
    assert len(written) == 70
    assert (folder / "config.yaml").read_text() == before  # and fit still takes it
    run("fit", "--config", str(folder / "config.yaml"), "--trainer.max_steps=1",
        "--trainer.callbacks=null")  # fmt: skip
    gan = GAN.load_from_checkpoint(best)  # rebuilds its networks from plain values
    assert gan.sample(2, seed=0).shape == (2, 1, 8, 8)
    assert torch.load(best, weights_only=True)["images_seen"] == gan.images_seen


@pytest.mark.slow
def test_last_goes_on_bit_for_bit_in_the_same_folder(run, tmp_path):
    config = tiny_config(tmp_path, ["FilmStrip", "TrainingHealth", "RunSummary"])
    run("fit", "--config", config, *TINY, "--trainer.logger.init_args.name=whole")
    out = run("fit", "--config", config, *TINY, "--trainer.max_steps=4", "--ckpt_path=last")
    assert "starting from the beginning" in out
    run("fit", "--config", config, *TINY, "--ckpt_path=last")
    assert [p.name for p in (tmp_path / "runs" / "tiny").iterdir()] == ["version_0"]
    whole, resumed = (
        torch.load(tmp_path / "runs" / name / "version_0/checkpoints/last.ckpt", weights_only=True)
        for name in ("whole", "tiny")
    )
    assert states_equal(whole["state_dict"], resumed["state_dict"])
    assert whole["images_seen"] == resumed["images_seen"] == 8 * 16
    for ours, theirs in zip(whole["optimizer_states"], resumed["optimizer_states"], strict=True):
        for key, state in ours["state"].items():
            assert states_equal(state, theirs["state"][key])
    strips = [c["callbacks"]["FilmStrip"]["history"] for c in (whole, resumed)]
    assert list(strips[0]) == list(strips[1]) == [64, 128]


def test_config_beats_checkpoint(run, tmp_path):
    config = tiny_config(tmp_path, [], max_steps=2, val_check_interval=2)
    run("fit", "--config", config, *TINY)
    last = str(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt")
    run("fit", "--config", config, *TINY, "--trainer.max_steps=4", "--ckpt_path", last,
        "--model.init_args.ema_kimg=3")  # fmt: skip
    saved = yaml.safe_load((tmp_path / "runs/tiny/version_1/config.yaml").read_text())
    assert saved["model"]["init_args"]["ema_kimg"] == 3


def test_print_config_shows_every_value(run, capsys):
    with pytest.raises(SystemExit) as exit_:
        run("fit", "--config", "dcgan_digits", "--print_config")
    assert exit_.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["betas"] == [0.5, 0.999]
    names = [c["class_path"].rsplit(".", 1)[1] for c in config["trainer"]["callbacks"]]
    assert names[:3] == ["ProgressBar", "Preemption", "LastCheckpoint"]
    assert "NearestNeighbours" in names


@pytest.mark.parametrize(("text", "says"), [
    ("a: [1\n", "mine.yaml line 2 is not YAML ("),
    ("model:\n\tx: 1\n", "mine.yaml line 2 is not YAML (found character"),
    ("- 1\n", "it holds a list, give keys such as model"),
    ("", "it holds nothing, give keys such as model"),
])  # fmt: skip
def test_a_file_that_is_no_config_is_one_line(fails, tmp_path, text, says):
    (tmp_path / "mine.yaml").write_text(text)
    assert says in fails("fit", "--config", "mine.yaml")


@pytest.mark.parametrize(("arguments", "says"), [
    ((), "give --config NAME"),
    (("--config=dcgan_digits", "--trainer.max_steps="), "expected a whole number, got nothing"),
    (("--config=dcgan_digits", "--seed_everything=-1"), "give --seed_everything a number from 0"),
    (("--config=dcgan_digits", "--ckpt_path=lastt"), "did you mean last?"),
    (
        ("--config=dcgan_digits", "--model.init_args.generator.init_args.latent_dim=0"),
        "latent_dim is 0: it must be at least 1",
    ),
    (
        ("--config=dcgan_digits", "--model.init_args.generator.init_args.image_size=64"),
        "model.generator.image_size is 64, but it is the data that says it (16)",
    ),
    (
        ("--config=char_lstm_stdlib", "--model.init_args.network.init_args.vocab_size=99"),
        "model.network.vocab_size is 99, but it is the data that says it",
    ),
    (
        ("--config=dcgan_digits", "--model.init_args.generator.init_args.latent_dim=2000000000"),
        "not enough memory (",
    ),
    (("--config=dcgan_digits", "--trainer.precision=16-true"), "give 16-mixed, bf16-mixed"),
    (("--config=dcgan_digits", "--trainer.logger", "[csv,none]"), "none stands alone"),
    (("--config=dcgan_digits", "--trainer.logger="), "give one of tensorboard, wandb"),
])  # fmt: skip
def test_slips_with_fit_are_one_line(fails, arguments, says):
    assert says in fails("fit", *arguments)


def test_config_names_and_runs_are_found(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").touch()
    checkpoint = str(tmp_path / "checkpoints" / "best.ckpt")
    Path(checkpoint).touch()
    (*_, config), trusted = expand_arguments(["fit", "--config=dcgan_digits"])
    assert config.endswith("configs/dcgan_digits.yaml") and trusted is None
    (_, _, config, *rest), trusted = expand_arguments(["test", "--ckpt_path", checkpoint])
    assert Path(config).read_text() == "{}\n" and rest == ["--ckpt_path", checkpoint]
    assert trusted == ["test", "--ckpt_path", checkpoint]


class TestMistakes:
    """Each ends in one line that names the thing and the mend, and exit code 2."""

    @pytest.mark.parametrize(
        ("argument", "says"),
        [
            ("accelerator=cuda", "accelerator is not available: use --trainer.accelerator=auto"),
            ("accelerator=gpuu", "invalid accelerator name: `accelerator='gpuu'`: use --trainer."),
            ("strategy=dpp", "invalid strategy name: `strategy='dpp'`: use --trainer.strategy="),
            ("strategy=fsdp", "received `accelerator='cpu'`: use --trainer.strategy=ddp"),
            ("devices=0", "give --trainer.devices a number from 1 up"),
            ("devices=[5]", "give --trainer.devices a number from 1 up"),
            ("precision=8", "trainer.precision: expected 64, 32, 16, transformer-engine"),
            ("max_epochs=ten", "trainer.max_epochs: expected a whole number, got ten"),
            ("max_steps=-5", "`max_steps` must be a non-negative integer"),
            ("max_time=foo", "give --trainer.max_time=00:12:00:00 for twelve hours"),
            ("limit_train_batches=1.5", "give --trainer.limit_train_batches a whole number of"),
            ("overfit_batches=-1", "give --trainer.overfit_batches a whole number of batches"),
            ("val_check_interval=1.5", "a whole number of batches, or a share from 0.0 to 1.0"),
            ("gradient_clip_val=1", "give --model.init_args.clip_gradient_norm instead"),
            ("gradient_clip_algorithm=abc", "Allowed algorithms: ['value', 'norm']"),
            ("accumulate_grad_batches=2", "give --model.init_args.accumulate instead"),
            ("profiler=advancd", "can only be one of ['simple', 'advanced', 'pytorch', 'xla']"),
            ("deterministic=maybe", "trainer.deterministic: expected true or false or warn, got"),
            ("detect_anomaly=3", "trainer.detect_anomaly: expected true or false, got 3"),
            ("callbacks=[EarlyStoping]", "no class EarlyStoping"),
            ("barebones=true", "leave out trainer.barebones"),
            ("fast_dev_run=-2", "It should be >= 0"),
        ],
    )
    def test_trainer_arguments(self, fails, argument, says):
        line = fails("fit", "--config", "dcgan_digits", *TINY, f"--trainer.{argument}")
        assert says in line, line

    @pytest.mark.parametrize(
        ("argument", "says"),
        [
            ("model.init_args.lr=fast", "lr: expected a number, got fast"),
            ("model.init_args.betas=[1]", "betas: expected a list of 2 elements, got [1]"),
            ("model=GANN", "model: there is no class GANN: did you mean GAN?"),
            ("data.init_args.batch_size=many", "batch_size: expected a whole number, got many"),
        ],
    )
    def test_arguments_of_classes(self, fails, argument, says):
        assert says in fails("fit", "--config", "dcgan_digits", f"--{argument}")

    def test_misspelt_key(self, fails):
        line = fails(
            "fit", "--config", "dcgan_digits", "--model.init_args.generator.init_args.latentdim=3"
        )
        assert "latentdim" in line and "did you mean latent_dim?" in line

    def test_misspelt_key_in_file(self, fails, tmp_path):
        path = tmp_path / "typo.yaml"
        path.write_text("model:\n  class_path: novum.lightning_modules.GAN\n  init_arg: {}\n")
        assert "only init_args can stand" in fails("fit", "--config", str(path))

    @pytest.mark.parametrize("key", ["trainer", "data", "model"])
    def test_null_byte(self, fails, tmp_path, key):
        path = tmp_path / "null.yaml"
        path.write_text(f'{key}: "\\0"\n')
        assert "null" in fails("fit", "--config", str(path))

    def test_missing_config(self, fails):
        assert "nowhere.yaml" in fails("fit", "--config", "nowhere.yaml")

    def test_missing_folder(self, fails):
        line = fails("fit", "--config", "dcgan_digits", "--data.init_args.dataset=folder",
                     "--data.init_args.path=/no/such/folder")  # fmt: skip
        assert "/no/such/folder" in line

    def test_unknown_data(self, fails):
        line = fails("fit", "--config", "dcgan_digits", "--data.init_args.dataset=digit")
        assert "digits" in line

    def test_missing_checkpoint(self, fails):
        line = fails("fit", "--config", "dcgan_digits", *TINY, "--ckpt_path=nowhere.ckpt")
        assert "nowhere.ckpt" in line

    def test_checkpoint_of_another_model(self, run, fails, tmp_path):
        config = tiny_config(tmp_path, [], max_steps=1, val_check_interval=1)
        run("fit", "--config", config, *TINY)
        last = str(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt")
        line = fails("fit", "--config", config, *TINY, "--ckpt_path", last,
                     "--model.init_args.generator.init_args.width=4")  # fmt: skip
        assert "another model" in line

    def test_file_that_is_no_checkpoint(self, fails, tmp_path):
        (tmp_path / "x.ckpt").write_text("hello")
        line = fails("fit", "--config", "dcgan_digits", *TINY, "--ckpt_path",
                     str(tmp_path / "x.ckpt"))  # fmt: skip
        assert "x.ckpt" in line

    def test_unknown_layer(self, fails):
        line = fails("fit", "--config", "deep_dream", "--model.init_args.layers=[blocks.44]")
        assert "no layer 'blocks.44'" in line and "blocks.4" in line

    def test_missing_image(self, fails):
        line = fails("fit", "--config", "deep_dream", "--data.init_args.image=chna.jpg")
        assert "no image chna.jpg" in line and "did you mean china.jpg?" in line

    def test_file_that_is_no_image(self, fails, tmp_path):
        (tmp_path / "x.jpg").write_text("hello")
        line = fails("fit", "--config", "deep_dream", "--data.init_args.image",
                     str(tmp_path / "x.jpg"))  # fmt: skip
        assert "x.jpg is not a readable image" in line

    def test_misspelt_class(self, fails):
        line = fails("fit", "--config", "class_visualisation",
                     "--model.init_args.classes=[hartebeast]")  # fmt: skip
        assert "no class 'hartebeast': did you mean hartebeest" in line

    def test_unknown_network(self, fails):
        line = fails("fit", "--config", "deep_dream",
                     "--model.init_args.backbone.init_args.name=googlnet")  # fmt: skip
        assert "no network 'googlnet': did you mean googlenet" in line

    def test_monitor_that_nothing_logs(self, fails, tmp_path):
        config = tiny_config(tmp_path, ["BestCheckpoint"])
        assert "which no callback logs" in fails("fit", "--config", config, *TINY)
