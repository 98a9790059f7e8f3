"""Forty slips with evaluate.py and novum.evaluate: each is one line that names the mend."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

import novum
from novum.cli.evaluate import main

SETS = ("s.npy", "t.npy", "h.npy")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Small sets, and what is wrong with others."""
    folder = tmp_path_factory.mktemp("slips")
    rng = np.random.default_rng(0)
    for name, n in {"s": 20, "t": 40, "h": 30}.items():
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (n, 8, 8), dtype=np.uint8))
    np.save(folder / "floats.npy", rng.random((9, 8, 8)))
    np.save(folder / "masks.npy", rng.integers(0, 2, (20, 8, 8), dtype=np.uint8))
    np.save(folder / "which.npy", np.zeros((8, 8, 3), np.uint8))
    np.save(folder / "one.npy", np.zeros((1, 8, 8), np.uint8))
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "a.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("some words of no use")
    (folder / "few.txt").write_text("few")
    (folder / "data.csv").write_text("a,b\n")
    (folder / "broken.json").write_text("{}")
    (folder / "slip_code.py").write_text("def draw(n):\n    return n\nvalue = 3\n")
    return folder


@pytest.fixture(autouse=True)
def _inside(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])


# arguments, and words of the line, the mend among them
COMMANDS = {
    "nothing": ((), "--samples or --compare is needed"),
    "no training set": (("s.npy",), "--train is needed: the images"),
    "no held-out set": (("--samples", "s.npy", "--train", "t.npy"), "or none"),
    "four places": ((*SETS, "x.npy"), "give SAMPLES TRAIN [HELDOUT]"),
    "samples twice": ((*SETS, "--samples", "s.npy"), "give one of them"),
    "no such place": (("s.npy", "nowhere/"), "no file or folder nowhere/: give a folder of images"),
    "a misspelt name": (("s.npy", "cifar"), "did you mean 'cifar10'?"),
    "no such checkpoint": (("best.ckpt", "t.npy"), "no checkpoint best.ckpt"),
    "a file of another kind": (("data.csv", "t.npy"), "not a kind of file that is read: give"),
    "text as images": (("notes.txt", "t.npy"), "not a kind of file that is read"),
    "an empty folder": (("empty", "t.npy"), "no images in empty"),
    "a damaged image": (("damaged", "t.npy"), "damaged/a.png: not a readable image"),
    "floats": (("floats.npy", "t.npy"), "scale them to 0..255, round, and save"),
    "masks of 0 and 1": (("masks.npy", "t.npy"), "give (x * 255).astype(numpy.uint8)"),
    "two readings of a shape": (("which.npy", "t.npy"), "save it as (n, h, w, c)"),
    "one image": (("one.npy", "t.npy"), "holds 1 image: give at least 2"),
    "held-out images that were trained on": (("s.npy", "t.npy", "t.npy"), "give another file"),
    "train none": (("s.npy", "none"), "so name it"),
    "a misspelt flag": ((*SETS, "--fail-on-copy"), "did you mean --fail-on-copying?"),
    "a seed below 0": ((*SETS, "--seed", "-1"), "give a number from 0"),
    "a seed that is no number": ((*SETS, "--seed", "x"), "invalid int value: 'x'"),
    "a misspelt space": ((*SETS, "--features", "pixel"), "did you mean 'pixels'?"),
    "a misspelt detector": ((*SETS, "--features", "locall"), "did you mean 'local'"),
    "samples of a folder counted": ((*SETS, "--num-samples", "9"), "leave it out"),
    "one sample drawn": ((*SETS, "--num-samples", "1"), "at least 2 are needed"),
    "an unknown finding": ((*SETS, "--fail-on", "copies"), "did you mean copying?"),
    "a gate that always fails": (
        (*SETS[:2], "none", "--fail-on", "cannot_judge"),
        "leave one of them out",
    ),
    "a limit without a number": ((*SETS, "--require", "precision"), '"precision>=0.7"'),
    "a limit with one sign": ((*SETS, "--require", "precision=0.7"), '"precision>=0.7"'),
    "a limit of words": ((*SETS, "--require", "precision>=high"), "'high' is no number"),
    "an unknown figure": ((*SETS, "--require", "precison>=0.7"), "did you mean precision?"),
    "two results on stdout": ((*SETS, "--json", "-", "--markdown", "-"), "only one of"),
    "a result in the place of a folder": ((*SETS, "--json", "empty"), "name a file in it"),
    "an output that is a file": ((*SETS, "--output", "s.npy"), "change --output"),
    "options of text": ((*SETS, "--encoding", "latin-1"), "leave them out"),
    "options of images": ((*SETS, "--kind", "text", "--groups", "x"), "leave them out"),
    "a kind that is none": ((*SETS, "--kind", "video"), "choose from"),
    "too little text": (("few.txt", "notes.txt", "--kind", "text"), "at least 50 are needed"),
    "a split of arrays": ((*SETS, "--split", "test"), "no set is a table"),
    "no such module": (("no_module:f", "t.npy"), "there is no module no_module"),
    "no such function": (("slip_code:drew", "t.npy"), "did you mean draw?"),
    "a value, no function": (("slip_code:value", "t.npy"), "a function of n and seed"),
    "a function without a seed": (("slip_code:draw", "t.npy"), "a function of n and seed"),
    "verify what is no report": (("--verify", "broken.json"), "give a report.json"),
    "verify what is not there": (("--verify", "none.json"), "give a report.json"),
    "a classifier of no generator": ((*SETS, "--classifier", "c.ckpt"), "must be its checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("slip", COMMANDS)
def test_a_slip_with_the_command_is_one_line(slip, capsys):
    arguments, words = COMMANDS[slip]
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2, err
    (line,) = err.splitlines()
    assert line.startswith("python evaluate.py: ") and words in line
    assert len(line) < 900


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(1, 8, 8, dtype=torch.uint8)


def images(n: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def short(n: int, seed: int) -> np.ndarray:
    return images(n - 1)


T = images(40, 1)
# arguments, settings, and words of the line
CALLS = {
    "no training set": (lambda: ((images(),), {}), "train is needed"),
    "normalised floats": (lambda: ((images() / 127.5 - 1, T), {}), "give (x + 1) / 2"),
    "floats to 255": (lambda: ((images() / 1.0, T), {}), "give x / 255, or uint8"),
    "NaN": (lambda: ((np.full((9, 8, 8), np.nan), T), {}), "floats from 0 to 1"),
    "whole numbers": (lambda: ((images().astype(int), T), {}), "give .astype(numpy.uint8)"),
    "a mask": (lambda: ((images() > 9, T), {}), "multiply them by 255"),
    "two readings of a shape": (lambda: ((images(8)[:, :, :3], T), {}), "give it as (n, h, w, c)"),
    "five axes": (lambda: ((images()[None, None], T), {}), "images are (n, h, w, c)"),
    "nothing in it": (lambda: (([], T), {}), "samples is empty: give images"),
    "None among images": (lambda: (([None], T), {}), "samples holds a NoneType: give a path"),
    "a number": (lambda: ((3, T), {}), "samples is a int: give a path"),
    "splits of a table": (lambda: ((images(), {"train": T, "test": T}), {}), "give one of them"),
    "an endless loader": (lambda: ((images(), DataLoader(Endless())), {}), "give its data set"),
    "batches without images": (lambda: (([{"label": 3}], T), {}), "none of them is called image"),
    "texts as images": (lambda: ((["some words"], T), {}), "kind='text' for texts"),
    "images as texts": (lambda: ((images(), ["a" * 99]), {"kind": "text"}), "give a list of texts"),
    "one text for a list": (lambda: ((["a" * 99], b"aaa"), {"kind": "text"}), "a list of texts"),
    "a misspelt kind": (lambda: ((images(), T), {"kind": "txt"}), "did you mean text?"),
    "on_bad_image": (lambda: ((images(), T), {"on_bad_image": "ignore"}), "give error or skip"),
    "seed": (lambda: ((images(), T), {"seed": 1.5}), "seed 1.5: give a number"),
    "features": (lambda: ((images(), T), {"features": 3}), "a list of names"),
    "a misspelt space": (lambda: ((images(), T), {"features": ["pixel"]}), "did you mean 'pixels'"),
    "num_samples of an array": (lambda: ((images(), T), {"num_samples": 9}), "leave it out"),
    "too few of a function": (lambda: ((short, T), {"num_samples": 9}), "it returned 8"),
    "a network": (lambda: ((torch.nn.Linear(1, 1), T), {}), "a function of n and seed"),
    "the same images held out": (lambda: ((images(), T, T), {}), "never trained on"),
    "a picture of floats": (
        lambda: (([Image.fromarray(images(1)[0] / 1.0).convert("F")], T), {}),
        "give .convert('L')",
    ),
    "output that is a file": (lambda: ((images(), T), {"output": "s.npy"}), "change output"),
    "a column that is not there": (
        lambda: ((table(), T), {"image_column": "picture"}),
        "no column 'picture'",
    ),
}  # fmt: skip


def table():
    import datasets

    return datasets.Dataset.from_dict({"label": [1, 2]})


@pytest.mark.parametrize("slip", CALLS)
def test_a_slip_with_the_function_is_one_line(slip, capsys):
    make, words = CALLS[slip]
    places, settings = make()
    with pytest.raises(ValueError) as error:
        novum.evaluate(*places, **settings)
    line = str(error.value)
    assert words in line and "\n" not in line and "--" not in line
    assert capsys.readouterr().out == ""


def test_a_place_that_does_not_exist_is_an_error_of_its_own():
    with pytest.raises(FileNotFoundError, match="no file or folder nowhere: give a folder"):
        novum.evaluate("nowhere", T)


def test_there_are_forty():
    assert len(COMMANDS) + len(CALLS) >= 40
