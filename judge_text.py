"""Behind evaluate.py --kind text: opens the texts, judges them, writes it all down."""

import argparse
import contextlib
import glob
import hashlib
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from novum import ranks
from novum.callbacks.logging import add_encoded, literal
from novum.callbacks.text_novelty import copies_markdown, copies_picture
from novum.checkpoints import load_module
from novum.datamodules.text import Corpus, TextDataModule, TextSource, Vocabulary
from novum.datamodules.texts import open_text
from novum.datamodules.vocabulary import Decoder
from novum.errors import printable, raised_by_us
from novum.lightning_modules.training import derived_seed
from novum.metrics.novelty.text import JudgedTexts, TextReferences, exchangeability_test, judge_text
from novum.report.evaluation import Report, metric_table, scalars
from novum.report.files import prepare_output, write_json
from novum.report.pictures import encode
from novum.report.text import copy_records, text_report, text_verdict
from novum.report.text_page import text_page
from novum.report.verdict import spaces_with_copying
from novum.trust import data_arguments

EVENTS = "tensorboard"  # a folder of their own, in which the second time replaces the first
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


def run(options: argparse.Namespace) -> list[str]:
    """Judges, prints and writes; the readings in which copying was found."""
    start = time.perf_counter()
    if ranks.is_first():
        prepare_output(options.output)
    texts = open_texts(options)
    references = TextReferences(texts.train, texts.heldout)
    with ranks.first_of_host("indices of text"):
        references.prepare()
    judged = judge_text(references, texts.samples, seed=options.seed, together=True)
    report = new_report(texts, judged, options.seed)
    report["copies"] = copy_records(judged, texts.samples, texts.train)
    report["verdict"] = text_verdict(report)
    report["cost"] = cost(texts, time.perf_counter() - start)
    if ranks.is_first():
        write(report, texts, judged, options.output)
        show(report, options.output)
    ranks.meet("the report")  # if it cannot be written, nobody may end as if it were
    return spaces_with_copying(report)


def open_texts(options: argparse.Namespace) -> Texts:
    """References first: they are read into the vocabulary of training text."""
    if options.samples.endswith(".ckpt"):
        generator = load_module(Path(options.samples), "sample_text", "text generator").eval()
        known = run_data(Path(options.samples))
        vocabulary = getattr(generator, "vocabulary", None)
        train, heldout, places = open_references(options, known, vocabulary)
        samples = draw_texts(generator, options.num_samples or NUM_TEXTS, options.seed)
        seen = generator.tokens_seen
    else:
        train, heldout, places = open_references(options, None, None)
        samples, seen = read_samples(options.samples), 0
    if sum(map(len, samples)) < LEAST:
        raise ValueError(
            f"{options.samples} holds {sum(map(len, samples))} characters:"
            f" at least {LEAST} are needed, and 100,000 tell more"
        )
    return Texts(samples, train, heldout, {"samples": options.samples} | places, seen)


def run_data(checkpoint: Path) -> dict[str, Any] | None:
    """The TextDataModule's arguments of a checkpoint's run, from config.yaml beside its folder."""
    config = checkpoint.parent.parent / "config.yaml"
    if not config.is_file():
        return None
    return data_arguments(config, TextDataModule)


def open_references(
    options: argparse.Namespace, known: dict[str, Any] | None, vocabulary: Vocabulary | None
) -> tuple[TextSource, TextSource | None, dict[str, str]]:
    """Training and held-out text, and their places; one place for both is split as in training."""
    if known and not options.train and options.heldout in (None, "none"):
        data = TextDataModule(**known)
        heldout = None if options.heldout else data.heldout_reference()
        place = known.get("files") or known.get("path") or known.get("dataset", "stdlib")
        return data.train_reference(), heldout, {"train": str(place), "heldout": str(place)}
    if not options.train:
        raise ValueError("--train is needed: the text that the generator was trained on")
    if not options.heldout:
        raise ValueError(
            "--heldout is needed: text like that of --train, but never trained on; or none"
        )
    places = {"train": options.train, "heldout": options.heldout}
    as_bytes = vocabulary is not None and vocabulary.is_bytes
    if options.heldout == options.train:
        data = split_text(options.train, as_bytes)
        return data.train_reference(), data.heldout_reference(), places
    train = open_source(options.train, as_bytes)
    if options.heldout == "none":
        return train, None, places
    return train, recoded(open_source(options.heldout, as_bytes), train.vocabulary), places


def split_text(place: str, as_bytes: bool) -> TextDataModule:
    """The parts of one place that training would make of it."""
    vocabulary = "bytes" if as_bytes else "characters"
    if place in NAMES:
        return TextDataModule(place, vocabulary=vocabulary)
    files = [glob.escape(str(file)) for file in text_files(place)]
    with told_of_files():
        return TextDataModule("files", files, vocabulary=vocabulary)


def open_source(place: str, as_bytes: bool) -> TextSource:
    """All of the text at a place."""
    if place in NAMES:
        corpus = open_text(place, as_bytes=as_bytes)
    else:
        files = text_files(place)
        root = Path(os.path.commonpath([file.resolve().parent for file in files]))
        names = [file.resolve().relative_to(root).as_posix() for file in files]
        with told_of_files():
            corpus = Corpus.of_files(files, names, "utf-8", as_bytes)
    return corpus.source([(0, len(corpus.tokens))])


