"""Novelty of generated text: copied passages in a picture, a table and scalars."""

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback, lacks, reference
from novum.callbacks.logging import (
    log_metrics,
    log_picture,
    log_text,
    logged_figures,
    novelty_folder,
)
from novum.core.errors import InputError
from novum.core.protocols import TextGenerator, seen, unit
from novum.evaluation.novelty_rows import evaluation_of
from novum.evaluation.text_records import copy_records, evidence, facts, figures, novel_ngrams
from novum.evaluation.text_verdict import text_verdict
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.report.known_items import Known
from novum.report.model import Report, SetSummary
from novum.report.novelty_record import write_evaluation
from novum.report.passage_rows import passage_rows
from novum.report.pictures import encode
from novum.report.table import scalars
from novum.report.text_copies import copies_markdown, copies_picture
from novum.report.text_page import text_page


class TextNovelty(EvaluationCallback):
    """novelty/copies, and scalars that say whether passages are copied from training text.

    The picture colours what stands in the training text, altered or not; the Text tab has the
    passages with most information beside their sources, their differences marked. docs/novelty.md
    explains the scalars, novelty/<metric>/verbatim and novelty/<metric>/folded.

    Args:
        num_texts: Texts to write and judge.
        length: Characters of each.
        temperature: At which they are drawn.
        seed: Of the texts.
    """

    requires, needs = ("sample_text",), ("train", "heldout")

    def __init__(
        self, num_texts: int = 64, length: int = 1000, temperature: float = 1.0, seed: int = 0
    ) -> None:
        if num_texts < 1 or length < 50:
            raise InputError(
                f"{num_texts} texts of {length} characters are too little: a copy has 50 characters"
            )
        self.num_texts, self.length = num_texts, length
        self.temperature, self.seed = temperature, seed
        self._references: TextReferences | None = None
        self.found: Report | None = None  # what the verdict of evaluate.py rests on, on rank 0
        self.texts: list[str] = []  # that were judged, on rank 0

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, TextGenerator):
            raise lacks(self, pl_module, "sample_text and tokens_seen")
        texts = pl_module.sample_text(
            self.num_texts, self.length, temperature=self.temperature, seed=self.seed
        )
        references = self._indexed(trainer)
        judged = judge_text(references, texts, seed=self.seed, together=True)
        log_metrics(trainer, pl_module, scalars(figures(judged)))
        if trainer.is_global_zero:
            train = references.train
            copies = copy_records(judged, train)
            self.texts, self.found = (
                texts,
                Report(
                    SetSummary(n=len(judged.text), texts=len(texts)),
                    SetSummary(n=len(train)),
                    SetSummary(n=len(reference(trainer, "heldout"))),
                    figures(judged),
                    "text",
                    passages=copies,
                    facts=facts(copies),
                    text_evidence=evidence(judged),
                    novel_ngrams=novel_ngrams(judged),
                ),
            )
            self.found.verdict = text_verdict(self.found)
            log_picture(
                trainer,
                "novelty/copies",
                lambda: encode(copies_picture(copies, judged.text)),
                seen(pl_module),
            )
            markdown = copies_markdown(copies, judged.text, train)
            log_text(trainer, "novelty/copies", markdown, seen(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        run = None if trainer.sanity_checking else novelty_folder(trainer)
        if run is not None and self.found is not None and self._references is not None:
            step, figures = seen(pl_module), logged_figures(trainer)
            line = evaluation_of(self.found, step, unit(pl_module), figures)
            rows = passage_rows(self.found.passages, self.texts, self._references.train)
            write_evaluation(run, line, rows)

    def page(self, report: Report, known: Known | None = None) -> str:
        """Page of a run's report with the texts of its last evaluation."""
        assert self._references is not None  # one was made
        return text_page(report, self.texts, self._references.train, known)

    def _indexed(self, trainer: Trainer) -> TextReferences:
        """Made by one rank of each host; the others then find it in the cache."""
        if self._references is None:
            sides = (reference(trainer, split) for split in ("train", "heldout"))
            references = TextReferences(*sides)
            references.prepare()
            self._references = references
        return self._references
