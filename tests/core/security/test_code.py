"""What a stranger hands over runs nothing."""

import functools
import os
import pickle
import subprocess
from pathlib import Path

import pytest

from novum.cli import evaluate, train
from tests import programs
from tests.core.security import attacks
from tests.core.security.attacks import AS_JSON, MARKER, POPEN, SPECS, built_by
from tests.fuzz.outcome import ends_well
from tests.project import ROOT

QUICK = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.logger=false"]
JUDGE = ["--train", "digits", "--heldout", "digits", "--num-samples", "20", "--features=pixels@8"]


class Payload:
    """Makes the marker when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (MARKER,)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with what the attacks load, where a process that is started leaves the marker."""
    monkeypatch.chdir(tmp_path)
    start = subprocess.Popen.__init__

    @functools.wraps(start)  # jsonargparse reads its signature
    def __init__(self, args, *rest, **kwargs):
        if "touch" in args:
            Path(tmp_path, MARKER).touch()
        start(self, args, *rest, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", __init__)
    Path("x.pkl").write_bytes(pickle.dumps(Payload()))
    Path("x.py").write_text(f"import os; os.mkdir({MARKER!r})")
    Path("more.yaml").write_text(AS_JSON)


def refused(program, arguments: list[str]) -> None:
    """Ends in one line and exit code 2, and has run nothing."""
    name = f"{program.__name__.rpartition('.')[2]}.py"
    assert ends_well(name, lambda: program.main(arguments)) == 2
    assert not Path(MARKER).exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("argument", ["generator", "generator_loss", "augment", "lr", "betas"])
def test_arguments_in_a_checkpoint(spec, argument):
    path = attacks.checkpoint(Path("x.ckpt"), **{argument: spec})
    refused(evaluate, ["--samples", str(path), *JUDGE])


MODELS = {
    f"{argument}, {how}": attacks.with_model(**{argument: spec})
    for argument in ("generator", "generator_loss", "augment")
    for how, spec in SPECS.items()
}
CONFIGS = MODELS | {
    "callback": attacks.with_trainer(callbacks=[POPEN]),
    "callback as text": attacks.with_trainer(callbacks=[AS_JSON]),
    "callbacks as text": attacks.with_trainer(callbacks=f"[{AS_JSON}]"),
    "callback by name": attacks.with_trainer(callbacks=["subprocess.Popen"]),
    "more callbacks": attacks.with_trainer(**{"callbacks+": [POPEN]}),
    "argument of a callback": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.SampleGrid", rows=AS_JSON)]
    ),
    "callable of a callback": attacks.with_trainer(
        callbacks=[built_by("pytorch_lightning.callbacks.LambdaCallback",
                            on_fit_start="antigravity.geohash")]
    ),
    "logger": attacks.with_trainer(strategy=POPEN),
    "strategy as text": attacks.with_trainer(strategy=AS_JSON),
    "strategy by name": attacks.with_trainer(strategy="mine.Strategy"),
    "accelerator": attacks.with_trainer(accelerator="mine.Accelerator"),
    "plugins": attacks.with_trainer(plugins=[AS_JSON]),
    "profiler": attacks.with_trainer(profiler=AS_JSON),
    "enum": attacks.with_trainer(
        plugins=[built_by("pytorch_lightning.plugins.environments.SLURMEnvironment",
                          requeue_signal=AS_JSON)]
    ),
    "time": attacks.with_trainer(max_time=AS_JSON),
    "hook of a strategy": attacks.with_trainer(
        strategy=built_by("pytorch_lightning.strategies.DDPStrategy",
                          ddp_comm_hook="subprocess.getoutput")
    ),
    "optimizer": attacks.with_model(generator_optimizer=built_by("torch.load", f="x.pkl")),
    "optimizer as text": attacks.with_model(generator_optimizer=AS_JSON),
    "type": attacks.config(model=built_by(
        "novum.lightning_modules.CharLSTM",
        network=built_by("novum.lightning_modules.networks.CharRNN", cell="subprocess.Popen"))),
    "link key": attacks.config(**{"model.init_args.generator": POPEN}),
    "link": attacks.config(link_arguments=[["seed_everything", "model.init_args.augment"]]),
    "dotted key": attacks.config(**{"trainer.callbacks": [POPEN]}),
    "another section": attacks.config(optimizer=POPEN, lr_scheduler=POPEN),
    "another file": attacks.config(config="more.yaml"),
    "another file as a class": attacks.with_model(augment="more.yaml"),
    "another file as data": attacks.config(data="more.yaml"),
    "data": attacks.config(data=POPEN),
    "data as text": attacks.config(data=AS_JSON),
    "argument of data": attacks.with_data(path=POPEN),
    "seed": attacks.config(seed_everything=AS_JSON),
    "a pickle as a checkpoint": attacks.config(ckpt_path="x.pkl", weights_only=False),
    "weights": attacks.config(model=built_by(
        "novum.lightning_modules.DeepDream",
        backbone=built_by("novum.lightning_modules.networks.Backbone",
                          name="vgg16", weights="x.pkl"), layers=["conv1_1"])),
    "an extractor that unpickles": attacks.with_trainer(
        callbacks=[built_by("novum.callbacks.NearestNeighbours", features=["vgg16"])]
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", CONFIGS.values(), ids=CONFIGS)
def test_recipe_in_a_picture(values):
    path = attacks.picture(Path("x.png"), values)
    refused(train, ["fit", "--config", str(path), *QUICK])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", CONFIGS.values(), ids=CONFIGS)
def test_config_beside_a_checkpoint(values):
    path = attacks.run_of(Path("runs/x/version_0"), values)
    refused(train, ["test", "--ckpt_path", str(path), *QUICK])


REAL = [
    ("evaluate.py", ["--samples", "x.ckpt", *JUDGE]),
    ("generate.py", ["--checkpoint", "x.ckpt"]),
    ("explore.py", ["mix", "--checkpoint", "x.ckpt"]),
    ("train.py", ["fit", "--config", "x.png", *QUICK]),
    ("train.py", ["test", "--ckpt_path", "runs/x/version_0/checkpoints/best.ckpt", *QUICK]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "arguments"), REAL)
def test_real_command_lines(program, arguments):
    evil = built_by("torch.nn.ParameterDict", parameters=AS_JSON)
    if program == "generate.py":
        attacks.checkpoint(Path("x.ckpt"), "text", network=evil)
    else:
        attacks.checkpoint(Path("x.ckpt"), augment=evil)
    attacks.picture(Path("x.png"), attacks.with_model(augment=evil))
    attacks.run_of(Path("runs/x/version_0"), attacks.with_model(augment=evil))
    done = programs.run(ROOT / program, *arguments)
    lines = [x for x in done.stderr.splitlines() if x.startswith(f"python {program}: ")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert "names torch.nn.ParameterDict" in lines[0] and "--trust" in lines[0]
    assert not Path(MARKER).exists()
