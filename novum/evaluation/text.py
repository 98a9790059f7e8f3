"""Evaluation of texts: opens them, judges them, writes it down."""

import hashlib
import time
from collections.abc import Sequence

from novum.core import distributed
from novum.core.errors import NotComputable
from novum.core.files import write_text
from novum.core.protocols import ItemScorer
from novum.core.vocabulary import Tokens, Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.contamination import contaminated, contamination_verdict
from novum.evaluation.inside import judge_generator, text_items
from novum.evaluation.novelty_rows import evaluation_of
from novum.evaluation.outputs import cost, prepare
from novum.evaluation.provenance import provenance
from novum.evaluation.redaction import redact_texts
from novum.evaluation.request import Request
from novum.evaluation.reviewed import add_text_reviews
from novum.evaluation.text_audit import audit_notes, audit_texts
from novum.evaluation.text_records import copy_records, evidence, facts, figures, novel_ngrams
from novum.evaluation.text_sets import Texts, open_texts
from novum.evaluation.text_verdict import text_verdict
from novum.metrics.novelty.text import JudgedTexts, TextReferences, exchangeability_test, judge_text
from novum.metrics.novelty.text.planted_edits import UNTUNED
from novum.metrics.novelty.text.text_power import text_power
from novum.report.events import add_encoded, events
from novum.report.image_page import Exhibits, page
from novum.report.known_items import Known
from novum.report.model import Recall, Report, SetSummary
from novum.report.novelty_record import write_evaluation
from novum.report.passage_rows import passage_rows
from novum.report.pictures import encode
from novum.report.schema import write_report
from novum.report.text_copies import copies_markdown, copies_picture
from novum.report.text_page import text_page

MOST_LISTED = 50  # contaminated documents that are printed; report.json has all
REPEATED = 0.02  # share of training text that stands elsewhere in it, from which it is said


def evaluate_texts(options: Request) -> Report:
    """Judge texts, and write the report if it has a place."""
    start = time.perf_counter()
    prepare(options)
    texts = open_texts(options)
    audit, overlap = audit_texts(texts, options)
    references = TextReferences(texts.train, texts.heldout)
    references.prepare()
    judged = judge_text(references, texts.samples, seed=options.seed, together=True)
    report = new_report(texts, judged, options.seed)
    report.audit, report.overlap = audit, overlap
    report.notes += audit_notes(audit)
    report.passages = copy_records(judged, texts.train)
    report.facts = facts(report.passages)
    report.text_evidence = evidence(judged)
    card = text_power(references, judged.judgement, seed=options.seed, together=True)
    report.power = [
        Recall(edit, r.value, r.low, r.high, tuned=edit not in UNTUNED) for edit, r in card.items()
    ]
    known = add_inside(report, texts, options)
    report.verdict = text_verdict(report)
    if options.contamination:
        report.contamination = contaminated(judged, texts.sample_names)
        report.verdict = contamination_verdict(report.contamination, texts.samples)
        for found in report.contamination[:MOST_LISTED]:
            options.say(f"{found.document}: {found.share:.0%} {found.how} in training")
    add_text_reviews(report, options.output, texts.samples, texts.train)
    report.cost = cost(time.perf_counter() - start, characters=texts.characters)
    report.made_by = provenance(options)
    if distributed.is_rank_zero():
        if options.redacted:
            redact_texts(report, texts.train)
            known = known and known._replace(passages=())
        write(report, texts, judged, known, options)
    distributed.barrier("the report")  # if it cannot be written, nobody may end as if it were
    return report


def new_report(texts: Texts, judged: JudgedTexts, seed: int) -> Report:
    """Return a report without copies, verdict and cost."""
    samples = SetSummary(
        texts.places["samples"],
        len(judged.text),
        texts=len(texts.samples),
        fingerprint=fingerprint_of(texts.samples),
    )
    if texts.tokens_seen:
        samples.tokens_seen, samples.seed = texts.tokens_seen, seed
    report = Report(
        samples,
        describe(texts, "train"),
        features=figures(judged),
        kind="text",
        notes=notes(texts, judged),
        novel_ngrams=novel_ngrams(judged),
    )
    if texts.heldout is not None:
        report.heldout = describe(texts, "heldout")
        check_heldout(report.heldout, texts.train, texts.heldout)
    return report


