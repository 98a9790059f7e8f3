"""The texts of an evaluation: samples, of a generator or a place, and their references."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from novum.core import distributed
from novum.core.checkpoints import load_module
from novum.core.devices import default_device
from novum.core.errors import InputError
from novum.core.hub_places import dataset_name, is_hub
from novum.core.memory import available_bytes
from novum.core.security import arguments_of_run
from novum.core.seeds import derived_seed
from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import Corpus, TextSource
from novum.datamodules.sources.huggingface import open_splits
from novum.datamodules.sources.raw_images import Omission, say_omissions
from novum.datamodules.sources.text_documents import LeftOut, Reading, as_row, documents, readable
from novum.datamodules.sources.text_files import Found, find_files, open_text
from novum.datamodules.sources.text_tables import find_column
from novum.datamodules.text import TextDataModule
from novum.evaluation.arriving import Arrived
from novum.evaluation.generators import (
    Draw,
    called,
    evaluating,
    function_name,
    is_function_name,
    named_function,
    require_method,
    require_no_file_name,
)
from novum.evaluation.onnx_generator import SUFFIX
from novum.evaluation.request import Request

NAMES = ("stdlib",)
IN_MEMORY = "{} (in memory)"
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
    generator: Any = None  # that wrote the samples, if it is an object

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
    def of(cls, options: Request) -> "Places":
        how = Reading(options.encoding, options.on_bad_text == "skip", options.text_column)
        return cls(how, options.follow_links, options.split)

    def of_vocabulary(self, vocabulary: Vocabulary | None) -> "Places":
        """As bytes if that is a generator's vocabulary."""
        as_bytes = vocabulary is not None and vocabulary.is_bytes
        return self._replace(how=self.how._replace(as_bytes=as_bytes))


def open_texts(options: Request) -> Texts:
    """References first: they are read into the vocabulary of training text."""
    places = Places.of(options)
    if options.contamination:
        return open_benchmark(options, places)
    given, known, seen = options.samples, None, 0
    if options.is_checkpoint:
        given = load_module(Path(given), ("sample_text", "sample"), "text generator")
        if not hasattr(given, "sample_text"):
            name = type(given).__name__
            raise InputError(f"--samples is a {name}, which writes no text: leave out --kind text")
        given = given.to(default_device()).eval()
        if options.train is None:
            known = arguments_of_run(Path(options.samples), TextDataModule)
    if not isinstance(given, str):
        places = places.of_vocabulary(getattr(given, "vocabulary", None))
    train, heldout, named = open_references(options, known, places)
    for name, source in (("train", train), ("heldout", heldout)):
        if source is not None:
            _require_characters(named[name], len(source), source.left_out)
    where, samples = open_samples(given, options, places)
    if callable(getattr(given, "sample_text", None)):
        seen = int(getattr(given, "tokens_seen", 0))
    _require_characters(where, sum(map(len, samples.texts)), samples.left_out)
    named = {"samples": where} | named
    train, heldout = train.as_characters(), heldout and heldout.as_characters()
    generator = None if isinstance(given, str) else given
    return Texts(samples.texts, train, heldout, named, seen, *samples[1:], generator)


def _require_characters(where: str, size: int, left_out: Sequence[Omission]) -> None:
    if size < LEAST:
        without = say_omissions(left_out)
        raise InputError(
            f"{where} holds {size} characters: at least {LEAST} are needed, and 100,000"
            " tell more" + (f" (left out: {without})" if without else "")
        )


def open_samples(given: Any, options: Request, places: Places) -> tuple[str, Samples]:
    """Samples read, or drawn from a generator, and what they are called."""
    n, seed = options.num_samples or NUM_TEXTS, options.seed
    if isinstance(given, str):
        require_no_file_name(given)
    if callable(getattr(given, "sample_text", None)):
        require_method(given, "sample_text", 1, 1)
        where = options.samples if options.is_checkpoint else type(given).__name__
        with evaluating(given):
            return where, Samples(draw_texts(given, n, seed))
    if isinstance(given, str) and given.endswith(SUFFIX):
        raise InputError(
            f"--samples {given}: an ONNX file makes images; a text model writes with generate.py,"
            " and --samples takes its texts, or its checkpoint"
        )
    if is_function_name(given) or callable(given):
        where = given if isinstance(given, str) else function_name(given)
        function = named_function(given) if isinstance(given, str) else given
        return where, Samples(call_texts(function, where, n, seed))
    if options.num_samples is not None:
        raise InputError("--num-samples is of generators: leave it out, all samples are judged")
    if isinstance(given, Arrived):
        return given.folder, read_samples(list(map(str, given.files)), places)
    if is_hub(given):
        return given, Samples(hub_texts(given, places))
    if isinstance(given, str):
        return given, read_samples(given, places)
    texts = texts_in_memory(given, "samples", places.how.column)
    return IN_MEMORY.format("samples"), Samples(texts)


def call_texts(function: Draw, where: str, n: int, seed: int) -> list[str]:
    """n texts that a function returns, asked once on one rank."""
    texts = []
    if distributed.is_rank_zero():
        texts = texts_in_memory(called(function, n, seed, where), f"--samples {where}")
    texts = list(chain.from_iterable(distributed.all_gather_objects(texts, "samples")))
    if len(texts) != n:
        raise InputError(f"--samples {where}: asked for {n} texts it returned {len(texts)}")
    return texts


