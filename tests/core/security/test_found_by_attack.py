"""Attacks that a second reading found; each with a spelling that the first did not have in mind."""

import os
from pathlib import Path

import pytest
import torch
import yaml

from novum.callbacks.checkpointing import AtomicCheckpoints, BestCheckpoint
from novum.cli import evaluate, train
from novum.cli.train import _name_of_run, expand_arguments
from novum.core.checkpoints import read_checkpoint
from novum.core.security import Untrusted
from novum.core.security.configs import check_config, check_links, parse_config
from novum.core.security.places import within
from tests.core.security import attacks
from tests.core.security.attacks import built_by
from tests.fuzz.outcome import ends_well

QUICK = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
EVALUATE = ["--train=digits", "--heldout=digits", "--num-samples=20", "--features=pixels@8"]
ESCAPE = "\x1b]0;title\x07"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A working folder beside one of the user's."""
    (tmp_path / "here").mkdir(exist_ok=True)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def changed(**more: object) -> Path:
    """A tiny GAN's checkpoint with other parts."""
    path = attacks.checkpoint(Path("x.ckpt"))
    torch.save(torch.load(path, weights_only=True) | more, path)
    return path


def laughs(leaf: object) -> list:
    """10^10 parts that take no room."""
    for _ in range(10):
        leaf = [leaf] * 10
    return leaf


# -- what is deleted -----------------------------------------------------------------------------

KEPT = [
    {"best_k_models": {"local:///home/x": 1.0}},  # without a folder, Lightning takes the run's own
    {"best_model_path": "x.ckpt"},
    {"best_model_path": "local:///home/x", "dirpath": "local:///home"},
    {"last_model_path": "file:/home/x", "dirpath": "file:"},
    {"kth_best_model_path": ["x"], "dirpath": "."},
]


@pytest.mark.parametrize("state", KEPT, ids=str)
def test_a_checkpoint_names_no_file_to_delete(state):
    with pytest.raises(ValueError, match="it keeps .*, outside of"):
        read_checkpoint(changed(callbacks={"ModelCheckpoint": state}))


