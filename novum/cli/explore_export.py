"""Exports of trained models: ONNX files, and programs of torch.export."""

import argparse
import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from novum.core.checkpoints import load_module
from novum.core.errors import InputError
from novum.core.files import prepare_output, whole_file
from novum.evaluation.onnx_generator import CLASSES, SUFFIX, OnnxGenerator
from novum.lightning_modules.flow_matching.flow_sampling import FlowSampling
from novum.lightning_modules.flow_matching.solvers import Heun
from novum.lightning_modules.networks import CharRNN
from novum.lightning_modules.networks.char_rnn import OneStep
from novum.lightning_modules.sampling import LatentSampling, UInt8Images
from novum.lightning_modules.text_model import TextModel

PROGRAM = ".pt2"
EXAMPLES = 3  # rows that a graph is traced with; 0 and 1 would become constants of it
COMPARED = 64  # images of the check
MOST_ROUNDED = 0.01  # share of pixels that may be another level, by one: sums are rounded otherwise


class Graph(NamedTuple):
    """A network to trace, example inputs by name, and facts to write beside it.

    Args:
        batch_axes: Axis of each input that is the batch.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    batch_axes: dict[str, int]
    outputs: list[str]
    facts: dict[str, str]


def export(options: argparse.Namespace) -> None:
    """Write a checkpoint's model as a graph, and compare what it makes with the checkpoint's."""
    module = load_module(Path(options.checkpoint), "state_dict", "model").eval().float()
    graph = graph_of(module, options.checkpoint, options.steps)
    suffix = SUFFIX if options.format == "onnx" else PROGRAM
    name = "generator" if isinstance(module, LatentSampling) else "text_model"
    prepare_output(options.output)
    path = options.output / f"{name}{suffix}"
    (write_onnx if options.format == "onnx" else write_program)(graph, path)
    print(path)
    if isinstance(module, LatentSampling):
        print(compare(module, path))
    print("; ".join(f"{key} {value}" for key, value in graph.facts.items() if len(value) < 40))


def graph_of(module: nn.Module, place: str, steps: int | None = None) -> Graph:
    """The graph of a model; ValueError if it has none."""
    if isinstance(module, LatentSampling):
        return _of_images(module, steps)
    if steps is not None:
        raise InputError(f"--steps is of flow matching: leave it out for {type(module).__name__}")
    if isinstance(module, TextModel) and isinstance(module.network, CharRNN):
        return _of_text(module, module.network)
    why = (
        "its window of text grows and moves, which no graph of one step holds; generate.py writes"
        " with it"
        if isinstance(module, TextModel)
        else "export needs a generator with latents (GAN, StyleGAN, FlowMatching) or a recurrent"
        " text model (CharLSTM)"
    )
    raise InputError(f"{place} holds a {type(module).__name__}: {why}")


def _of_images(module: LatentSampling, steps: int | None) -> Graph:
    if isinstance(module, FlowSampling):
        module.sampler = Heun(steps) if steps is not None else module.sampler
    elif steps is not None:
        raise InputError(f"--steps is of flow matching: leave it out for {type(module).__name__}")
    inputs = {"z": module.sample_latents(EXAMPLES, seed=0)}
    facts = {"latents": f"{module.latent_dim}, standard normal", "images": "uint8"}
    if module.num_classes:
        inputs["labels"] = torch.arange(EXAMPLES) % module.num_classes
        facts[CLASSES] = str(module.num_classes)
    facts["images_seen"] = str(int(cast(Any, module).images_seen))
    network = UInt8Images(module.image_network()).eval()
    return Graph(network, inputs, dict.fromkeys(inputs, 0), ["images"], facts)


def _of_text(module: TextModel, network: CharRNN) -> Graph:
    tokens = torch.zeros(EXAMPLES, dtype=torch.int64)
    _, state = network(tokens[None])
    names = ("h", "c")[: len(state)]
    facts = {"vocab_size": str(network.vocab_size), "tokens_seen": str(module.tokens_seen)}
    for name in ("alphabet", "merges"):
        if value := getattr(module.vocabulary, name):
            facts[name] = value
    return Graph(
        OneStep(network).eval(),
        {"tokens": tokens, **dict(zip(names, state, strict=True))},
        {"tokens": 0, **dict.fromkeys(names, 1)},
        ["logits", *(f"next_{name}" for name in names)],
        facts,
    )


def program_of(graph: Graph) -> torch.export.ExportedProgram:
    """The traced network, for any number of rows."""
    rows = torch.export.Dim("n")
    shapes = tuple({axis: rows} for axis in graph.batch_axes.values())
    with torch.no_grad(), _quietly():
        return torch.export.export(
            graph.network, tuple(graph.inputs.values()), dynamic_shapes=shapes, strict=True
        )


def write_program(graph: Graph, path: Path) -> None:
    """A file for torch.export.load, with the facts as its extra file facts.json."""
    import json

    program = program_of(graph)
    with whole_file(path) as file, _quietly():
        torch.export.save(program, file, extra_files={"facts.json": json.dumps(graph.facts)})


def write_onnx(graph: Graph, path: Path) -> None:
    """An ONNX file with the facts as its metadata; weights beside it from 2 GB on."""
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                f"export to ONNX needs {package}: pip install onnx onnxscript"
            ) from error
    program = program_of(graph)
    with _quietly():
        made = torch.onnx.export(
            program, dynamo=True, input_names=list(graph.inputs), output_names=graph.outputs,
            verbose=False,
        )  # fmt: skip
    assert made is not None  # it was asked for no file
    made.model.metadata_props.update(graph.facts)
    made.model.producer_name = "novum"
    made.save(str(path))


def compare(module: LatentSampling, path: Path) -> str:
    """Say how far the images of an exported file are from the module's; ValueError if too far."""
    given = module.sample(COMPARED, seed=0).int()
    if path.suffix == SUFFIX:
        try:
            made = OnnxGenerator(str(path)).sample(COMPARED, seed=0)
        except InputError as error:
            if "needs onnxruntime" not in str(error):
                raise
            return f"Not compared with the checkpoint: {error}"
    else:
        z = module.sample_latents(COMPARED, seed=0)
        classes = module.num_classes
        labels = (torch.arange(COMPARED) % classes,) if classes else ()
        with torch.no_grad():
            made = torch.export.load(str(path)).module()(z, *labels)
    apart = (made.int() - given).abs()
    share = float((apart > 0).float().mean())
    if apart.max() > 1 or share > MOST_ROUNDED:
        path.unlink()
        raise InputError(
            f"{path} was removed: its images are up to {int(apart.max())} levels off, in"
            f" {share:.1%} of the pixels"
        )
    return f"{COMPARED} images equal those of the checkpoint" + (
        f", but for one level in {share:.2%} of the pixels" if share else ""
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """No warnings of torch about its own parts."""
    known = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger("torch.onnx").setLevel(known)
