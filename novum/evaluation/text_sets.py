"""The texts of an evaluation: samples, of a generator or a place, and their references."""

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from novum.core import distributed
from novum.core.checkpoints import load_module
from novum.core.errors import InputError
from novum.core.memory import available_bytes
from novum.core.protocols import TextGenerator
from novum.core.security import arguments_of_run
from novum.core.seeds import derived_seed
from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import Corpus, TextSource
from novum.datamodules.sources.raw_images import Omission, say_omissions
from novum.datamodules.sources.text_documents import LeftOut, Reading, documents, readable
from novum.datamodules.sources.text_files import Found, find_files, open_text
from novum.datamodules.text import TextDataModule

NAMES = ("stdlib",)
LEAST = 50  # characters of samples: the length of one copy
LENGTH = 1000  # characters of a text drawn from a checkpoint
NUM_TEXTS = 100  # drawn from a checkpoint
STREAMS = 64  # drawn at once


class Samples(NamedTuple):
    """Texts to judge, and what was not read where they are from."""

    texts: list[str]
    names: Sequence[str] = ()
    left_out: tuple[Omission, ...] = ()


class Texts(NamedTuple):
    """The texts that are judged, what they are held against, and where all of it came from."""

    samples: list[str]
    train: TextSource
    heldout: TextSource | None
    places: dict[str, str]  # of samples, train and heldout
    tokens_seen: int = 0  # by the checkpoint that drew the samples
    sample_names: Sequence[str] = ()
    left_out: tuple[Omission, ...] = ()  # of the samples' place

    @property
    def characters(self) -> int:
        sides = [self.train, self.heldout or ()]
        return sum(map(len, self.samples)) + sum(map(len, sides))


class Places(NamedTuple):
    """Rules by which places are read, the same for all sets."""

    how: Reading = Reading()
    follow_links: bool = False
    split: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Places":
        how = Reading(options.encoding, options.on_bad_text == "skip", options.text_column)
        return cls(how, options.follow_links, options.split)

    def of_vocabulary(self, vocabulary: Vocabulary | None) -> "Places":
        """As bytes if that is a generator's vocabulary."""
        as_bytes = vocabulary is not None and vocabulary.is_bytes
        return self._replace(how=self.how._replace(as_bytes=as_bytes))


def open_texts(options: argparse.Namespace) -> Texts:
    """References first: they are read into the vocabulary of training text."""
    places = Places.of(options)
    if options.contamination:
        return open_benchmark(options, places)
    seen = 0
    if options.samples.endswith(".ckpt"):
        generator = load_module(Path(options.samples), "sample_text", "text generator").eval()
        known = None
        if not options.train:
            known = arguments_of_run(Path(options.samples), TextDataModule)
        places = places.of_vocabulary(getattr(generator, "vocabulary", None))
        train, heldout, named = open_references(options, known, places)
        samples = Samples(draw_texts(generator, options.num_samples or NUM_TEXTS, options.seed))
        seen = int(cast(TextGenerator, generator).tokens_seen)
    else:
        train, heldout, named = open_references(options, None, places)
        samples = read_samples(options.samples, places)
    if (size := sum(map(len, samples.texts))) < LEAST:
        without = say_omissions(samples.left_out)
        raise InputError(
            f"{options.samples} holds {size} characters: at least {LEAST} are needed, and 100,000"
            " tell more" + (f" (left out: {without})" if without else "")
        )
    named = {"samples": options.samples} | named
    train, heldout = train.as_characters(), heldout and heldout.as_characters()
    return Texts(samples.texts, train, heldout, named, seen, *samples[1:])


