"""Samples that are still being written: when they are enough, and that no half file counts."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

import novum
from novum.evaluation.arriving import Arrived, wait_for_files


class Clock:
    """Time that passes when somebody waits, with things that happen at some times."""

    def __init__(self, **events):
        self.now, self.events = 0.0, dict(sorted(events.values(), key=lambda pair: pair[0]))

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for at in [at for at in self.events if at <= self.now]:
            self.events.pop(at)()


def waited(folder, quiet, count=None, **events):
    clock = Clock(**events)
    return wait_for_files(str(folder), quiet, count, (), clock, clock.sleep), clock.now


def write(path, content=b"x"):
    return lambda: path.write_bytes(content)


def test_a_folder_is_whole_when_nothing_changes_for_so_long(tmp_path):
    found, at = waited(tmp_path, 30, a=(0, write(tmp_path / "a")), b=(20, write(tmp_path / "b")))
    assert found == str(tmp_path) and 50 <= at < 52


def test_a_file_that_grows_puts_it_off(tmp_path):
    _, at = waited(tmp_path, 10, **{
        f"e{i}": (i * 8.0, write(tmp_path / "a", b"x" * (i + 1))) for i in range(4)
    })  # fmt: skip
    assert 34 <= at < 36


def test_the_mark_of_the_end_ends_it_at_once(tmp_path):
    events = {"a": (1, write(tmp_path / "a")), "b": (5, write(tmp_path / "_SUCCESS", b""))}
    found, at = waited(tmp_path, 1000, **events)
    assert found == str(tmp_path) and at < 8


def test_enough_files_are_those_that_were_whole_first(tmp_path):
    (tmp_path / "c.tmp").write_bytes(b"part of a file")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "empty").write_bytes(b"")
    events = {name: (t, write(tmp_path / name)) for name, t in {"b": 1, "a": 4, "d": 20}.items()}
    found, at = waited(tmp_path, 1000, 2, **events)
    assert found == Arrived(str(tmp_path), [tmp_path / "a", tmp_path / "b"]) and at < 8


@pytest.mark.parametrize(("place", "count", "says"), [
    ("gone", None, "no file came to .*gone, and nothing changed for 5 s: wait longer"),
    ("empty", None, "no file came"),
    ("one", 3, "1 of 3 files came to .*: lower --num-samples, or wait longer"),
    ("one/file", None, "is a file, leave it out"),
])  # fmt: skip
def test_too_little_is_one_line(tmp_path, place, count, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_bytes(b"x")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        waited(tmp_path / place, 5, count)


@pytest.mark.parametrize(("given", "says"), [
    ({"train": "hf://a/b"}, "hf://a/b is no data set"),  # before anything is drawn
    ({"follow": 0}, "follow 0: give seconds"),
    ({"follow": float("nan")}, "follow nan: give seconds"),
    ({"follow": 5, "samples": "a.onnx"}, "is of a folder"),
    ({"follow": 5, "samples": "hf://a/b"}, "is of a folder"),
    ({"follow": 5, "samples": np.zeros((4, 8, 8), np.uint8)}, "is of a folder"),
])  # fmt: skip
def test_what_cannot_be_followed(given, says):
    with pytest.raises(ValueError, match=says):
        novum.evaluate(**{"samples": "out", "train": "digits", **given})


def test_images_that_another_program_writes_are_judged(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (100, 8, 8), dtype=np.uint8)

    def writer():
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "labels.csv").write_text("not an image")
        for i, image in enumerate(images[:14]):
            part = tmp_path / "out" / f"{i:02d}.png.tmp"
            Image.fromarray(image).save(part, "PNG")
            part.rename(tmp_path / "out" / f"{i:02d}.png")
            time.sleep(0.05)

    thread = threading.Thread(target=writer)
    thread.start()
    report = novum.evaluate(str(tmp_path / "out"), images[20:60], images[60:], features="pixels",
                            follow=60, num_samples=10)  # fmt: skip
    thread.join()
    assert report.samples.n == 10 and report.samples.path == str(tmp_path / "out")


def test_texts_that_are_written_are_judged(tmp_path):
    words = [f"word{i} and some more of it, line {i}" for i in range(400)]
    (tmp_path / "train.txt").write_text("\n".join(words[:200]))
    (tmp_path / "heldout.txt").write_text("\n".join(words[200:]))
    (tmp_path / "out").mkdir()
    for i in range(3):
        (tmp_path / "out" / f"{i}.txt").write_text(f"text number {i}: " + words[i] * 3)
    (tmp_path / "out" / "3.txt.part").write_text("half")
    report = novum.evaluate(tmp_path / "out", tmp_path / "train.txt", tmp_path / "heldout.txt",
                            kind="text", follow=30, num_samples=2)  # fmt: skip
    assert report.samples.texts == 2 and report.samples.path == str(tmp_path / "out")
    with pytest.raises(ValueError, match="an ONNX file makes images"):
        novum.evaluate("m.onnx", tmp_path / "train.txt", kind="text")