def test_only_what_lies_where_checkpoints_are_written_is_removed(tmp_path):
    writer = AtomicCheckpoints()
    for file in ("runs/old.ckpt", "../home/x"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    writer.save_checkpoint({}, "runs/new.ckpt")
    for place in (f"local://{tmp_path}/home/x", f"{tmp_path}/home", "runs/../../home/x"):
        writer.remove_checkpoint(place)
    assert Path("../home/x").exists()
    writer.remove_checkpoint("runs/old.ckpt")
    assert not Path("runs/old.ckpt").exists() and Path("runs/new.ckpt").exists()


def test_the_best_checkpoint_of_another_folder_is_forgotten(tmp_path):
    callback = BestCheckpoint()
    callback.dirpath = str(tmp_path / "here")
    kept = {"best_model_score": None, "best_model_path": str(tmp_path / "home" / "x.ckpt")}
    callback.load_state_dict(kept | {"dirpath": str(tmp_path / "home")})
    callback.load_state_dict(kept)
    assert callback.best_model_path == ""
    callback._came_from = callback.dirpath  # its own checkpoint, which names another place
    (tmp_path / "here").mkdir(exist_ok=True)
    (tmp_path / "here" / "x.ckpt").touch()
    callback.load_state_dict(kept)
    assert callback.best_model_path == str(tmp_path / "here" / "x.ckpt")


# -- where is written ----------------------------------------------------------------------------

LINKS = {
    "a file": lambda run: os.symlink("../../home/new", run / "hparams.yaml"),
    "a folder": lambda run: os.symlink("../../home", run / "samples"),
    "a folder below": lambda run: ((run / "a").mkdir(), os.symlink("/", run / "a" / "b")),
    "a circle": lambda run: os.symlink("/proc/self/cwd/../home/loop", run / "metrics.csv"),
    "a pipe": lambda run: os.mkfifo(run / "hparams.yaml"),
}


@pytest.mark.parametrize("plant", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("command", [["test"], ["predict", "--config=own.yaml"]], ids=str)
def test_a_run_with_links_is_not_written_to(plant, command, capsys):
    path = attacks.run_of(Path("run"), attacks.config())
    Path("own.yaml").write_text(yaml.safe_dump(attacks.config()))
    plant(Path("run"))
    arguments = [*command, "--ckpt_path", str(path), *QUICK]
    assert ends_well("train.py", lambda: train.main(arguments)) == 2
    assert not list(Path("../home").iterdir())


def test_links_within_a_run_and_checkpoints_on_another_disk_are_fine():
    attacks.run_of(Path("run"), attacks.config())
    os.symlink("config.yaml", "run/x.yaml")
    Path("run/checkpoints").rename("../home/checkpoints")
    os.symlink("../../home/checkpoints", "run/checkpoints")
    check_links(Path("run"))
    os.symlink("../config.yaml", "../home/checkpoints/y")  # not followed


@pytest.mark.parametrize("name", ["..", "../..", "a/..", "...", ESCAPE, "é" * 300, "\ud800", "~"])
def test_a_recipe_names_no_way_out_of_the_default_folder(name):
    found = _name_of_run({"init_args": {"name": name}})
    assert not found.startswith(".") and "/" not in found and found.isprintable()
    shown = name.encode("utf-8", "replace").decode()
    values = attacks.with_trainer(logger=built_by("x", name=shown))
    path = attacks.picture(Path("x.png"), values).rename("...png")
    (_, _, config), _ = expand_arguments(["fit", "--config", str(path)])
    assert Path(config).stem not in ("", ".", "..") and Path(config).is_file()


@pytest.mark.parametrize("name", ["/home/x", "../../home/x"])
def test_a_class_name_is_no_place(name, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from novum.callbacks.image_results import WriteResult

    monkeypatch.setattr("novum.callbacks.image_results.recipe_of", lambda _: "")
    module = SimpleNamespace(titles=[name], sample=lambda n: torch.zeros(n, 3, 4, 4).byte())
    trainer = SimpleNamespace(fast_dev_run=False, is_global_zero=True, log_dir=str(tmp_path))
    WriteResult().on_fit_end(trainer, module)
    assert [x.parent for x in tmp_path.rglob("*.png")] == [tmp_path]


# -- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["test", "1", "--config"])
def test_a_word_of_the_command_line_is_no_place_that_the_user_named(word):
    """`test` is typed, but ./test is not meant."""
    Path(word).mkdir()
    values = attacks.with_data(dataset="folder", path=word)
    path = attacks.run_of(Path("run"), values)
    with pytest.raises(SystemExit):
        expand_arguments(["test", "--ckpt_path", str(path), "--trainer.devices=2"])
    values["data"]["init_args"]["path"] = "data"
    attacks.run_of(Path("run"), values)
    for typed in (["--data.init_args.path", "data"], ["--data.init_args.path=data"]):
        expand_arguments(["test", "--ckpt_path", str(path), *typed])


@pytest.mark.parametrize("path", ["~nobody-here/x", "x" * 300, "circle/x", "/proc/self/root"])
def test_places_that_cannot_be_resolved_are_refused(path):
    os.symlink("circle", "circle")
    with pytest.raises(Untrusted, match="reads"):
        check_config(attacks.with_data(path=path), within(Path("../home")))


# -- what takes all time or memory ---------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        {"hyper_parameters": {"_class_path": laughs("x")}},
        {"hyper_parameters": {"_class_path": tuple(laughs(()))}},
        {"callbacks": {"a": {"dirpath": ".", "best_model_path": laughs("x")}}},
        {"optimizer_states": [{"state": {0: torch.zeros(1).expand(2**40)}}]},
        {"state_dict": {"a": torch.zeros(1).half().expand(2**20, 2**20)}},
        {"state_dict": {"a": torch.zeros(1, device="meta")}},
        {"stream_state": torch.zeros(4).to_sparse()},
    ],
    ids=range(7),
)
def test_small_files_that_unfold(part):
    arguments = ["--samples", str(changed(**part)), *EVALUATE]
    assert ends_well("evaluate.py", lambda: evaluate.main(arguments)) == 2


MERGED = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
CONFIGS = {
    "merge keys": "\n".join(["a0: &a0 {b: 1}", *MERGED]),
    "one merge key": "a: &a {b: 1}\nc: {<<: *a}",
    "a huge number": f"seed_everything: 0x{'f' * 10_000}",
    "a huge number in base 60": f"seed_everything: 1{':1' * 5000}",
    "many processes": "trainer: {devices: 100000}",
    "many processes as text": f"trainer: {{devices: '{'9' * 5000}'}}",
    "many nodes": "trainer: {num_nodes: 100000}",
    "many workers": yaml.safe_dump(attacks.with_data(num_workers=100_000)),
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_small_configs_that_unfold(text):
    with pytest.raises(Untrusted):
        check_config(parse_config(text).values, within(None))


@pytest.mark.parametrize("text", ["1: a\nb: c\n", "2020-01-01: a\nb: c\n", "a: 0x" + "f" * 9999])
def test_a_signature_of_what_no_run_writes_is_none(text):
    from novum.core.security.signature import sign

    assert sign("a: 1")
    assert not parse_config(f"{text}\n# written here: {'0' * 64}").trusted


# -- what a terminal obeys -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        attacks.with_data(path=f"/{ESCAPE}"),
        attacks.with_data(split=ESCAPE),
        attacks.with_trainer(
            callbacks=[built_by("novum.callbacks.BestCheckpoint", monitor=ESCAPE)]
        ),
        attacks.with_trainer(gradient_clip_algorithm="\x9b31m"),
        attacks.config(**{ESCAPE: 1}),
    ],
    ids=range(5),
)
def test_refusals_are_for_a_terminal(values):
    with pytest.raises(Untrusted) as refusal:
        check_config(values, within(Path("/x")))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "part",
    [
        {"state_dict": {ESCAPE: torch.zeros(1)}},
        {"class_names": ["a", "\x9b31m"]},
        {"class_names": [1]},
    ],
)
def test_names_in_a_checkpoint_are_for_a_terminal(part):
    with pytest.raises(ValueError, match="as a name") as refusal:
        read_checkpoint(changed(**part))
    assert str(refusal.value).isprintable()


# -- what torch unpickles, and checkpoints within checkpoints --------------------------------------


class Zeros:
    """As many bytes as a number says."""

    def __reduce__(self):
        return bytearray, (2**34,)


def test_zeros_by_their_number_are_not_unpickled():
    with pytest.raises(ValueError, match="bytearray"):
        read_checkpoint(changed(callbacks={"a": Zeros()}))


def test_checkpoints_that_name_each_other_end():
    for name, other in (("a", "b"), ("b", "a")):
        backbone = built_by("novum.lightning_modules.networks.Backbone",
                            name=f"checkpoint:{other}.ckpt", weights="none")  # fmt: skip
        arguments = {"_class_path": "novum.lightning_modules.Classifier", "network": backbone}
        changed(class_names=["a"], hyper_parameters=arguments).rename(f"{name}.ckpt")
    arguments = ["--samples=digits", "--features=checkpoint:a.ckpt", *EVALUATE[:3]]
    assert ends_well("evaluate.py", lambda: evaluate.main(arguments)) == 2
