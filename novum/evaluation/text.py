"""Behind evaluate.py --kind text: opens the texts, judges them, writes it all down."""

import argparse
import hashlib
import time
from pathlib import Path

from novum.core import distributed
from novum.evaluation.outputs import cost, show
from novum.evaluation.text_sets import Texts, open_texts
from novum.metrics.novelty.text import JudgedTexts, TextReferences, exchangeability_test, judge_text
from novum.report.evaluation import Report
from novum.report.events import add_encoded, events
from novum.report.files import prepare_output, write_json
from novum.report.pictures import encode
from novum.report.text import copy_records, text_report, text_verdict
from novum.report.text_copies import copies_markdown, copies_picture
from novum.report.text_page import text_page
from novum.report.verdict import spaces_with_copying


def run(options: argparse.Namespace) -> list[str]:
    """Judges, prints and writes; the readings in which copying was found."""
    start = time.perf_counter()
    if distributed.is_rank_zero():
        prepare_output(options.output)
    texts = open_texts(options)
    references = TextReferences(texts.train, texts.heldout)
    with distributed.local_rank_zero_first("indices of text"):
        references.prepare()
    judged = judge_text(references, texts.samples, seed=options.seed, together=True)
    report = new_report(texts, judged, options.seed)
    report["copies"] = copy_records(judged, texts.samples, texts.train)
    report["verdict"] = text_verdict(report)
    report["cost"] = cost(time.perf_counter() - start, texts.characters, "characters")
    if distributed.is_rank_zero():
        write(report, texts, judged, options.output)
        show(report, options.output)
    distributed.barrier("the report")  # if it cannot be written, nobody may end as if it were
    return spaces_with_copying(report)


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


def write(report: Report, texts: Texts, judged: JudgedTexts, folder: Path) -> None:
    """report.json, report.html and TensorBoard's events."""
    write_json(folder / "report.json", report)
    page = text_page(report, texts.samples, texts.train)
    (folder / "report.html").write_text(page, encoding="utf-8")
    step = texts.tokens_seen
    with events(report, folder, step) as writer:
        picture = copies_picture(report["copies"], judged.queries, texts.train)
        add_encoded(writer, "novelty/copies", encode(picture), step)
        writer.add_text(
            "novelty/copies", copies_markdown(report["copies"], judged, texts.train), step
        )
