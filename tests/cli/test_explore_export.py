"""Exported generators make the checkpoint's images; exported text models its texts."""

import json
import sys

import onnx
import onnxruntime
import pytest
import torch

from novum.cli import explore
from novum.cli.explore_export import compare, graph_of, program_of, write_onnx
from novum.core.seeds import random_generator
from novum.evaluation.onnx_generator import OnnxGenerator
from novum.lightning_modules.flow_matching.solvers import RK45, Heun
from novum.lightning_modules.text_sampling import Sampling, generate
from tests.tiny import awake, tiny_flow, tiny_gan, tiny_stylegan
from tests.tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

GENERATORS = {
    "gan": lambda: tiny_gan(),
    "gan_of_classes": lambda: tiny_gan(3),
    "stylegan": lambda: tiny_stylegan(truncation_psi=0.5, truncation_cutoff=2),
    "stylegan_of_classes": lambda: tiny_stylegan(3, truncation_psi=0.5),
    "flow_of_classes": lambda: tiny_flow(3, sampler=Heun(2), guidance=2.0),
}


def ready(make) -> torch.nn.Module:
    """A module whose weights are of no special value, with a mean of w."""
    module = make().eval()
    awake(module.ema)
    if hasattr(module.ema, "mean_w"):
        module.ema.mean_w.fill_(0.3)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_onnx_makes_the_images_of_the_module(tmp_path, name):
    """At most one level apart, in at most 1% of the pixels: `compare` raises beyond that."""
    module = ready(GENERATORS[name])
    write_onnx(graph_of(module, "best.ckpt"), tmp_path / "model.onnx")
    assert compare(module, tmp_path / "model.onnx").startswith("64 images equal")
    model = OnnxGenerator(str(tmp_path / "model.onnx"))
    few = model.sample(5, seed=3)  # another number of rows than was traced or compared
    assert (few.int() - module.sample(5, seed=3).int()).abs().max() <= 1
    assert len(few.unique()) > 2 and not torch.equal(few, model.sample(5, seed=4))
    assert model.num_classes == module.num_classes
    if module.num_classes:
        labels = torch.tensor([2, 2, 0, 1, 1])
        wanted = module.sample(5, seed=3, labels=labels)
        assert (model.sample(5, seed=3, labels=labels).int() - wanted.int()).abs().max() <= 1


def test_a_program_of_torch_makes_the_images_of_the_module(tmp_path, capsys):
    module = ready(GENERATORS["stylegan_of_classes"])
    program = program_of(graph_of(module, "best.ckpt"))
    z, labels = module.sample_latents(7, seed=1), torch.arange(7) % 3
    with torch.no_grad():
        made = program.module()(z, labels)
    assert torch.equal(made, module.decode(z, labels=labels))


def test_images_too_far_off_remove_the_file(tmp_path):
    module = ready(GENERATORS["gan"])
    write_onnx(graph_of(module, "best.ckpt"), tmp_path / "model.onnx")
    with torch.no_grad():
        module.ema.layers[-2].bias += 0.1
    with pytest.raises(ValueError, match="was removed: its images are up to"):
        compare(module, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_text_model_writes_the_same_texts_step_by_step(tmp_path):
    model = tiny_char_lstm(text_data(tmp_path)).eval()
    write_onnx(graph_of(model, "best.ckpt"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))

    def network(tokens, state=None):
        logits = []
        state = state or tuple(torch.zeros(2, tokens.shape[1], 8) for _ in "hc")
        for row in tokens:
            h, c = (part.numpy() for part in state)
            made = session.run(None, {"tokens": row.numpy(), "h": h, "c": c})
            first, *state = map(torch.from_numpy, made)
            logits.append(first)
        return torch.stack(logits), tuple(state)

    start, never = torch.from_numpy(model._prime("la ")), torch.tensor([0])
    uniforms = torch.rand(4, 30, generator=random_generator(0))
    rows = generate(network, start, uniforms, Sampling(), never)
    texts = [model.vocabulary.decode(row) for row in rows.numpy()]
    assert texts == model.sample_text(4, 30, prime="la ", seed=0)
    facts = {x.key: x.value for x in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert facts["alphabet"] == model.vocabulary.alphabet


def test_what_has_no_graph_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="RK45 finds its steps as it goes.*--steps N of Heun"):
        graph_of(tiny_flow(sampler=RK45()), "best.ckpt")
    module = tiny_flow(sampler=RK45())
    graph_of(module, "best.ckpt", steps=3)
    assert module.sampler.steps == 3
    with pytest.raises(ValueError, match="--steps is of flow matching"):
        graph_of(tiny_gan(), "best.ckpt", steps=3)
    text = tiny_char_transformer(text_data(tmp_path))
    with pytest.raises(ValueError, match="CharTransformer: its window of text grows"):
        graph_of(text, "best.ckpt")
    with pytest.raises(ValueError, match="holds a Linear: export needs a generator"):
        graph_of(torch.nn.Linear(1, 1), "best.ckpt")


def test_without_onnx_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="needs onnxscript: pip install onnx onnxscript"):
        write_onnx(graph_of(tiny_gan(), "best.ckpt"), tmp_path / "model.onnx")


def test_from_a_checkpoint(checkpoint_of_gan, tmp_path, capsys):
    for form, file in (("torch", "generator.pt2"), ("onnx", "generator.onnx")):
        explore.main(["export", "--checkpoint", str(checkpoint_of_gan), "--output",
                      str(tmp_path / "of it"), "--format", form])  # fmt: skip
        assert (tmp_path / "of it" / file).is_file()
        assert "64 images equal those of the checkpoint" in capsys.readouterr().out
    extra = {"facts.json": ""}
    torch.export.load(str(tmp_path / "of it" / "generator.pt2"), extra_files=extra)
    assert json.loads(extra["facts.json"])["images_seen"] == "32"


def test_steps_of_a_projection_are_200_and_those_of_a_flow_its_own():
    assert explore.parse(["project", "--checkpoint", "x"]).steps == 200
    assert explore.parse(["export", "--checkpoint", "x"]).steps is None


@pytest.fixture
def checkpoint_of_gan(tmp_path):
    shape = {"image_size": 8, "channels": 1, "width": 8}
    networks = "novum.lightning_modules.networks"
    saved = {
        "state_dict": tiny_gan().state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "images_seen": 32,
        "hyper_parameters": {
            "_class_path": "novum.lightning_modules.GAN",
            "generator": {
                "class_path": f"{networks}.DCGANGenerator",
                "init_args": {**shape, "latent_dim": 4},
            },
            "discriminator": {"class_path": f"{networks}.DCGANDiscriminator", "init_args": shape},
        },
    }
    torch.save(saved, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"
