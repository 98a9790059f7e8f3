"""The texts of an evaluation: samples, of a generator or a place, and their references."""

import argparse
import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from novum.core import distributed
from novum.core.checkpoints import load_module
from novum.core.errors import InputError
from novum.core.files import check_regular, read_regular
from novum.core.memory import available_bytes
from novum.core.protocols import TextGenerator
from novum.core.security import arguments_of_run
from novum.core.seeds import derived_seed
from novum.core.vocabulary import Decoder, Vocabulary
from novum.datamodules.sources.corpus import Corpus, Piece, TextSource
from novum.datamodules.sources.text_files import open_text
from novum.datamodules.sources.text_tables import is_table, read_table
from novum.datamodules.sources.walk import glob_files, walk
from novum.datamodules.text import TextDataModule

NAMES = ("stdlib",)
LEAST = 50  # characters of samples: the length of one copy
LENGTH = 1000  # characters of a text drawn from a checkpoint
NUM_TEXTS = 100  # drawn from a checkpoint
STREAMS = 64  # drawn at once


class Texts(NamedTuple):
    """The texts that are judged, what they are held against, and where all of it came from."""

    samples: list[str]
    train: TextSource
    heldout: TextSource | None
    places: dict[str, str]  # of samples, train and heldout
    tokens_seen: int = 0  # by the checkpoint that drew the samples
    names: Sequence[str] = ()  # of held-out documents, if these are judged

    @property
    def characters(self) -> int:
        sides = [self.train, self.heldout or ()]
        return sum(map(len, self.samples)) + sum(map(len, sides))


def open_texts(options: argparse.Namespace) -> Texts:
    """References first: they are read into the vocabulary of training text."""
    if options.contamination:
        return open_benchmark(options)
    if options.samples.endswith(".ckpt"):
        generator = load_module(Path(options.samples), "sample_text", "text generator").eval()
        known = None
        if not options.train:
            known = arguments_of_run(Path(options.samples), TextDataModule)
        vocabulary = getattr(generator, "vocabulary", None)
        train, heldout, places = open_references(options, known, vocabulary)
        samples = draw_texts(generator, options.num_samples or NUM_TEXTS, options.seed)
        seen = int(cast(TextGenerator, generator).tokens_seen)
    else:
        train, heldout, places = open_references(options, None, None)
        samples, seen = read_samples(options.samples, options.follow_links, options.text_column), 0
    if sum(map(len, samples)) < LEAST:
        raise InputError(
            f"{options.samples} holds {sum(map(len, samples))} characters:"
            f" at least {LEAST} are needed, and 100,000 tell more"
        )
    places = {"samples": options.samples} | places
    return Texts(samples, train.as_characters(), heldout and heldout.as_characters(), places, seen)


def open_benchmark(options: argparse.Namespace) -> Texts:
    """Held-out documents in the place of samples."""
    if not options.train or options.train == options.heldout:
        raise InputError("--contamination needs --train, and --heldout of another place")
    column = options.text_column
    train = open_source(options.train, False, options.follow_links, column).as_characters()
    heldout = open_source(options.heldout, False, options.follow_links, column).as_characters()
    stops = [*(piece.start for piece in heldout.pieces[1:]), len(heldout)]
    texts = [
        heldout.text(piece.start, stop) for piece, stop in zip(heldout.pieces, stops, strict=True)
    ]
    places = {"samples": options.heldout, "train": options.train}
    return Texts(texts, train, None, places, names=[piece.name for piece in heldout.pieces])


def open_references(
    options: argparse.Namespace, known: dict[str, Any] | None, vocabulary: Vocabulary | None
) -> tuple[TextSource, TextSource | None, dict[str, str]]:
    """Training and held-out text, and their places; one place for both is split as in training."""
    if known and options.heldout in (None, "none"):
        data = TextDataModule(**known)
        heldout = None if options.heldout else data.heldout_reference()
        place = known.get("files") or known.get("path") or known.get("dataset", "stdlib")
        return data.train_reference(), heldout, {"train": str(place), "heldout": str(place)}
    if not options.train:
        raise InputError("--train is needed: the text that the generator was trained on")
    if not options.heldout:
        raise InputError(
            "--heldout is needed: text like that of --train, but never trained on; or none"
        )
    places = {"train": options.train, "heldout": options.heldout}
    as_bytes = vocabulary is not None and vocabulary.is_bytes
    if options.heldout == options.train:
        data = split_text(options.train, as_bytes, options.follow_links)
        return data.train_reference(), data.heldout_reference(), places
    column = options.text_column
    train = open_source(options.train, as_bytes, options.follow_links, column)
    if options.heldout == "none":
        return train, None, places
    return train, open_source(options.heldout, as_bytes, options.follow_links, column), places


