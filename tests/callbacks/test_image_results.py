import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning import Callback

from novum.callbacks import ProgressBar
from novum.callbacks.image_results import WriteResult, source_distance
from novum.callbacks.preemption import Preempted
from novum.callbacks.samples import images_of
from novum.cli.train import Configs, main
from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import DeepDream
from novum.report.recipes import write_animation, write_png
from tests.tiny import small_backbone, tiny_gan, tiny_trainer

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py"])
        main(list(arguments))
        return capsys.readouterr().out

    return call


DREAM = [
    "--data.init_args.size=64",
    "--model.init_args.steps=2",
    "--model.init_args.octaves=[-1,0]",
    "--model.init_args.layers=[blocks.2]",
    "--trainer.val_check_interval=2",
    "--trainer.accelerator=cpu",
]


@pytest.mark.slow
def test_a_dream_is_repeated_bit_for_bit_from_its_png(run, tmp_path):
    out = run("fit", "--config", "deep_dream", *DREAM)
    folder = tmp_path / "runs" / "deep_dream"
    first = folder / "version_0" / "china.png"
    assert str(first.relative_to(tmp_path)) in out
    with Image.open(first) as image:
        recipe, pixels = image.text["novum:config"], image.tobytes()
    assert "sha256 of its pixels" in recipe and "blocks.2" in recipe
    run("fit", "--config", str(first))
    again = folder / "version_1" / "china.png"
    assert again.read_bytes() == first.read_bytes()
    # `predict` writes the checkpoint's image
    last = folder / "version_0" / "checkpoints" / "last.ckpt"
    assert last.stat().st_size < 1_000_000  # the network is not part of it
    run("predict", "--ckpt_path", str(last), "--trainer.accelerator=cpu")
    (written,) = (folder / "version_0" / "samples").glob("*.png")
    with Image.open(written) as image:
        assert image.tobytes() == pixels


@pytest.mark.slow
def test_a_picture_of_a_changed_image_is_not_repeated(run, tmp_path, capsys):
    for shade, name in ((90, "mine.png"), (200, "guide.png")):
        Image.new("RGB", (48, 48), (shade, 80, 120)).save(tmp_path / name)
    named = ["--data.init_args.image=mine.png", "--data.init_args.guide=guide.png"]
    run("fit", "--config", "deep_dream", *DREAM, *named)
    picture = str(tmp_path / "runs/deep_dream/version_0/mine.png")
    Image.new("RGB", (48, 48), (10, 80, 120)).save(tmp_path / "guide.png")
    with pytest.raises(SystemExit) as exit_:
        run("fit", "--config", picture)
    assert exit_.value.code == 2
    assert "the picture was made of another guide.png" in capsys.readouterr().err
    run("fit", "--config", picture, "--data.init_args.guide=guide.png")  # which the user names