def text_files(place: str) -> list[Path]:
    """The files of a path, a folder or a glob; one of them has to hold something."""
    path = Path(place).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        names = [path] if path.exists() else sorted(glob.glob(str(path), recursive=True))
        found = [Path(name) for name in names if Path(name).is_file()]
    if not found:
        raise ValueError(
            f"{place} holds no file: give a folder of texts"
            if path.is_dir()
            else f"there is no text file {place}: give a file, a folder, a glob or stdlib"
        )
    if not any(file.stat().st_size for file in found):
        raise ValueError(f"{place} is empty: give a text with some characters")
    return found


@contextlib.contextmanager
def told_of_files() -> Iterator[None]:
    """A file that is no text is told with a mend that fits here."""
    try:
        yield
    except ValueError as error:
        if not raised_by_us(error):
            raise
        what = re.split(r"[:;] (?:name its|take it)", str(error))[0]
        raise ValueError(f"{what}: give text in UTF-8") from error


def recoded(source: TextSource, vocabulary: Vocabulary) -> TextSource:
    """The same text in the tokens of another vocabulary."""
    if source.vocabulary == vocabulary:
        return source
    tokens = vocabulary.encode(source.text())
    return TextSource(tokens, vocabulary, source.pieces)


def read_samples(place: str) -> list[str]:
    """One text for each file."""
    texts = []
    with told_of_files():
        for file in text_files(place):
            decode = Decoder("utf-8", str(file))
            texts.append(decode(file.read_bytes(), final=True))
    return texts


def draw_texts(generator: Any, n: int, seed: int) -> list[str]:
    """n texts, in blocks that depend on the seed alone."""
    own = ranks.share(-(-n // STREAMS))
    texts: list[str] = []
    for block in range(own.start, own.stop):
        texts += generator.sample_text(STREAMS, LENGTH, seed=derived_seed(seed, block))
    return list(chain.from_iterable(ranks.gathered(texts, "samples")))[:n]


def new_report(texts: Texts, judged: JudgedTexts, seed: int) -> Report:
    """The contents of report.json but for copies, verdict and cost."""
    report: Report = {"schema": 1, "kind": "text", "verdict": ""}
    joined = "\0".join(texts.samples).encode("utf-8", "surrogatepass")
    report["samples"] = {
        "path": texts.places["samples"],
        "n": len(judged.queries.tokens),
        "texts": len(texts.samples),
        "fingerprint": hashlib.sha256(joined).hexdigest(),
    }
    if texts.tokens_seen:
        report["samples"] |= {"tokens_seen": texts.tokens_seen, "seed": seed}
    for side in ("train", "heldout"):
        source = getattr(texts, side)
        report[side] = source and {
            "path": texts.places[side],
            "n": len(source),
            "fingerprint": source.fingerprint,
        }
    check_heldout(report, texts)
    return report | text_report(judged) | {"notes": notes(texts, judged)}


def check_heldout(report: Report, texts: Texts) -> None:
    """What all that is said of copying rests on."""
    if texts.heldout is not None:
        found = exchangeability_test(texts.train.tokens, texts.heldout.tokens)
        known = found._asdict() if found else {}
        report["heldout"] |= {f"exchangeability_{k}": v for k, v in known.items()}


def notes(texts: Texts, judged: JudgedTexts) -> list[str]:
    found = []
    unknown = texts.train.vocabulary.unknown("".join(texts.samples))
    if unknown:
        found.append(
            f"{len(unknown)} characters of the samples are not in the training text, such as"
            f" {unknown[:10]!r}: no copy goes across them."
        )
    if judged.quality["self_bleu"] is None:
        found.append("Variety was not measured: it needs 200 words.")
    return found


def cost(texts: Texts, seconds: float) -> dict[str, float]:
    """Time and memory of the whole evaluation, imports not counted."""
    sizes = [sum(map(len, texts.samples)), len(texts.train), len(texts.heldout or ())]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "peak_rss_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "characters_per_second": sum(sizes) / seconds,
    }


def write(report: Report, texts: Texts, judged: JudgedTexts, folder: Path) -> None:
    """report.json, report.html and TensorBoard's events."""
    write_json(folder / "report.json", report)
    page = text_page(report, texts.samples, texts.train)
    (folder / "report.html").write_text(page, encoding="utf-8")
    step = texts.tokens_seen
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for tag, value in scalars(report).items():
            writer.add_scalar(tag, value, step)
        picture = copies_picture(report["copies"], judged.queries, texts.train)
        add_encoded(writer, "novelty/copies", encode(picture), step)
        writer.add_text(
            "novelty/copies", copies_markdown(report["copies"], judged, texts.train), step
        )
        writer.add_text("verdict", literal(report["verdict"]), step)


def show(report: Report, folder: Path) -> None:
    console = Console(width=None if os.isatty(1) else 110, highlight=False)
    console.print(metric_table(report))
    for note in report["notes"]:
        console.print(f"Note: {printable(note)}", markup=False)
    console.print(f"Verdict: {printable(report['verdict'])}", markup=False)
    console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True, markup=False)
    console.print(f"As JSON:    {folder / 'report.json'}", soft_wrap=True, markup=False)
    console.print(f"Look at it: tensorboard --logdir {folder}", soft_wrap=True, markup=False)