def fingerprint_of(texts: Sequence[str]) -> str:
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()


def describe(texts: Texts, side: str) -> SetSummary:
    source: TextSource = getattr(texts, side)
    return SetSummary(texts.places[side], len(source), fingerprint=source.fingerprint)


def check_heldout(summary: SetSummary, train: TextSource, heldout: TextSource) -> None:
    """Test whether training and held-out text are exchangeable."""
    found = exchangeability_test(train.tokens, in_vocabulary(heldout, train.vocabulary))
    if found is not None:
        summary.exchangeability_distance = found.distance
        summary.exchangeability_usual_distance = found.usual_distance
        summary.exchangeability_p = found.p


def in_vocabulary(text: TextSource, vocabulary: Vocabulary) -> Tokens:
    if text.vocabulary == vocabulary:
        return text.tokens
    assert text.vocabulary.alphabet is not None  # of characters: `open_texts` sees to that
    return vocabulary.encode(text.vocabulary.alphabet)[text.tokens]


def notes(texts: Texts, judged: JudgedTexts) -> list[str]:
    found = []
    unknown = texts.train.vocabulary.unknown("".join(texts.samples).replace("\r\n", "\n"))
    if unknown:
        several = "s of the samples are" if len(unknown) > 1 else " of the samples is"
        found.append(
            f"{len(unknown)} character{several} not in the training text, such as"
            f" {unknown[:10]!r}; texts are compared in normal forms, and passages go on beyond"
            " such characters."
        )
    if judged.judgement.train_repeated >= REPEATED:
        found.append(
            f"{judged.judgement.train_repeated:.1%} of the training text stands elsewhere in it,"
            " word for word or nearly: generators recite most what is repeated."
        )
    if judged.quality["self_bleu"] is None:
        found.append("Variety was not measured: it needs 200 words.")
    return found


def add_inside(report: Report, texts: Texts, options: Request) -> Known | None:
    """Add the losses of a generator that has some for each passage."""
    generator, heldout = texts.generator, texts.heldout
    vocabulary = getattr(generator, "vocabulary", None)
    if not isinstance(generator, ItemScorer) or heldout is None or vocabulary is None:
        return None
    sides = {"train": texts.train, "heldout": heldout}
    try:
        items = text_items(sides, vocabulary, seed=options.seed)
        assert report.heldout is not None
        items = items._replace(shift_p=report.heldout.exchangeability_p)
        return judge_generator(report, items, generator, options)
    except NotComputable as error:
        report.notes.append(f"losses: not computed: {error}")
        return None


def write(
    report: Report, texts: Texts, judged: JudgedTexts, known: Known | None, options: Request
) -> None:
    """Render the page; write it, report.json and TensorBoard events and its Novelty tab.

    A redacted report shows no text.
    """
    report.page = (
        page(report, Exhibits(known=known))
        if options.redacted
        else text_page(report, texts.samples, texts.train, known)
    )
    folder, step = options.output, texts.tokens_seen
    if folder is None:
        return
    write_report(folder / "report.json", report)
    write_text(folder / "report.html", report.page)
    rows = passage_rows(() if options.redacted else report.passages, texts.samples, texts.train)
    write_evaluation(folder, evaluation_of(report, step, "characters"), rows)
    with events(report, folder, step) as writer:
        if options.redacted:
            return
        picture = copies_picture(report.passages, judged.text)
        add_encoded(writer, "novelty/copies", encode(picture), step)
        writer.add_text(
            "novelty/copies", copies_markdown(report.passages, judged.text, texts.train), step
        )
