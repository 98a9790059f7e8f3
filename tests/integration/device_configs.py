"""Runs a config on the look-alike device, callbacks included, as `train.py fit` does on a GPU.

Run as a program by test_device.py: OUT, then the arguments of `train.py`.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from lookalike import DEVICE, Watch, lstm, pin
from pytorch_lightning.accelerators.cpu import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy, StrategyRegistry

from novum.cli.train import main
from novum.core import memory

NAME = "lookalike"


class OneDevice(SingleDeviceStrategy):
    def __init__(self) -> None:
        super().__init__(DEVICE)


def run() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.Tensor.pin_memory = pin
    torch._VF.lstm = lstm
    CPUAccelerator.setup_device = lambda *_: None  # Lightning's takes the CPU alone
    memory.free_device_bytes = lambda device: 2**33
    StrategyRegistry.register(NAME, OneDevice, "a device that says it is another")
    out, *arguments = sys.argv[1:]
    sys.argv = ["train.py"]
    with Watch() as watch:
        main([*arguments, f"--trainer.strategy={NAME}", "--trainer.accelerator=auto"])
    Path(out).write_text(json.dumps({"operations": watch.operations}))


if __name__ == "__main__":
    run()
