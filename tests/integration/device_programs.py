"""Runs programs on the look-alike device, as they run on a GPU.

Run as a program by test_device.py: OUT, then a JSON file of commands by name, each a folder to run
it in, a program's name in novum.cli and its arguments. OUT has each one's traceback, "" if none.
"""

import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path

import torch
from lookalike import DEVICE, Watch, lstm, pin
from pytorch_lightning.accelerators.cpu import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy, StrategyRegistry

from novum.core import devices, memory

NAME = "lookalike"
ON_DEVICE = {"train": [f"--trainer.strategy={NAME}", "--trainer.accelerator=auto"]}


class OneDevice(SingleDeviceStrategy):
    def __init__(self) -> None:
        super().__init__(DEVICE)


def run(folder: str, program: str, *arguments: str) -> str:
    os.chdir(folder)
    sys.argv = [f"{program}.py"]
    watch = Watch()
    try:
        with watch:
            main = importlib.import_module(f"novum.cli.{program}").main
            main([*arguments, *ON_DEVICE.get(program, [])])
    except (Exception, SystemExit):
        return traceback.format_exc()
    return "" if watch.operations > 50 else "nothing was computed on the device"


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.Tensor.pin_memory = pin
    torch._VF.lstm = lstm
    CPUAccelerator.setup_device = lambda *_: None  # Lightning's takes the CPU alone
    memory.free_device_bytes = lambda device: 2**33
    devices.default_device = lambda: DEVICE  # before a program is imported that takes it from there
    StrategyRegistry.register(NAME, OneDevice, "a device that says it is another")
    commands = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[1]).absolute()
    out.write_text(json.dumps({name: run(*command) for name, command in commands.items()}))
