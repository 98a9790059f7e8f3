"""ONNX files of anyone as generators: inputs by type and shape, outputs by what they say."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import novum
from novum.cli.evaluate import main
from novum.evaluation.onnx_generator import OnnxGenerator

SIZE = 64  # latents; images are 8 x 8


def model(path, *, last="Tanh", latents=("N", SIZE), labels=None, facts=None, shape=(-1, 1, 8, 8)):
    """z -> last(z), as images; and labels added to it."""
    nodes = [helper.make_node("Reshape", ["z", "shape"], ["x"])]
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, latents)]
    if labels:
        inputs.append(helper.make_tensor_value_info(*labels))
        nodes += [
            helper.make_node("Cast", [labels[0]], ["y"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["y", "column"], ["yy"]),
            helper.make_node("Add", ["x", "yy"], ["x1"]),
        ]
    x, kind = "x1" if labels else "x", TensorProto.FLOAT
    if last == "uint8":
        nodes += [helper.make_node("Cast", [x], ["images"], to=TensorProto.UINT8)]
        kind = TensorProto.UINT8
    else:
        nodes += [helper.make_node(last, [x], ["images"])]
    constants = [
        helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape),
        helper.make_tensor("column", TensorProto.INT64, [4], (-1, 1, 1, 1)),
    ]
    outputs = [helper.make_tensor_value_info("images", kind, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for key, value in (facts or {}).items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, path)
    return str(path)


def latents(n, seed):
    return torch.randn(n, SIZE, generator=torch.Generator().manual_seed(seed)).view(n, 1, 8, 8)


def test_the_range_of_floats_is_seen_where_it_can_be_one_alone(tmp_path):
    z = latents(5, 2)
    signed = OnnxGenerator(model(tmp_path / "a b.onnx")).sample(5, seed=2)
    assert (signed - ((z.tanh() + 1) * 127.5).round()).abs().max() <= 1
    unit = OnnxGenerator(model(tmp_path / "b.onnx", last="Sigmoid")).sample(5, seed=2)
    assert (unit - (z.sigmoid() * 255).round()).abs().max() <= 1


@pytest.mark.parametrize(("last", "says"), [
    ("Identity", r"floats from -\d.* to \d.*plainly -1 to 1: write .*'value_range', value='-1,1'"),
    ("LeakyRelu", "neither 0 to 1"),
    ("Log", "not finite"),
])  # fmt: skip
def test_floats_that_may_mean_anything_are_refused(tmp_path, last, says):
    with pytest.raises(ValueError, match=says):
        OnnxGenerator(model(tmp_path / "m.onnx", last=last)).sample(70, seed=0)


def test_later_batches_keep_to_the_range_of_the_first(tmp_path):
    generator = OnnxGenerator(model(tmp_path / "m.onnx", last="Identity"))
    generator.range = "0,1"  # as a first batch may have looked
    with pytest.raises(ValueError, match="makes floats from -"):
        generator.sample(5, seed=2)


def test_what_a_file_says_of_its_range_counts(tmp_path):
    z = latents(5, 2)
    given = {"value_range": "-1,1"}
    made = OnnxGenerator(model(tmp_path / "m.onnx", last="Identity", facts=given)).sample(5, seed=2)
    assert (made - ((z.clamp(-1, 1) + 1) * 127.5).round()).abs().max() <= 1
    given = {"value_range": "0,255"}
    made = OnnxGenerator(model(tmp_path / "m.onnx", last="Exp", facts=given)).sample(5, seed=2)
    assert torch.equal(made, z.exp().round().to(torch.uint8))
    with pytest.raises(ValueError, match="value_range is '0..1': give one of -1,1 or 0,1 or 0,255"):
        OnnxGenerator(model(tmp_path / "m.onnx", facts={"value_range": "0..1"}))


def test_bytes_and_channels_last_are_taken(tmp_path):
    place = model(tmp_path / "m.onnx", last="uint8", shape=(-1, 8, 8, 1))
    made = OnnxGenerator(place).sample(70, seed=1)
    assert made.dtype == torch.uint8 and made.shape == (70, 1, 8, 8)


def test_a_batch_of_fixed_size_and_latents_of_four_axes(tmp_path):
    any_size = OnnxGenerator(model(tmp_path / "a.onnx")).sample(7, seed=3)
    fixed = OnnxGenerator(model(tmp_path / "b.onnx", latents=(4, SIZE, 1, 1)))
    assert torch.equal(fixed.sample(7, seed=3), any_size)


def test_labels_go_through_the_classes_in_turn(tmp_path):
    labels = ("class", TensorProto.INT64, ["N"])
    place = model(tmp_path / "m.onnx", labels=labels, facts={"num_classes": "3"})
    made = OnnxGenerator(place).sample(6, seed=0)
    wanted = (latents(6, 0) + (torch.arange(6) % 3)[:, None, None, None]).tanh()
    assert (made - ((wanted + 1) * 127.5).round()).abs().max() <= 1
    with pytest.raises(ValueError, match="how many classes there are: .*'num_classes', value='10'"):
        OnnxGenerator(model(tmp_path / "m.onnx", labels=labels))


def test_a_seed_is_another_for_each_part(tmp_path):
    place = model(tmp_path / "m.onnx", labels=("seed", TensorProto.INT64, []), last="Sigmoid")
    model_ = OnnxGenerator(place)
    assert model_.inputs.seed == "seed" and model_.num_classes == 0
    fed = []
    run = model_.session.run
    model_.session = type(
        "Spy", (), {"run": lambda self, _, feed: fed.append(feed) or run(_, feed)}
    )()
    model_.sample(130, seed=5)
    assert len({int(feed["seed"]) for feed in fed}) == 3


@pytest.mark.parametrize(("given", "says"), [
    ({"latents": ("N", 3, 8, 8)}, r"takes z float \['N', 3, 8, 8\]: a generator takes latents"),
    ({"latents": ("N", "d")}, "a generator takes latents"),
    ({"labels": ("image", TensorProto.FLOAT, ["N", 2])}, "wrap another in a function"),
])  # fmt: skip
def test_other_inputs_are_refused(tmp_path, given, says):
    with pytest.raises(ValueError, match=says):
        OnnxGenerator(model(tmp_path / "m.onnx", **given))


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file gone.onnx"):
        OnnxGenerator("gone.onnx")
    for content in (b"", b"no model", bytes(1000)):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(ValueError, match="not an ONNX model"):
            OnnxGenerator(str(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="regular file"):
        (tmp_path / "folder.onnx").mkdir()
        OnnxGenerator(str(tmp_path / "folder.onnx"))


def test_weights_outside_of_the_folder_are_not_read(tmp_path):
    """Weights may lie in other files, beside the model alone."""
    (tmp_path / "secret").write_bytes(np.ones(64, np.float32).tobytes())
    weight = helper.make_tensor("w", TensorProto.FLOAT, [64], np.ones(64, np.float32))
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    graph = helper.make_graph(
        [helper.make_node("Add", ["z", "w"], ["images"])], "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match="not an ONNX model"):
        OnnxGenerator(str(tmp_path / "in" / "m.onnx"))


def test_without_onnxruntime_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="needs onnxruntime: pip install onnxruntime"):
        OnnxGenerator(model(tmp_path / "m.onnx"))


def test_a_model_is_judged_as_any_generator(tmp_path, capsys):
    torch.manual_seed(0)
    train, heldout = torch.randint(0, 256, (2, 60, 1, 8, 8), dtype=torch.uint8).numpy()
    np.save(tmp_path / "train.npy", train[:, 0])
    np.save(tmp_path / "heldout.npy", heldout[:, 0])
    place = model(tmp_path / "m.onnx")
    report = novum.evaluate(place, train, heldout, num_samples=40, features="pixels")
    again = novum.evaluate(place, train, heldout, num_samples=40, features="pixels")
    assert report.samples.n == 40 and report.samples.path == place
    assert report.samples.fingerprint == again.samples.fingerprint
    main([place, f"{tmp_path}/train.npy", f"{tmp_path}/heldout.npy", "--num-samples", "40",
          "--features", "pixels", "--output", str(tmp_path / "out")])  # fmt: skip
    assert "of 40 samples" in capsys.readouterr().out
