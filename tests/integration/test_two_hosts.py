"""torchrun on two hosts: network namespaces with a wire between them, which end with the test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.project import ROOT

HOSTS = Path(__file__).with_name("two_hosts.py")


@pytest.fixture
def apart():
    """The command that runs another in a network namespace of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--net"]
    try:
        wire = ["ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b"]
        subprocess.run([*command, *wire], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename} here: install util-linux and iproute2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"may not create network namespaces here: {error.stderr.strip()}")
    return command


@pytest.mark.slow
def test_a_run_goes_over_two_hosts(apart, tmp_path):
    command = [
        *(str(ROOT / "train.py"), "fit", "--config", "dcgan_digits", "--trainer.num_nodes", "2"),
        *("--config", "single_node", "--trainer.devices", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.precision", "32", "--trainer.max_steps", "4", "--trainer.val_check_interval"),
        *("4", "--trainer.callbacks", "null", "--data.init_args.image_size", "8"),
        *("--data.init_args.batch_size", "4", "--trainer.logger.init_args.name", "two"),
    ]
    done = subprocess.run(
        [*apart, sys.executable, str(HOSTS), *command],
        cwd=tmp_path,
        env=os.environ | {"NOVUM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (checkpoint,) = (tmp_path / "runs" / "two" / "version_0" / "checkpoints").iterdir()
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["global_step"] == 4 and saved["images_seen"] == 4 * 4 * 2
    weights = sum(v.numel() for k, v in saved["state_dict"].items() if not k.startswith("ema"))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("veth: "))
    (link,) = json.loads(line.removeprefix("veth: "))
    assert link["stats64"]["tx"]["bytes"] > 4 * 4 * weights  # gradients of every step went over it