def split_text(place: str, as_bytes: bool, follow_links: bool = False) -> TextDataModule:
    """The parts of one place that training would make of it."""
    vocabulary = "bytes" if as_bytes else "characters"
    if place in NAMES:
        return TextDataModule(place, vocabulary=vocabulary)
    found = text_files(place, follow_links)
    if any(map(is_table, found)):
        raise InputError(f"{place} is a table: give --heldout another one than --train")
    files = [glob.escape(str(file)) for file in found]
    with text_hint():  # which links are followed has been decided
        return TextDataModule("files", files, vocabulary=vocabulary, follow_links=True)


def open_source(
    place: str, as_bytes: bool, follow_links: bool = False, column: str | None = None
) -> TextSource:
    """All of the text at a place; each row of a table is a document."""
    if place in NAMES:
        corpus = open_text(place, as_bytes=as_bytes)
    else:
        files = text_files(place, follow_links)
        if any(map(is_table, files)):
            return table_source(files, column)
        root = Path(os.path.commonpath([file.resolve().parent for file in files]))
        names = [file.resolve().relative_to(root).as_posix() for file in files]
        with text_hint():
            corpus = Corpus.of_files(files, names, "utf-8", as_bytes)
    return corpus.source([(0, len(corpus.tokens))])


def table_source(files: list[Path], column: str | None) -> TextSource:
    """The rows of tables as documents."""
    texts, pieces, at = [], [], 0
    for file in files:
        if not is_table(file):
            raise InputError(f"{file} is no table as the others are: give tables or texts alone")
        for number, text in read_table(file, column):
            texts.append(f"{text}\n")
            pieces.append(Piece(at, f"{file.name}, row {number}", 0))
            at += len(texts[-1])
    text = "".join(texts)
    if not text:
        raise InputError(f"{', '.join(map(str, files[:3]))}: there is no text")
    vocabulary = Vocabulary.of_text(text)
    return TextSource(vocabulary.encode(text), vocabulary, pieces)


def text_files(place: str, follow_links: bool = False) -> list[Path]:
    """The files of a path, a folder or a glob; one of them has to hold something."""
    path = Path(place).expanduser()
    if path.is_dir():
        found = sorted(path / name for name in walk(path, lambda _: True, follow_links))
    elif path.exists():
        check_regular(path)
        found = [path]
    else:
        found = glob_files(str(path), follow_links)
    if not found:
        raise InputError(
            f"{place} holds no file: give a folder of texts"
            if path.is_dir()
            else f"there is no text file {place}: give a file, a folder, a glob or stdlib"
        )
    if not any(file.stat().st_size for file in found):
        raise InputError(f"{place} is empty: give a text with some characters")
    return found


@contextlib.contextmanager
def text_hint() -> Iterator[None]:
    """Re-raise with a hint for this command."""
    try:
        yield
    except InputError as error:
        what = re.split(r"[:;] (?:name its|take it)", str(error))[0]
        raise InputError(f"{what}: give text in UTF-8") from error


def read_samples(place: str, follow_links: bool = False, column: str | None = None) -> list[str]:
    """One text for each file, or row of a table."""
    texts = []
    for file in text_files(place, follow_links):
        if is_table(file):
            texts += [text for _, text in read_table(file, column)]
            continue
        data = read_regular(file, available_bytes() // 8)  # a character may take 4 bytes
        with text_hint():
            texts.append(Decoder("utf-8-sig", str(file))(data, final=True))
    return texts


def draw_texts(generator: Any, n: int, seed: int) -> list[str]:
    """n texts, in blocks that depend on the seed alone."""
    own = distributed.shard(-(-n // STREAMS))
    texts: list[str] = []
    for block in range(own.start, own.stop):
        texts += generator.sample_text(STREAMS, LENGTH, seed=derived_seed(seed, block))
    return list(chain.from_iterable(distributed.all_gather_objects(texts, "samples")))[:n]
