"""What a stranger hands over writes nowhere else, and reads nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from novum.cli import evaluate, explore, train
from novum.core.security import Untrusted, arguments_of_run
from novum.core.security.allowed import allowed_names, find_allowed
from novum.core.security.places import PLACES
from novum.core.security.specs import argument_hints
from novum.datamodules import ImageDataModule
from tests.core.security import attacks
from tests.core.security.attacks import built_by
from tests.fuzz.outcome import ends_well

QUICK = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
TENSORBOARD = "pytorch_lightning.loggers.TensorBoardLogger"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A working folder beside the one of somebody else's images."""
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "elsewhere" / f"{i}.png")
    monkeypatch.chdir(tmp_path / "here")


def contents(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


WRITES = {
    "logger": attacks.with_trainer(logger=built_by(TENSORBOARD, save_dir="../elsewhere/logs")),
    "logger with a name": attacks.with_trainer(
        logger=built_by(TENSORBOARD, save_dir="runs", name="../../elsewhere/x")
    ),
    "logger with a version": attacks.with_trainer(
        logger=built_by(TENSORBOARD, save_dir="runs", version="../../../elsewhere/x")
    ),
    "folder within a logger's": attacks.with_trainer(
        logger=built_by(TENSORBOARD, save_dir="runs", sub_dir="/tmp/novum-elsewhere")
    ),
    "suffix of a logger": attacks.with_trainer(
        logger=built_by(TENSORBOARD, save_dir="runs", filename_suffix="/../../../../elsewhere/x")
    ),
    "several loggers": attacks.with_trainer(
        logger=[built_by("pytorch_lightning.loggers.CSVLogger", save_dir="../elsewhere")] * 2
    ),
    "samples": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.WriteSamples", folder="../elsewhere/x")]
    ),
    "samples at home": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.WriteSamples", folder="~/x")]
    ),
    "samples in a store": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.WriteSamples", folder="file:///tmp/x")]
    ),
    "samples over a repository's hooks": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.WriteSamples", folder=".git/hooks")]
    ),
    "checkpoints": attacks.with_trainer(
        callbacks=[built_by("pytorch_lightning.callbacks.ModelCheckpoint", filename="/tmp/x")]
    ),
    "Novum checkpoints": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.BestCheckpoint", dirpath="~/x", filename="/tmp/x")]
    ),
    "root": attacks.with_trainer(default_root_dir="../elsewhere"),
    "registry": attacks.with_trainer(model_registry="x"),
    "profiler": attacks.with_trainer(
        profiler=built_by("pytorch_lightning.profilers.SimpleProfiler", dirpath="../elsewhere")
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", WRITES.values(), ids=WRITES)
def test_a_picture_writes_nowhere_else(values, tmp_path):
    before = contents(tmp_path / "elsewhere")
    path = attacks.picture(Path("x.png"), values)
    code = ends_well("train.py", lambda: train.main(["fit", "--config", str(path), *QUICK]))
    assert code == (0 if "logger" in values["trainer"] else 2)  # loggers go to the default folder
    assert contents(tmp_path / "elsewhere") == before
    assert {p.name for p in Path().iterdir()} <= {"x.png", "runs"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", WRITES.values(), ids=WRITES)
def test_a_run_writes_into_its_own_folder(values, tmp_path):
    path = attacks.run_of(tmp_path / "given" / "x" / "version_0", values)
    before = contents(tmp_path / "elsewhere")
    ends_well("train.py", lambda: train.main(["test", "--ckpt_path", str(path), *QUICK]))
    assert contents(tmp_path / "elsewhere") == before
    assert not contents(Path()) and not Path("/tmp/novum-elsewhere").exists()


def images(where: str | Path) -> dict:
    return attacks.with_data(dataset="folder", path=str(where))


def test_a_run_reads_no_images_of_others(tmp_path):
    for where in (tmp_path / "elsewhere", "../elsewhere", "/", "~", "http://x/y"):
        path = attacks.run_of(tmp_path / "given", images(where))
        for program, arguments in (
            (train, ["test", "--ckpt_path", str(path)]),
            (evaluate, ["--samples", str(path), "--num-samples=4", "--features=pixels@8"]),
        ):
            name = f"{program.__name__.rpartition('.')[2]}.py"
            assert ends_well(name, lambda p=program, a=arguments: p.main(a)) == 2
    assert not Path("evaluation/report.json").exists()


def test_a_link_leads_to_no_images_of_others(tmp_path):
    path = attacks.run_of(tmp_path / "given", images(tmp_path / "given" / "data"))
    (tmp_path / "given" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Untrusted, match="config.yaml reads .*data, outside of .*given: give"):
        arguments_of_run(path, ImageDataModule)


def test_a_config_that_is_a_link_is_not_read(tmp_path):
    path = attacks.run_of(tmp_path / "given", {})
    (tmp_path / "given" / "config.yaml").unlink()
    (tmp_path / "secret.yaml").write_text("password: x")
    (tmp_path / "given" / "config.yaml").symlink_to(tmp_path / "secret.yaml")
    assert arguments_of_run(path, ImageDataModule) is None


def test_what_the_user_types_is_read(tmp_path):
    where = str(tmp_path / "elsewhere")
    path = attacks.run_of(tmp_path / "given", images(where))
    assert arguments_of_run(path, ImageDataModule, [where])["path"] == where
    arguments = ["--samples", str(path), "--num-samples=4", "--features=pixels@8"]
    for more in (["--trust"], ["--train", where, "--heldout", where]):
        assert ends_well("evaluate.py", lambda m=more: evaluate.main([*arguments, *m])) == 0


def test_a_run_brings_no_pattern_to_group_names_by(tmp_path):
    """Its search may have no end."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "g.csv").write_text("image,group")
    (tmp_path / "g.csv").write_text("image,group")
    for groups in ("(a+)+b", str(tmp_path / "g.csv"), str(tmp_path / "given" / "(a+)+b")):
        path = attacks.run_of(tmp_path / "given", attacks.with_data(groups=groups))
        with pytest.raises(Untrusted, match="groups images by the pattern|outside of"):
            arguments_of_run(path, ImageDataModule)
        assert arguments_of_run(path, ImageDataModule, [groups])["groups"] == groups
    inside = str(tmp_path / "given" / "g.csv")
    path = attacks.run_of(tmp_path / "given", attacks.with_data(groups=inside))
    assert arguments_of_run(path, ImageDataModule)["groups"] == inside


def test_images_beside_a_run_are_read(tmp_path, monkeypatch):
    path = attacks.run_of(tmp_path / "given", images("images"))
    (tmp_path / "elsewhere").rename(tmp_path / "given" / "images")
    monkeypatch.chdir(tmp_path / "given")
    assert arguments_of_run(path, ImageDataModule)["path"] == "images"


def test_a_picture_dreams_of_no_image_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py"])
    for data in (
        built_by("novum.datamodules.SingleImageDataModule", image="../elsewhere/0.png"),
        built_by("novum.datamodules.SingleImageDataModule", guide="~/elsewhere/0.png"),
        built_by("novum.datamodules.StyleImageDataModule", contents=["china.jpg"],
                 styles=["flower.jpg", "../elsewhere/0.png"]),
        built_by("novum.datamodules.TextDataModule", dataset="files", files="/etc/hosts"),
        built_by("novum.datamodules.TextDataModule", dataset="files", files=["../*/*.png"]),
        built_by("novum.datamodules.ImageDataModule", dataset="huggingface", path="user/name"),
        built_by("novum.datamodules.TextDataModule", dataset="huggingface", path="user/name:a"),
    ):  # fmt: skip
        path = attacks.picture(Path("x.png"), attacks.config(data=data))
        with pytest.raises(SystemExit) as exit_:
            train.main(["fit", "--config", str(path)])
        assert exit_.value.code == 2
        assert "--trust" in capsys.readouterr().err  # refused, not looked for in vain


def test_a_checkpoint_names_no_other_file(tmp_path):
    where = "novum.lightning_modules.networks."
    other = attacks.checkpoint(tmp_path / "elsewhere" / "other.ckpt")
    for network in (
        built_by(f"{where}Backbone", name=f"checkpoint:{other}"),
        built_by(f"{where}Backbone", weights=str(other)),
        built_by(f"{where}FineTuned", name="efficientnet_lite0", weights=str(other)),
    ):
        path = attacks.checkpoint(Path("x.ckpt"), discriminator=network)
        command = ["mix", "--checkpoint", str(path)]
        assert ends_well("explore.py", lambda c=command: explore.main(c)) == 2


def test_a_checkpoint_deletes_no_file(tmp_path):
    """Of the best checkpoints that it remembers Lightning removes those that it replaces."""
    from novum.core.checkpoints import read_checkpoint

    folder = tmp_path / "runs" / "checkpoints"
    path = attacks.checkpoint(folder / "last.ckpt")
    for kept in (f"{folder}/../../elsewhere/0.png", "/etc/hosts", "file:///etc/hosts"):
        for state in (
            {"best_k_models": {kept: 1.0}},
            {"kth_best_model_path": kept},
            {"last_model_path": kept},
        ):
            state = {"dirpath": str(folder), "best_model_path": f"{folder}/x.ckpt"} | state
            torch_save(path, callbacks={"ModelCheckpoint": state})
            with pytest.raises(ValueError, match="it keeps .*, outside of"):
                read_checkpoint(path)
    state = {"dirpath": str(folder), "best_k_models": {f"{folder}/best.ckpt": 1.0}}
    torch_save(path, callbacks={"ModelCheckpoint": state})
    assert read_checkpoint(path)


def torch_save(path: Path, **more: object) -> None:
    import torch

    contents = torch.load(attacks.checkpoint(path), weights_only=True)
    torch.save(contents | more, path)


FREE = {  # texts that are neither read from, written to nor loaded
    ("SetMetrics", "metrics"),
    *(("Adversarial", name) for name in ("label", "target")),
    *(("ClassVisualisation", name) for name in ("classes", "diversity_layer", "layer")),
    *((cls, name) for cls in ("CSVLogger", "TensorBoardLogger") for name in ("name", "prefix")),
    *((cls, "version") for cls in ("CSVLogger", "TensorBoardLogger")),  # as name: see logging_into
    *(("ImageDataModule", x) for x in ("dataset", "image_column", "label_column", "split")),
    *(("TextDataModule", x) for x in ("dataset", "encoding", "protocol", "split", "text_column")),
    ("BestCheckpoint", "monitor"),
    *(("CharLSTM", x) for x in ("alphabet", "merges")),
    *(("CharTransformer", x) for x in ("alphabet", "merges")),
    ("DDPStrategy", "process_group_backend"),
    ("DeepDream", "layers"),
    ("FineTuned", "freeze"),
    ("EarlyStopping", "mode"),
    ("EarlyStopping", "monitor"),
    ("LBFGS", "line_search_fn"),
    ("StyleTransfer", "content_layers"),
    ("StyleTransfer", "style_layers"),
    ("TextSamples", "prime"),
    ("Timer", "duration"),
    ("Timer", "interval"),
}


def test_every_text_that_a_listed_class_takes_is_a_place_with_a_rule_or_none():
    texts = {
        (thing.__name__, name)
        for thing in map(find_allowed, allowed_names())
        if isinstance(thing, type)
        for name, hint in argument_hints(thing).items()
        if "str" in str(hint).replace("strategies", "").replace("strategy", "")
        if not str(hint).startswith("typing.Literal") and name != "params"
    }
    assert texts == {place for place in PLACES if place[0] != "Trainer"} | FREE


def test_a_checkpoint_at_home_hands_over_no_home(tmp_path):
    from novum.core.security import run_folder

    lone = attacks.checkpoint(tmp_path / "checkpoints" / "x.ckpt")
    assert run_folder(lone) == tmp_path / "checkpoints"
    assert run_folder(attacks.run_of(tmp_path / "run", {})) == tmp_path / "run"


def test_a_terminal_obeys_no_text_of_a_model(monkeypatch):
    from novum.cli import generate

    assert generate.shown("a\x1b[2J\tb\n") == "a\x1b[2J\tb\n"  # a pipe gets it as it is
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert generate.shown("a\x1b[2J\tb\n") == "a\\x1b[2J\tb\n"
