"""Files that try to run a command: the command makes a file called `ran`."""

import io
from pathlib import Path

import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from novum.report.recipes import RECIPE
from tests.fuzz.strategies import checkpoint_bytes

MARKER = "ran"
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", MARKER]}}
AS_TEXT = yaml.safe_dump(POPEN, default_flow_style=True).strip()  # `{class_path: ...}` in one line
AS_JSON = '{"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}'


def built_by(name: str, /, **arguments: object) -> dict:
    return {"class_path": name, "init_args": arguments}


# By what of a class spec it abuses; each stands where a network, a callback or a function belongs.
SPECS = {
    "itself": POPEN,
    "text": AS_JSON,
    "yaml text": AS_TEXT,
    "text in a dict of any": built_by("torch.nn.ParameterDict", parameters=AS_JSON),
    "text in a list of any": built_by("torch.nn.ParameterList", values=[AS_JSON]),
    "spec in a dict of any": built_by("torch.nn.ParameterDict", parameters={"a": POPEN}),
    "spec in a list in a list": built_by("torch.nn.ParameterList", values=[[POPEN], [[AS_JSON]]]),
    "keyword arguments": {"class_path": "torch.nn.Identity", "dict_kwargs": {"a": POPEN}},
    "allowed class, with text": built_by("novum.lightning_modules.DiffAugment", color=AS_JSON),
    "allowed class, with a spec": built_by("novum.lightning_modules.DiffAugment", color=POPEN),
    "a file of weights": built_by(
        "novum.metrics.features.inception.Inception", name="x",
        feature_extractor_weights_path="x.pkl",
    ),
    "a method": built_by("torch.nn.Module.load_state_dict", state_dict=AS_JSON),
    "unpickling": built_by("torch.serialization.load", f="x.pkl", weights_only=False),
    "a shared library": built_by("torch.ops.load_library", path="x.so"),
    "code from a file": built_by("torch._inductor.codecache.PyCodeCache", key="x", path="x.py"),
    "code from text": built_by("torch.fx.graph_module._forward_from_src", src="import os"),
    "a partial": built_by("functools.partial", func="subprocess.getoutput", cmd="touch ran"),
    "a module as a class": built_by("novum.cli.train", args=AS_JSON),
    "an attribute of Novum": built_by("novum.core.checkpoints.importlib.import_module", name="x"),
    "another of Novum": built_by("novum.cli.lightning_cli.TrainCLI", args=["fit"]),
    "a test of Novum": built_by("tests.fuzz.outcome.ends_well"),
}  # fmt: skip


def checkpoint(path: Path, /, kind: str = "images", **arguments: object) -> Path:
    """A tiny GAN's checkpoint (or, of the kind text, a CharLSTM's) with other arguments."""
    contents = torch.load(io.BytesIO(checkpoint_bytes(kind)), weights_only=True)
    contents["hyper_parameters"] |= arguments
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, path)
    return path


def config(**sections: object) -> dict:
    """A config that would train a tiny GAN, with other sections."""
    where = "novum.lightning_modules.networks."
    networks = {
        "generator": built_by(f"{where}DCGANGenerator", width=8, latent_dim=4),
        "discriminator": built_by(f"{where}DCGANDiscriminator", width=8),
    }
    return {
        "model": built_by("novum.lightning_modules.GAN", **networks),
        "data": built_by("novum.datamodules.ImageDataModule", image_size=8),
        "trainer": {"max_steps": 1},
    } | sections


def with_model(**arguments: object) -> dict:
    """The same with other arguments of the model."""
    whole = config()
    whole["model"]["init_args"] |= arguments
    return whole


def with_trainer(**arguments: object) -> dict:
    whole = config()
    whole["trainer"] |= arguments
    return whole


def with_data(**arguments: object) -> dict:
    whole = config()
    whole["data"]["init_args"] |= arguments
    return whole


def picture(path: Path, values: dict | str) -> Path:
    """A PNG that carries a recipe."""
    info = PngInfo()
    info.add_itxt(RECIPE, values if isinstance(values, str) else yaml.safe_dump(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def run_of(folder: Path, values: dict) -> Path:
    """A harmless checkpoint in a run's folder, with that config beside it."""
    path = checkpoint(folder / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