OTHERS = {  # config: the picture's name, what makes it small
    "style_transfer": (
        "china-flower",
        ["--data.init_args.size=64", "--model.init_args.min_scale=48",
         "--model.init_args.initial_steps=3", "--model.init_args.steps=2",
         "--model.init_args.init=uniform", "--trainer.val_check_interval=5"],
    ),
    "class_visualisation": (
        "screw_0",
        ["--model.init_args.classes=[screw]", "--model.init_args.per_class=1",
         "--model.init_args.size=64", "--model.init_args.view_size=64",
         "--model.init_args.steps=2", "--trainer.val_check_interval=2"],
    ),
    "adversarial": (
        "flower",
        ["--data.init_args.size=64", "--model.init_args.attack.init_args.steps=2",
         "--model.init_args.attack.init_args.random_start=true",
         "--trainer.val_check_interval=2"],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("config", OTHERS)
def test_every_technique_is_repeated_bit_for_bit_from_its_png(run, tmp_path, config):
    title, settings = OTHERS[config]
    run("fit", "--config", config, *settings, "--seed_everything=3", "--trainer.accelerator=cpu")
    folder = tmp_path / "runs" / config
    first = folder / "version_0" / f"{title}.png"
    run("fit", "--config", str(first))
    assert (folder / "version_1" / f"{title}.png").read_bytes() == first.read_bytes()


@pytest.mark.slow
def test_a_dream_logs_its_distance_and_its_history(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("fit", "--config", "deep_dream", *DREAM, "--trainer.log_every_n_steps=1")
    logged = EventAccumulator(str(tmp_path / "runs/deep_dream/version_0")).Reload()
    assert {"samples/film_strip", "samples/grid", "novelty/source"} <= set(logged.Tags()["images"])
    distances = logged.Scalars("novelty/source_distance/pixels@64")
    assert [event.step for event in distances] == [2, 4]
    assert all(event.value > 0 for event in distances)
    objective = [event.value for event in logged.Scalars("loss/objective")]
    assert len(objective) == 4


def test_a_source_lies_at_no_distance_from_itself():
    image = torch.randint(0, 256, (1, 3, 40, 30), dtype=torch.uint8)
    assert source_distance("pixels@64", image, image, CPU) == 0
    assert source_distance("pixels@64", image, 255 - image, CPU) > 1


def test_a_png_without_a_recipe_is_told(tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    with pytest.raises(SystemExit):
        Configs().resolve(str(tmp_path / "plain.png"))
    assert "plain.png carries no recipe" in capsys.readouterr().err


def test_recipes_go_into_pngs_as_they_are(tmp_path):
    picture = torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()
    data = {
        "class_path": "novum.datamodules.SingleImageDataModule",
        "init_args": {"image": "ü.png"},
    }
    recipe = yaml.safe_dump({"data": data}, allow_unicode=True)
    write_png(tmp_path / "x.png", picture, recipe)
    configs = Configs(["--data.init_args.image", "ü.png"])  # typed, so that it may be read
    text = Path(configs.resolve(str(tmp_path / "x.png"))).read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"data": data}


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_animations_have_all_frames(tmp_path, suffix):
    if suffix == "mp4":
        av = pytest.importorskip("av")
    frames = torch.randint(0, 256, (5, 33, 40, 3), dtype=torch.uint8).numpy()
    path = tmp_path / f"x.{suffix}"
    write_animation(path, frames, 10)
    if suffix == "gif":
        with Image.open(path) as image:
            assert image.n_frames == 5
    else:
        with av.open(str(path)) as video:
            assert sum(1 for _ in video.decode(video=0)) == 5


def test_mp4_without_its_package_is_told_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match="mp4 needs the package av: pip install av"):
        WriteResult(animation="mp4")


class StopAt(Callback):
    """Ends a run as SIGTERM does, and keeps what the progress bar says until then."""

    def __init__(self, step: int, bar: ProgressBar) -> None:
        self.step, self.bar, self.said = step, bar, []

    def on_train_batch_start(self, trainer, pl_module, *rest) -> None:
        self.said.append(self.bar.get_metrics(trainer, pl_module).get("at"))

    def on_train_batch_end(self, trainer, *rest) -> None:
        if trainer.global_step == self.step:
            raise Preempted(signal.SIGTERM, 143)


def test_a_stopped_dream_says_its_octave_and_leaves_its_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("novum.callbacks.image_results.recipe_of", lambda trainer: "recipe")
    dream = DeepDream(small_backbone(), ["blocks.2"], octaves=(-1, 1), octave_scale=2.0, steps=2)
    bar = ProgressBar()
    stop = StopAt(5, bar)
    trainer = tiny_trainer(tmp_path, max_steps=-1, callbacks=[bar, WriteResult(), stop],
                           enable_progress_bar=True)  # fmt: skip
    with pytest.raises(SystemExit):
        trainer.fit(dream, SingleImageDataModule("flower.jpg", size=48))
    octaves = [f"octave {n} of 3, {w} x {h} px" for n, w, h in
               ((1, 24, 16), (2, 48, 32), (3, 96, 64))]  # fmt: skip
    assert stop.said == [octaves[0]] * 2 + [octaves[1]] * 2 + [octaves[2]]
    with Image.open(next(tmp_path.rglob("flower.png"))) as image:
        assert image.size == (96, 64)


def test_many_losses_are_one_on_the_bar_and_few_images_are_shown_once(tmp_path, monkeypatch):
    dream = DeepDream(small_backbone(), ["blocks.2"])
    monkeypatch.setattr(type(dream), "stage", lambda self: "scale 1 of 2")
    losses = {f"loss/style_{i}": torch.tensor(0.25) for i in range(12)}
    shown = ProgressBar()._of_stages("scale 1 of 2", losses, torch.device("cpu"))
    assert shown == {"at": "scale 1 of 2", "loss": "3"}
    monkeypatch.setattr(type(dream), "titles", ["ant_0", "ant_1", "screw_0", "screw_1"])
    assert images_of(dream, 32) == 4 and images_of(dream, 3) == 3
    assert images_of(tiny_gan(), 32) == 32
