"""The fixture `novum_verdict` and the marker `novelty`, in a run of pytest of its own."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from novum.datamodules import ImageDataModule

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester, monkeypatch):
    """A folder with digits, and a function that runs a file of tests there."""
    data = ImageDataModule("digits", image_size=8)
    images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    digits = images[order].numpy()
    train = digits[:300]
    parts = {"train": train, "heldout": digits[300:500], "fresh": digits[500:560]}
    parts["copies"] = np.concatenate([digits[500:560], train[:20]])
    for name, part in parts.items():
        np.save(pytester.path / f"{name}.npy", part)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # installed or not, it is there once
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest("-p", "novum.pytest_plugin", "-p", "no:cacheprovider", *options)

    return run


MARKED = """
import pytest

pytestmark = pytest.mark.novelty(heldout="heldout.npy", features="pixels")

@pytest.mark.novelty(train="train.npy")
@pytest.mark.parametrize("samples", ["fresh.npy", "copies.npy"])
def test_new(novum_verdict, samples):
    report = novum_verdict(samples)
    assert report.heldout.path == "heldout.npy"
    report.assert_no_copying()

@pytest.mark.novelty(samples="fresh.npy", train="copies.npy")
def test_marker_alone(novum_verdict):
    assert novum_verdict().finding == "copying"

def test_other():
    pass
"""


def test_a_copier_fails_with_its_verdict_and_its_page(suite, pytester):
    result = suite(MARKED, "--junitxml=j.xml", "-rN")
    result.assert_outcomes(passed=3, failed=1)
    text = result.stdout.str()
    assert "AssertionError: Copying found: " in text
    page = re.search(r"^(/.*report\.html)$", text, re.MULTILINE)
    assert page is not None and "Copying found" in Path(page[1]).read_text()
    cases = {c.get("name"): c for c in ElementTree.parse(pytester.path / "j.xml").iter("testcase")}
    found = {
        name: [p.get("value") for p in case.iter("property") if p.get("name") == "novum_finding"]
        for name, case in cases.items()
    }
    assert found == {
        "test_new[fresh.npy]": ["too_little_evidence"],
        "test_new[copies.npy]": ["copying"],
        "test_marker_alone": ["copying"],
        "test_other": [],
    }


def test_the_marker_selects(suite):
    result = suite(MARKED.replace("pytestmark", "unused"), "-m", "novelty", "--collect-only", "-q")
    assert "test_new" in result.stdout.str() and "test_other" not in result.stdout.str()


def test_what_is_wrong_is_said_in_one_line(suite):
    result = suite(
        """
import pytest

@pytest.mark.novelty("train.npy")
def test_position(novum_verdict):
    pass

def test_missing(novum_verdict):
    novum_verdict("fresh.npy")
"""
    )
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*novelty takes names: samples=..., train=..., heldout=...", "*train is needed: *"]
    )
