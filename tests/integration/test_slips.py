"""A hundred slips with evaluate.py and novum.evaluate: each is one line that names the mend."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

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
    (folder / "notes.txt").write_text("some words of no use " * 5)
    (folder / "few.txt").write_text("few")
    (folder / "data.csv").write_text("a,b\n")
    (folder / "broken.json").write_text("{}")
    (folder / "slip_code.py").write_text(CODE)
    (folder / "slip_syntax.py").write_text("def draw(:\n")
    (folder / "slip_needs.py").write_text("import no_such_package\n")
    (folder / "slip_exits.py").write_text("raise SystemExit(3)\n")
    np.save(folder / "none.npy", np.zeros((0, 8, 8), np.uint8))
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(folder / "channels.npy", np.zeros((20, 8, 8, 5), np.uint8))
    np.save(folder / "sixteen.npy", np.zeros((20, 8, 8), np.uint16))
    np.savez(folder / "two.npz", a=np.zeros(3), b=np.zeros(3))
    (folder / "cut.npy").write_bytes((folder / "s.npy").read_bytes()[:200])
    for suffix in ("npz", "parquet", "arrow", "tar", "ckpt", "onnx", "safetensors"):
        (folder / f"noise.{suffix}").write_bytes(b"noise" * 99)
    (folder / "list.json").write_text("[1, 2]")
    (folder / "half.json").write_text('{"finding":')
    (folder / "half.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (folder / "numbers.jsonl").write_text('{"n": 1}\n')
    (folder / "latin.txt").write_bytes("Größe ".encode("latin-1") * 50)
    (folder / "groups.csv").write_text("a;b\n1;2\n")
    return folder


CODE = """
def draw(n):
    return n
def fails(n, seed):
    raise RuntimeError('two\\nlines')
def leaves(n, seed):
    raise SystemExit(3)
def nothing(n, seed):
    pass
def words(n, seed):
    return ['a'] * n
def loud(n, seed):
    import numpy
    return numpy.full((n, 8, 8), 200.0)
def fine(n, seed):
    import numpy
    return numpy.zeros((n, 8, 8), numpy.uint8)