def open_benchmark(options: argparse.Namespace, places: Places) -> Texts:
    """Held-out documents in the place of samples."""
    if not options.train or options.train == options.heldout:
        raise InputError("--contamination needs --train, and --heldout of another place")
    train, heldout = (open_source(x, places) for x in (options.train, options.heldout))
    texts = [heldout.text(start, stop) for _, start, stop in heldout.documents()]
    names = [name for name, *_ in heldout.documents()]
    named = {"samples": options.heldout, "train": options.train}
    return Texts(texts, train, None, named, 0, names, heldout.left_out)


def open_references(
    options: argparse.Namespace, known: dict[str, Any] | None, places: Places
) -> tuple[TextSource, TextSource | None, dict[str, str]]:
    """Training and held-out text, and their places; one place for both is split as in training."""
    if known and options.heldout in (None, "none"):
        kept = ("vocabulary_of", "new_characters")  # of the model; texts are judged as they are
        given = {k: v for k, v in known.items() if k not in kept}
        if known.get("vocabulary") == "bpe":
            given["vocabulary"] = "characters"
        data = TextDataModule(**given)
        heldout = None if options.heldout else data.heldout_reference()
        place = known.get("files") or known.get("path") or known.get("dataset", "stdlib")
        return data.train_reference(), heldout, {"train": str(place), "heldout": str(place)}
    if not options.train:
        raise InputError("--train is needed: the text that the generator was trained on")
    if not options.heldout:
        raise InputError(
            "--heldout is needed: text like that of --train, but never trained on; or none"
        )
    named = {"train": options.train, "heldout": options.heldout}
    if options.heldout == options.train:
        data = split_text(options.train, places)
        return data.train_reference(), data.heldout_reference(), named
    train = open_source(options.train, places)
    if options.heldout == "none":
        return train, None, named
    return train, open_source(options.heldout, places), named


def split_text(place: str, places: Places) -> TextDataModule:
    """The parts of one place that training would make of it."""
    how = places.how
    given: dict[str, Any] = {
        "vocabulary": "bytes" if how.as_bytes else "characters",
        "encoding": how.encoding,
        "on_bad_text": "skip" if how.skip_bad else "error",
    }
    if place in NAMES:
        return TextDataModule(place, **given)
    given |= {"text_column": how.column, "split": places.split}
    return TextDataModule("files", place, follow_links=places.follow_links, **given)


def open_source(place: str, places: Places = Places()) -> TextSource:  # noqa: B008  immutable
    """All of the text at a place; each row of a table is a document."""
    if place in NAMES:
        corpus = open_text(place, how=places.how)
    else:
        found = files_of(place, places)
        corpus = Corpus.of_files(found.files, found.names, places.how, left_out=found.left_out)
    return corpus.source([(0, len(corpus.tokens))])


def files_of(place: str, places: Places = Places(), whole: bool = False) -> Found:  # noqa: B008
    """The files of a path, a folder or a glob."""
    return find_files([place], places.follow_links, places.split, whole, "")


def read_samples(place: str, places: Places = Places()) -> Samples:  # noqa: B008  immutable
    """One text for each file, or row of a table; all splits count."""
    found, left_out = files_of(place, places, whole=True), LeftOut()
    most = available_bytes() // 8  # a character may take 4 bytes
    for file in found.files:
        if (size := file.stat().st_size) > most:
            raise InputError(f"{file} has {size:,} bytes: more than memory holds as text")
    files = readable(found.files, found.names, places.how, left_out)
    texts, names = [], []
    for file in files:
        for name, blocks in documents(file, places.how, left_out):
            texts.append("".join(blocks))
            names.append(name)
    return Samples(texts, names, (*found.left_out, *left_out.omissions()))


def draw_texts(generator: Any, n: int, seed: int) -> list[str]:
    """n texts, in blocks that depend on the seed alone."""
    own = distributed.shard(-(-n // STREAMS))
    texts: list[str] = []
    for block in range(own.start, own.stop):
        texts += generator.sample_text(STREAMS, LENGTH, seed=derived_seed(seed, block))
    return list(chain.from_iterable(distributed.all_gather_objects(texts, "samples")))[:n]
