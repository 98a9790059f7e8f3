"""A run that SIGTERM stops and `--ckpt_path last` goes on with ends as one that nobody stopped."""

from pathlib import Path

import pytest
import torch
import yaml

from novum.cli.train import CONFIGS
from tests.integration.commands import train
from tests.tiny import states_equal
from tests.tiny_text import small_text

pytestmark = pytest.mark.slow
EXPERIMENTS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "default")
STOP = """
import os, signal, time
from pytorch_lightning import Callback

class Stop(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.world_size > 1:
            time.sleep(0.7)  # ranks agree on a signal about once a second
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
"""
GAN = ["--data.dataset=digits", "--data.image_size=8", "--data.batch_size=8"]
WIDTH = ["--model.generator.width=4", "--model.discriminator.width=4"]
FLOW = [*GAN, "--model.network.width=8", "--model.network.multipliers=[1,2]",
        "--model.likelihood_images=2"]  # fmt: skip
TEXT = ["--data.dataset=files", "--data.files=text.txt", "--data.chunk_length=20",
        "--data.batch_size=4"]  # fmt: skip
RECURRENT = [*TEXT, "--model.network.hidden_size=8"]
ATTENDING = [*TEXT, "--model.network.width=8", "--model.network.heads=2",
             "--model.network.dropout=0.1", "--model.compile_network=false"]  # fmt: skip
SMALL = {
    "adversarial": ["--data.size=64", "--model.attack.steps=8", "--model.attack.momentum=0.9"],
    "char_lstm_shakespeare": RECURRENT,
    "char_lstm_stdlib": RECURRENT,
    "char_transformer_shakespeare": ATTENDING,
    "char_transformer_shakespeare_gpu": ATTENDING,
    "char_transformer_stdlib": ATTENDING,
    "class_visualisation": ["--model.per_class=1", "--model.size=32", "--model.classes=[ant]",
                            "--model.steps=8", "--model.view_size=64"],
    "classifier_fashion_mnist": [*GAN, "--model.network.width=4"],
    "classifier_folder": ["--data.dataset=digits", "--data.image_size=32", "--data.batch_size=8"],
    "dcgan_digits": [*GAN, *WIDTH],
    "dcgan_fashion_mnist": [*GAN, *WIDTH],
    "deep_dream": ["--data.size=64", "--model.octaves=[-1,0]", "--model.steps=4"],
    "flow_cifar10": [*FLOW, "--model.compile_network=false"],
    "flow_digits": FLOW,
    "flow_fashion_mnist": FLOW,
    "goodfellow_mnist": [*GAN[:1], "--data.image_size=28", "--data.batch_size=8"],
    "style_transfer": ["--data.size=64", "--model.min_scale=64", "--model.initial_steps=8"],
    "stylegan_cifar10": [*GAN, "--model.generator.max_width=8", "--model.discriminator.max_width=8",
                         "--model.generator.mapping_layers=1"],  # fmt: skip
    "stylegan_fashion_mnist": [*GAN, "--model.generator.max_width=8",
                               "--model.discriminator.max_width=8"],
}  # fmt: skip
LABELLED = ["--model.generator.num_classes=10", "--model.discriminator.num_classes=10"]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
OTHERS = {
    "bf16": ("dcgan_digits", ["--trainer.precision=bf16-mixed"]),
    "classes": ("dcgan_digits", LABELLED),
    "penalties": ("dcgan_digits", ["--model.r1_gamma=1", "--model.r1_interval=2",
                                   "--model.discriminator_steps=2", "--model.accumulate=2"]),
    "a GAN on two ranks": ("dcgan_digits", TWO),
    "text on two ranks": ("char_lstm_stdlib", TWO),
    "a transformer on two ranks": ("char_transformer_stdlib", TWO),
    "a classifier on two ranks": ("classifier_fashion_mnist", TWO),
    "flow matching on two ranks": ("flow_digits", TWO),
    "optimal transport": ("flow_digits", ["--model.optimal_transport=true"]),
    "a StyleGAN on two ranks": ("stylegan_fashion_mnist", TWO),
    "RMSprop": ("char_lstm_stdlib", ["--model.optimizer=torch.optim.RMSprop"]),
    "adversarial training": ("classifier_fashion_mnist", [
        "--model.attack=novum.lightning_modules.PGD", "--model.attack.steps=1"]),
}  # fmt: skip


def last(folder: Path, name: str) -> dict:
    return torch.load(folder / "runs" / name / "version_0/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize("case", [*EXPERIMENTS, *OTHERS])
def test_resume_is_exact(tmp_path, case):
    config, more = OTHERS.get(case, (case, []))
    (tmp_path / "stop.py").write_text(STOP)
    (tmp_path / "text.txt").write_text(small_text(4000), encoding="utf-8")
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["trainer"]
    steps = [] if settings["max_steps"] == -1 else ["--trainer.max_steps=8"]
    arguments = [
        "fit", "--config", config, *SMALL[config], *more, *steps, "--trainer.accelerator=cpu",
        "--trainer.val_check_interval=4", "--trainer.limit_val_batches=1",
        "--trainer.callbacks=[Preemption,LastCheckpoint]",
    ]  # fmt: skip
    options = {
        "starts": int("--trainer.devices=2" in more),
        "env": {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    }
    named = "--trainer.logger.init_args.name="
    whole = train(tmp_path, *arguments, f"{named}whole", **options)
    assert whole.returncode == 0, whole.stderr[-3000:]
    stopping = [f"{named}parts", "--trainer.callbacks=[stop.Stop,Preemption,LastCheckpoint]"]
    stopped = train(tmp_path, *arguments, *stopping, **options)
    assert stopped.returncode == 75, stopped.stderr[-3000:]
    done = last(tmp_path, "parts")["global_step"]
    assert 5 <= done < last(tmp_path, "whole")["global_step"]
    again = train(tmp_path, *arguments, f"{named}parts", "--ckpt_path=last", **options)
    assert again.returncode == 0, again.stderr[-3000:]
    ours, theirs = last(tmp_path, "whole"), last(tmp_path, "parts")
    assert ours["global_step"] == theirs["global_step"]
    assert states_equal(ours["state_dict"], theirs["state_dict"])
    for a, b in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        assert all(states_equal(v, b["state"][k]) for k, v in a["state"].items())
        assert a["param_groups"] == b["param_groups"]
    for key in ("images_seen", "tokens_seen", "velocity"):
        assert str(ours.get(key)) == str(theirs.get(key))