def texts_in_memory(data: Any, name: str, column: str | None = None) -> list[str]:
    """Texts of a list, another iterable, or a table of `datasets`."""
    if hasattr(data, "features") and hasattr(data, "column_names"):
        column = column or find_column(_text_columns(data), name)
        if column not in data.column_names:
            listed = ", ".join(data.column_names)
            raise InputError(f"{name} has no column {column!r}: there are {listed}")
        data = (row[column] for row in data)
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        kind = type(data).__name__
        raise InputError(f"{name} is a {kind}: give a path, or a list of texts (str)")
    texts = list(data)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise InputError(f"{name} holds a {type(wrong[0]).__name__}: give a list of texts (str)")
    if not texts:
        raise InputError(f"{name} is empty: give texts")
    return texts


def _text_columns(table: Any) -> list[str]:
    kinds = {name: str(getattr(x, "dtype", "")) for name, x in (table.features or {}).items()}
    return [name for name, kind in kinds.items() if kind in ("string", "large_string")]


def open_benchmark(options: Request, places: Places) -> Texts:
    """Held-out documents in the place of samples."""
    if options.train is None or _same(options.train, options.heldout):
        raise InputError("--contamination needs --train, and --heldout of another place")
    train, heldout = (open_source(x, places) for x in (options.train, options.heldout))
    texts = [heldout.text(start, stop) for _, start, stop in heldout.documents()]
    names = [name for name, *_ in heldout.documents()]
    where = place_of(options.heldout, "heldout")
    _require_characters(where, len(heldout), heldout.left_out)
    named = {
        "samples": where,
        "train": place_of(options.train, "train"),
    }
    return Texts(texts, train, None, named, 0, names, heldout.left_out)


def open_references(
    options: Request, known: dict[str, Any] | None, places: Places
) -> tuple[TextSource, TextSource | None, dict[str, str]]:
    """Training and held-out text, and their places; one place for both is split as in training."""
    none = isinstance(options.heldout, str) and options.heldout == "none"
    if known and (none or options.heldout is None):
        kept = ("vocabulary_of", "new_characters")  # of the model; texts are judged as they are
        given = {k: v for k, v in known.items() if k not in kept}
        if known.get("vocabulary") == "bpe":
            given["vocabulary"] = "characters"
        data = TextDataModule(**given)
        heldout = None if none else data.heldout_reference()
        place = known.get("files") or known.get("path") or known.get("dataset", "stdlib")
        return data.train_reference(), heldout, {"train": str(place), "heldout": str(place)}
    train, heldout = options.train, options.heldout
    if train is None:
        raise InputError("--train is needed: the text that the generator was trained on")
    if heldout is None and options.ask_heldout:
        raise InputError(
            "--heldout is needed: text like that of --train, but never trained on; or none"
        )
    if heldout is None and isinstance(train, str) and train in NAMES:
        heldout = train
    none = none or heldout is None
    named = {"train": place_of(train, "train"), "heldout": place_of(heldout, "heldout")}
    if _same(train, heldout):
        if not isinstance(train, str):
            raise InputError("--train and --heldout are the same texts: hold others out")
        data = split_text(train, places)
        return data.train_reference(), data.heldout_reference(), named
    source = open_source(train, places)
    return source, None if none else open_source(heldout, places, "heldout"), named


def _same(train: Any, heldout: Any) -> bool:
    strings = isinstance(train, str) and isinstance(heldout, str)
    return train is heldout or strings and train == heldout


def place_of(data: Any, name: str) -> str:
    """A place, or words for what a program holds."""
    return data if isinstance(data, str) else IN_MEMORY.format(name)


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
    if is_hub(place):
        return TextDataModule("huggingface", path=dataset_name(place), **given)
    return TextDataModule("files", place, follow_links=places.follow_links, **given)


def open_source(
    place: Any,
    places: Places = Places(),  # noqa: B008  immutable
    name: str = "train",
) -> TextSource:
    """All of the text at a place, or in memory; each row of a table is a document."""
    if is_hub(place) or not isinstance(place, str):
        hub = is_hub(place)
        texts = hub_texts(place, places) if hub else texts_in_memory(place, name, places.how.column)
        return TextSource.of_documents([as_row(text) for text in texts], f"{name}, row ")
    if place in NAMES:
        corpus = open_text(place, how=places.how)
    else:
        found = files_of(place, places)
        corpus = Corpus.of_files(found.files, found.names, places.how, left_out=found.left_out)
    return corpus.source([(0, len(corpus.tokens))])


def hub_texts(place: str, places: Places) -> list[str]:
    """The texts of a data set of the hub, a row each."""
    table, _ = open_splits(dataset_name(place), places.split, streaming=False)
    return texts_in_memory(table, place, places.how.column)


def files_of(place: str | list[str], places: Places = Places(), whole: bool = False) -> Found:  # noqa: B008
    """The files of a path, a folder or a glob."""
    listed = [place] if isinstance(place, str) else place
    return find_files(listed, places.follow_links, places.split, whole, "")


def read_samples(place: str | list[str], places: Places = Places()) -> Samples:  # noqa: B008  immutable
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