value = 3
"""


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
    "an output that is a file": ((*SETS, "--output", "s.npy"), "give another place"),
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
    "an empty place": (("--samples", "s.npy", "--train", "t.npy", ""), "samples is empty: give"),
    "a blank training set": (("s.npy", " "), "train is empty: give a path or a name"),
    "an array of no image": (("none.npy", "t.npy"), "it holds no pixels, give images"),
    "an array of objects": (("objects.npy", "t.npy"), "save a plain uint8 array"),
    "five channels": (("channels.npy", "t.npy"), "with 1 or 3 channels, or 4 with alpha"),
    "16 bits": (("sixteen.npy", "t.npy"), "scale them to 0..255"),
    "an archive of two": (("two.npz", "t.npy"), "none is called images"),
    "a file cut off": (("cut.npy", "t.npy"), "cannot be read"),
    "noise as npz": (("noise.npz", "t.npy"), "save a plain uint8 array"),
    "noise as parquet": (("noise.parquet", "t.npy"), "cannot open 'noise.parquet'"),
    "noise as arrow": (("noise.arrow", "t.npy"), "cannot open 'noise.arrow'"),
    "noise as tar": (("noise.tar", "t.npy"), "nothing in it can be read"),
    "noise as a checkpoint": (("noise.ckpt", "t.npy"), "not a checkpoint, or a damaged one"),
    "noise as ONNX": (("noise.onnx", "t.npy"), "not an ONNX model"),
    "noise as a bundle": (("s.npy", "noise.safetensors"), "make it again by --save-reference"),
    "a bundle as samples": (("noise.safetensors", "t.npy"), "give it as --train"),
    "a checkpoint as training set": (("s.npy", "noise.ckpt"), "not a kind of file that is read"),
    "a function as training set": (("s.npy", "slip_code:fine"), "--samples alone may be"),
    "a function by its file": (("slip_code.py:fine", "t.npy"), "is named as slip_code:fine"),
    "a file of functions": (("slip_code.py", "t.npy"), "is named as slip_code:FUNCTION"),
    "a function by a path": (("./slip_code:fine", "t.npy"), "is named as slip_code:fine"),
    "code with a mistake": (("slip_syntax:draw", "t.npy"), "(slip_syntax.py, line 1)"),
    "code that needs more": (("slip_needs:draw", "t.npy"), "slip_needs needs no_such_package"),
    "code that exits": (("slip_exits:draw", "t.npy"), "importing it failed: SystemExit: 3"),
    "a function that fails": (("slip_code:fails", "t.npy"), "RuntimeError: two (slip_code.py"),
    "a function that exits": (("slip_code:leaves", "t.npy"), "SystemExit: 3 (slip_code.py"),
    "a function of nothing": (("slip_code:nothing", "t.npy"), "samples is a NoneType: give"),
    "a function of words": (("slip_code:words", "t.npy"), "or kind='text' for texts"),
    "a function of loud floats": (("slip_code:loud", "t.npy"), "give x / 255, or uint8"),
    "more samples than memory": (
        ("slip_code:fine", "t.npy", "--num-samples", "9999999999999"),
        "give a smaller --num-samples",
    ),
    "verify half a file": (("--verify", "half.json"), "it is not JSON): give a report.json"),
    "verify a list": (("--verify", "list.json"), "not a report of an evaluation"),
    "verify a folder": (("--verify", "empty"), "Is a directory): give a report.json"),
    "compare a list": (("--compare", "list.json"), "not a report of an evaluation"),
    "results that replace samples": ((*SETS, "--json", "s.npy"), "would replace --samples"),
    "results that replace training": ((*SETS, "--junit", "t.npy"), "would replace --train"),
    "results among samples": (("damaged", "t.npy", "--output", "damaged/out"), "inside of"),
    "a comment among samples": (("damaged", "t.npy", "--markdown", "damaged/c"), "inside of"),
    "two results in a file": ((*SETS, "--junit", "x", "--markdown", "x"), "give another file"),
    "a result on the page": (
        (*SETS, "--output", "out", "--markdown", "out/report.html"),
        "is the report's page already",
    ),
    "an output without a name": ((*SETS, "--output", ""), "it is empty: give a path"),
    "an output inside of a file": ((*SETS, "--output", "s.npy/out"), "change --output"),
    "features without a name": ((*SETS, "--features", "pixels,"), "a name is empty"),
    "a space of no pixels": ((*SETS, "--features", "pixels@0"), "NAME@SIZE"),
    "a checkpoint of features": ((*SETS, "--features", "checkpoint:a.ckpt"), "give a .ckpt file"),
    "a limit of another space": (
        (*SETS, "--features", "pixels", "--require", "precision/pixel>=0.7"),
        "pixel is not among --features pixels",
    ),
    "a limit that is no number": ((*SETS, "--require", "recall>=nan"), "no number that a figure"),
    "a limit from both sides": ((*SETS, "--require", "0.5<recall<0.9"), "give a figure, one of"),
    "no finding": ((*SETS, "--fail-on", ""), "give copying, leaning"),
    "a gate that always fails, with spaces": (
        (*SETS[:2], "none", "--fail-on", "copying, cannot_judge"),
        "leave one of them out",
    ),
    "a split without a name": ((*SETS, "--split", ""), "give a text, or leave it out"),
    "groups without names": ((*SETS, "--groups", "groups.csv"), "name them in line 1"),
    "groups by half a pattern": ((*SETS, "--groups", "(["), "nor a regular expression"),
    "a wait below 0": (("damaged", "t.npy", "--follow", "-3"), "such as 60"),
    "a wait that is no number": (("damaged", "t.npy", "--follow", "nan"), "such as 60"),
    "a wait for a file": (("s.npy", "t.npy", "--follow", "1"), "s.npy is a file, leave it out"),
    "a text for a place": (("once upon a time " * 99, "t.npy"), "give a path, or texts in a list"),
    "nobody's home": (("~no-user/out", "t.npy"), "~no-user has no home folder"),
    "nobody's home for both": (
        ("--train", "t.npy", "--heldout", "~no-user", "--save-reference", "x.safetensors"),
        "~no-user has no home folder",
    ),
    "texts cut off": (("half.jsonl", "notes.txt", "--kind", "text"), "line 2 is not JSON"),
    "a table without texts": (("numbers.jsonl", "notes.txt", "--kind", "text"), "--text-column"),
    "another encoding": (("latin.txt", "notes.txt", "--kind", "text"), "name its encoding"),
    "no encoding": (
        ("notes.txt", "few.txt", "--kind", "text", "--encoding", "utf-99"),
        "utf-8 and latin-1 are two",
    ),
    "a bundle of another name": (
        ("--train", "t.npy", "--heldout", "h.npy", "--save-reference", "x.bin"),
        "ends in .safetensors",
    ),
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


class Failing(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i == 5:
            raise RuntimeError("the disk\nis gone")
        return torch.zeros(8, 8, dtype=torch.uint8)


class Seedless(torch.nn.Module):
    def sample(self, n):
        return torch.zeros(n, 1, 8, 8, dtype=torch.uint8)


def leaves(n: int, seed: int) -> None:
    raise SystemExit(3)


TEXTS = [["a b c d e " * 20]] * 2


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
    "no samples": (lambda: ((None, T), {}), "samples is needed: what to judge"),
    "no texts": (lambda: ((None, ["a" * 99]), {"kind": "text"}), "samples is needed"),
    "None among texts": (lambda: (([None], ["a" * 99]), {"kind": "text"}), "holds a NoneType"),
    "a text for a list of texts": (lambda: (("a b " * 99, ["a"]), {"kind": "text"}), "in a list"),
    "a class": (lambda: ((Seedless, T), {}), "give an instance of it"),
    "a sample method without a seed": (lambda: ((Seedless(), T), {}), "give sample(n, seed=...)"),
    "a frame of pandas": (lambda: ((frame(), T), {}), "give sample(n, seed=...)"),
    "a function that exits": (lambda: ((leaves, T), {}), "SystemExit: 3 (test_slips.py"),
    "a data set that fails": (lambda: ((Failing(), T), {}), "item 5 cannot be read: RuntimeError"),
    "loud bfloat16": (
        lambda: ((torch.full((9, 8, 8), 99.0, dtype=torch.bfloat16), T), {}),
        "give x / 255, or uint8",
    ),
    "a tensor of no device": (
        lambda: ((torch.zeros(9, 8, 8, device="meta"), T), {}),
        "which holds no values",
    ),
    "a masked array": (lambda: ((np.ma.masked_array(images()), T), {}), "give .filled(0)"),
    "no image": (lambda: ((images()[:0], T), {}), "it holds no pixels"),
    "a switch": (lambda: ((images(), T), {"heldout": True}), "heldout is a bool: give a path"),
    "a seed of words": (lambda: ((images(), T), {"seed": "0"}), "seed '0': give a number"),
    "a seed of logic": (lambda: ((images(), T), {"seed": True}), "seed True: give a number"),
    "a number of words": (lambda: ((short, T), {"num_samples": "20"}), "a whole number"),
    "a wait of words": (lambda: (("empty", T), {"follow": "3"}), "follow '3': give seconds"),
    "an empty list of spaces": (lambda: ((images(), T), {"features": []}), "a name is empty"),
    "spaces in bytes": (lambda: ((images(), T), {"features": b"pixels"}), "a list of names"),
    "redacted in words": (lambda: ((images(), T), {"redacted": "no"}), "give True or False"),
    "quick in words": (lambda: ((images(), T), {"quick": "no"}), "give True or False"),
    "links in words": (lambda: ((images(), T), {"follow_links": "no"}), "give True or False"),
    "a list of groups": (lambda: ((images(), T), {"groups": ["a"]}), "groups ['a']: give a text"),
    "encodings in a list": (
        lambda: (TEXTS, {"kind": "text", "encoding": ["utf-8"]}),
        "encoding ['utf-8']: give a text",
    ),
    "no encoding": (lambda: (TEXTS, {"kind": "text", "encoding": None}), "give a text"),
    "an output that is a number": (lambda: ((images(), T), {"output": 3}), "the path of a folder"),
    "an output without a name": (lambda: ((images(), T), {"output": ""}), "the path of a folder"),
    "an output with a zero": (lambda: ((images(), T), {"output": "a\0b"}), "path of a folder"),
    "an output among samples": (lambda: (("damaged", T), {"output": "damaged"}), "inside of"),
    "a column that is not there": (
        lambda: ((table(), T), {"image_column": "picture"}),
        "no column 'picture'",
    ),
}  # fmt: skip


def frame():
    import pandas

    return pandas.DataFrame({"a": [1]})


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


def test_there_are_more_than_a_hundred():
    assert len(COMMANDS) > 80 and len(CALLS) > 50


def test_numbers_of_numpy_are_numbers(place):
    """A seed, and a number of samples."""
    given = {"seed": np.int64(1), "num_samples": np.int32(20), "features": "pixels"}
    report = novum.evaluate(lambda n, seed: images(n, seed), T, **given)
    assert report.samples.n == 20 and report.made_by.settings["seed"] == 1


def test_half_precision_and_sparse_tensors_are_read():
    some = torch.rand(20, 8, 8)
    for tensor in (some.bfloat16(), some.half(), some.to_sparse()):
        report = novum.evaluate(tensor, T, features="pixels")
        assert report.samples.n == 20
