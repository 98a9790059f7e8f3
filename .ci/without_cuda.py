"""Part constraints.txt: packages that do without CUDA, with their hashes, and torch by version.

    python .ci/without_cuda.py constraints.txt others.txt torch.txt

torch and torchvision without CUDA are other files than those of PyPI, so no hash is known of them.
"""

import re
import sys
from pathlib import Path

OF_TORCH = {"torch", "torchvision"}
CUDA = re.compile(r"nvidia-|cuda-|triton$")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ \\]+)")


def blocks(text: str) -> list[str]:
    """Pins with the lines that belong to them: hashes and comments."""
    return re.findall(r"^[a-z0-9-]+==.*\n(?:[ \t]+.*\n)*", text, re.M)


def parts(text: str) -> tuple[str, str]:
    """Pins of all but torch and CUDA; and torch's, by version alone."""
    others, torch = [], []
    for block in blocks(text):
        pin = PIN.match(block)
        assert pin is not None  # as `blocks` begins
        if pin["name"] in OF_TORCH:
            torch.append(f"{pin['name']}=={pin['version']}\n")
        elif not CUDA.match(pin["name"]):
            others.append(block)
    return "".join(others), "".join(torch)


if __name__ == "__main__":
    source, *targets = map(Path, sys.argv[1:])
    for target, text in zip(targets, parts(source.read_text()), strict=True):
        target.write_text(text)
