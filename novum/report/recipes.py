"""Pictures that carry the recipe that made them, and animations."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pytorch_lightning import Trainer

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule
from novum.report.pictures import Pixels, encode_gif

RECIPE = "novum:config"  # text chunk of our PNGs: the config that made them


def recipe_of(trainer: Trainer) -> str:
    """The run's resolved config as YAML, under comments that say what else the result hangs on.

    It is signed as config.yaml is.
    """
    config = Path(trainer.log_dir or ".") / "config.yaml"
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    images = getattr(datamodule(trainer), "fingerprints", dict)()
    device, threads = trainer.strategy.root_device.type, torch.get_num_threads()
    lines = [f"made by novum with torch {torch.__version__} on {device}, {threads} threads"]
    lines += [f"image {name}: sha256 of its pixels {digest}" for name, digest in images.items()]
    return "".join(f"# {line}\n" for line in lines) + text


def write_png(path: Path, picture: Pixels, recipe: str) -> None:
    """A picture (h, w, 3) with its recipe in the PNG's own metadata."""
    info = PngInfo()
    info.add_itxt(RECIPE, recipe)
    Image.fromarray(picture).save(path, pnginfo=info)


def write_animation(path: Path, frames: Sequence[Pixels], frames_per_second: int) -> None:
    """Frames (n, h, w, 3) as .gif or .mp4."""
    if path.suffix == ".gif":
        path.write_bytes(encode_gif(frames, len(frames) / frames_per_second))
        return
    av = video_package()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=frames_per_second)
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])  # h264 takes even sides
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def video_package():  # noqa: ANN201
    """PyAV, which brings ffmpeg with it."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise InputError(
            "mp4 needs the package av: pip install av, or set animation: gif"
        ) from error
