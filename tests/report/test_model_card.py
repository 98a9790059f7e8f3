"""Model cards: a header that the hub's own client reads, and the report's figures."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from novum.report.model import Provenance, Recall
from novum.report.model_card import model_card, model_name
from tests.report.reports import COPIES, SOME, report


def test_the_hub_s_client_reads_the_header_and_the_figures():
    found = report(rate=SOME, flagged=21, p=0.0001, gate=COPIES)
    card = ModelCard(model_card(found, "dcgan"))
    results = {result.metric_type: result for result in card.data.eval_results}
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert results["novum_finding"].metric_value == "copying"
    assert results["frechet_distance"].metric_value == 12.345
    assert card.data.get("datasets") is None and results["precision"].dataset_name == "train/path"
    assert "license" not in card.data.to_dict()  # it is not ours to say


def test_every_figure_stands_with_its_interval_and_the_verdict_first():
    found = report(rate=SOME, flagged=21, p=0.0001, gate=COPIES)
    text = model_card(found, "dcgan")
    none = report(gate={"needed": 27})
    assert none.verdict.sentences[0].startswith("none found")  # after the headline and a colon
    assert "\n> None found" in model_card(none, "dcgan")
    assert text.index(found.verdict.headline) < text.index("## What it makes")
    assert "| kernel&#95;distance | pixels | 0.1 | 0.05 to 0.15 | – |" in text
    assert "| copy&#95;rate | pixels | 2.0% | 1.2% to 3.0% | – |" in text
    assert "density" not in text  # unknown
    for side in ("samples", "train", "heldout"):
        assert f"| {side} | {side}/path | 1,000 | {side} |" in text


def test_what_the_detector_misses_is_a_limit():
    found = replace(report(), power=[Recall("crop", 0.5, 0.4, 0.6), Recall("mirror", 1.0)])
    text = model_card(found, "dcgan")
    assert "finds less than 80% here: crop (50.0%, 95%: 40.0% to 60.0%)." in text
    assert "mirror" not in text
    without = replace(report(), heldout=None)
    assert "Nothing was held out" in model_card(without, "dcgan")


def test_a_data_set_of_the_hub_is_linked():
    found = report()
    found.train.path = "hf://datasets/ylecun/mnist"
    header = yaml.safe_load(model_card(found, "x").split("---\n")[1])
    assert header["datasets"] == ["ylecun/mnist"]


@pytest.mark.parametrize("name", ["a: b", "<script>", "x\n---\ny", "| a |", "\x1b[31m", "#"])
def test_names_are_text_whatever_they_hold(name):
    found = report()
    found.samples.path = found.train.path = name
    text = model_card(found, name)
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["model-index"][0]["results"][0]["metrics"]
    assert "<script>" not in body and "\x1b" not in text
    assert ModelCard(text).data.eval_results


def test_redacted_cards_name_no_place():
    found = replace(report(), made_by=Provenance("1", "c" * 64, redacted=True))
    text = model_card(found, "x")
    assert "train/path" not in text and "(redacted)" in text.split("---\n", 2)[2]


def test_a_run_gives_the_name():
    assert model_name("runs/dcgan_digits/version_3/checkpoints/best.ckpt") == "dcgan_digits"
    assert model_name("release/dcgan_digits/checkpoints/best.ckpt") == "dcgan_digits"
    assert model_name("checkpoints/best.ckpt") == "best"
    assert model_name("out/model.onnx") == "model" and model_name("/") == "generator"
