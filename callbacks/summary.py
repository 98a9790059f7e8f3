"""End of a run: a table, a verdict, report.json, the HParams tab; and samples as files."""

import csv
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from novum.callbacks.evaluation import Evaluation, reference
from novum.callbacks.health import TrainingHealth
from novum.callbacks.logging import (
    log_picture,
    log_text,
    wait_for_pictures,
    where_to_look,
    writer,
)
from novum.callbacks.membership_inference import MembershipInference
from novum.callbacks.nearest_neighbours import last_judge, last_judgement
from novum.callbacks.preemption import Preempted
from novum.callbacks.quality import QualityCallback
from novum.callbacks.stop_on_copying import StopOnCopying
from novum.callbacks.text_novelty import TextNovelty
from novum.core import distributed
from novum.core.errors import InputError, printable
from novum.core.files import write_text
from novum.core.lightning_compat import (
    callbacks_of,
    datamodule,
    ensure_validation,
    fast_dev_run,
)
from novum.core.protocols import AXES, ImageGenerator, Staged, axis, seen, unit
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.evidence import GRID, fact_pairs
from novum.evaluation.image_verdict import image_verdict
from novum.evaluation.outputs import cost
from novum.evaluation.reviewed import add_image_reviews, add_text_reviews
from novum.evaluation.text_verdict import text_verdict
from novum.report.boden import TAG, chart_of_history, draw_boden
from novum.report.events import chart_layout, literal
from novum.report.image_page import Exhibits, page
from novum.report.model import Estimate, Report, SetSummary
from novum.report.pictures import to_rgb
from novum.report.schema import write_report
from novum.report.table import spaces_of_tags

_OF_JUDGEMENT = (
    *("facts", "identical", "near_identical", "gate", "negative_controls", "copies"),
    *("passages", "text_evidence", "novel_ngrams"),
)
MOST_SHOWN = 1000  # characters of a setting, which may be an alphabet
LOWER_IS_BETTER = ("frechet_distance", "kernel_distance")
SHOWN = (
    "loss/",
    "val/",
    "quality/",
    "novelty/",
    "health/",
    "speed/images",
    "speed/characters",
    "speed/tokens",
)


class RunSummary(Callback):
    """Prints first, best and last value of each metric and the verdict when training ends.

    Writes them to report.json and report.html beside the run's config, and to TensorBoard's HParams
    tab.
    """

    def __init__(self) -> None:
        self.history: list[tuple[int, dict[str, float]]] = []  # (seen, tag -> value)
        self._folder, self._start = Path(), 0.0  # of this run, set as it begins
        self._exhibits = Exhibits()  # of the last evaluation, on rank 0
        self._floors: dict[str, dict[str, Estimate]] = {}  # of quality, in each feature space

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            ensure_validation(trainer, pl_module)
            self._folder = Path(trainer.log_dir or ".")  # a collective: on all ranks
            self._start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        experiment = writer(trainer)
        if not self.history and experiment is not None and not fast_dev_run(trainer):
            experiment.add_custom_scalars(chart_layout(trainer.callback_metrics))
        self.history.append((seen(pl_module), _shown_metrics(trainer)))
        if trainer.is_global_zero and not fast_dev_run(trainer):
            self._exhibits = _exhibits(trainer, pl_module)
        for callback in callbacks_of(trainer):
            if isinstance(callback, QualityCallback):
                evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
                for name, floor in callback.floors(evaluation).items():
                    self._floors.setdefault(name, {}).update(floor)
        self._show_boden(trainer, pl_module)

    def _show_boden(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """novelty/boden: the evaluations so far as a path, value against novelty."""
        counted = axis(pl_module)
        history = [{counted: n, **values} for n, values in self.history]
        chart = chart_of_history(history, self._floors, counted == "tokens_seen")
        if chart is not None:
            log_picture(trainer, TAG, lambda: draw_boden(chart), seen(pl_module))
            wait_for_pictures()  # callbacks that wait for theirs have done so

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            print_table([(seen(pl_module), _shown_metrics(trainer))], unit(pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = self._folder
        if not trainer.is_global_zero or not self.history:
            return
        report = self._report(trainer, pl_module)
        self._log_hyperparameters(trainer, pl_module)
        log_text(trainer, "verdict", literal(report.verdict.text), seen(pl_module))
        console = print_table(self.history, unit(pl_module))
        said = f" {printable(report.verdict.text)}"
        console.print(Text.assemble(("Verdict:", "bold"), said), highlight=False)
        if fast_dev_run(trainer):  # a trial has no folder
            return
        self._write(trainer, report)
        console.print(f"Report:      {folder / 'report.html'}", soft_wrap=True, markup=False)
        console.print(f"Checkpoints: {folder / 'checkpoints'}", soft_wrap=True, markup=False)
        for logger in trainer.loggers or [None]:
            where = where_to_look(logger, folder)
            console.print(f"Look at it:  {where}", soft_wrap=True, markup=False)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Report of a run that was stopped: of its last evaluation, without sampling again."""
        stopped = isinstance(exception, Preempted) and not fast_dev_run(trainer)
        if not stopped or not trainer.is_global_zero:
            return
        done = f"{self.history[-1][0]:,} {unit(pl_module)}" if self.history else ""
        said = f"Report, of the evaluation at {done}: {self._folder / 'report.html'}"
        try:
            if done:
                self._write(trainer, self._report(trainer, pl_module))
            else:
                said = "No evaluation was made, so there is no report yet."
        except Exception as error:  # whatever it is, LastCheckpoint saves after this
            said = f"The report was not written: {error}"
        tqdm.write(said, file=sys.stderr)  # on a line of its own, not behind a bar

    def _write(self, trainer: Trainer, report: Report) -> None:
        write_report(self._folder / "report.json", report)
        texts = last_texts(trainer)
        insider = last_insider(trainer)
        known = insider and insider.known
        exhibits = self._exhibits._replace(known=known)
        html = texts.page(report, known) if texts else page(report, exhibits)
        write_text(self._folder / "report.html", html)

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> Report:
        """Report of the last evaluation, with the history of all."""
        counted, (done, last) = axis(pl_module), self.history[-1]
        report = Report(
            replace(SetSummary(), **({counted: done} if counted in AXES else {})),
            _size_of(trainer, "train"),
            _size_of(trainer, "heldout"),
            spaces_of_tags(last),
            "text" if counted == "tokens_seen" else "image",
            history=[{counted: n, **values} for n, values in self.history],
            settings={k: str(v) for k, v in flat_settings(pl_module.hparams).items()},
            cost=cost(time.perf_counter() - self._start),
        )
        for name, space in report.features.items():
            space.floor = self._floors.get(name, {})
        texts = last_texts(trainer)
        if judged := (texts and texts.found) or last_judgement(trainer):
            report.samples = replace(report.samples, n=judged.samples.n, texts=judged.samples.texts)
            for name in _OF_JUDGEMENT:
                setattr(report, name, getattr(judged, name))
        if insider := last_insider(trainer):
            assert insider.found is not None
            report.membership = insider.found.membership
        self._add_reviews(trainer, report)
        verdict = (text_verdict if "verbatim" in report.features else image_verdict)(report)
        remarks = (*verdict.remarks, *quality_trend(self.history), *_remarks(trainer))
        report.verdict = replace(verdict, remarks=remarks)
        return report

    def _add_reviews(self, trainer: Trainer, report: Report) -> None:
        """A person's word on pairs of the last evaluation, given while the run went on."""
        texts, judge = last_texts(trainer), last_judge(trainer)
        folder = None if fast_dev_run(trainer) else self._folder
        if texts:
            add_text_reviews(report, folder, texts.texts, reference(trainer, "train"))
        elif judge:
            add_image_reviews(report, folder, judge.images)

    def _log_hyperparameters(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The HParams tab: settings beside the last value of each tag, with no tag of its own."""
        experiment = writer(trainer)
        if experiment is not None:
            for summary in hparams(flat_settings(pl_module.hparams), self.history[-1][1]):
                cast(Any, experiment).file_writer.add_summary(summary)

    def state_dict(self) -> dict[str, Any]:
        return {"history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = [(n, dict(values)) for n, values in state_dict["history"]]


def _exhibits(trainer: Trainer, pl_module: LightningModule) -> Exhibits:
    """Samples of this evaluation, facts with their pictures, and the most suspicious pairs.

    They are kept until the run ends: then another state of the generator may be there, or, in a run
    that is stopped, no time to sample.
    """
    if not isinstance(pl_module, ImageGenerator):
        return Exhibits()
    evaluation, judge = Evaluation.of(trainer, pl_module), last_judge(trainer)
    report = judge.found if judge else None
    n = report.samples.n if report else None
    samples = ImageArray(evaluation.samples(max(n or 0, GRID)))
    facts = []
    if report and report.facts:  # so there are training images
        facts = fact_pairs(report, {"samples": samples, "train": evaluation.pictures("train")})
    return Exhibits(to_rgb(samples[:GRID]).copy(), facts, judge.panels if judge else ())


def last_texts(trainer: Trainer) -> TextNovelty | None:
    """The callback that judged the texts of the last evaluation; None if nobody did."""
    judges = (c for c in callbacks_of(trainer) if isinstance(c, TextNovelty))
    return next((judge for judge in judges if judge.found is not None), None)


def last_insider(trainer: Trainer) -> MembershipInference | None:
    """The callback that measured losses at the last evaluation; None if nobody did."""
    every = (c for c in callbacks_of(trainer) if isinstance(c, MembershipInference))
    return next((insider for insider in every if insider.found is not None), None)


def _size_of(trainer: Trainer, split: str) -> SetSummary:
    """Size of a set that the run has; plain loaders have none."""
    try:
        return SetSummary(n=len(reference(trainer, split)))
    except InputError:
        return SetSummary()


def _shown_metrics(trainer: Trainer) -> dict[str, float]:
    metrics = trainer.callback_metrics
    return {tag: float(value) for tag, value in metrics.items() if tag.startswith(SHOWN)}


def print_figures(trainer: Trainer, pl_module: LightningModule) -> None:
    """Print what `validate` or `test` has measured, or that it was nothing."""
    if figures := _shown_metrics(trainer):
        print_table([(seen(pl_module), figures)], unit(pl_module))
    else:
        print("measured nothing: no callback of the config measures this checkpoint")


def print_table(
    history: Sequence[tuple[int, dict[str, float]]], counted: str = "images"
) -> Console:
    """First, best and last value of each metric; the last alone where there is but one."""
    final = history[-1][1]
    table = Table(title=f"{history[-1][0]:,} {counted} seen")
    table.add_column("metric", overflow="fold")  # whole, in the narrowest terminal too
    several = len(history) > 1
    values = ("first", "best", "last") if several else ("value",)
    for heading in (*values, "95% interval"):
        table.add_column(heading, justify="right")
    for tag, last in final.items():
        if _interval_end(tag):
            continue  # shown with its estimate
        if not several:
            table.add_row(tag, f"{last:.4g}", _interval(tag, final))
            continue
        values = [v[tag] for _, v in history if tag in v]
        best = min(values) if _lower_is_better(tag) else max(values)
        shown = f"{best:.4g}" if tag.startswith(("quality/", "val/")) else ""
        table.add_row(tag, f"{values[0]:.4g}", shown, f"{last:.4g}", _interval(tag, final))
    console = Console(width=None if os.isatty(1) else 110)
    console.print(table)
    return console


def _interval_end(tag: str) -> bool:
    return tag.split("/")[1].endswith(("_low", "_high"))


def _interval(tag: str, values: dict[str, float]) -> str:
    """The interval logged beside an estimate as <metric>_low and <metric>_high, if any."""
    group, metric, *name = tag.split("/")
    ends = [values.get("/".join([group, f"{metric}_{end}", *name])) for end in ("low", "high")]
    return "" if None in ends else f"{ends[0]:.4g} to {ends[1]:.4g}"


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | float | bool]:
    """Nested settings as a flat table; class paths by their last name."""
    flat: dict[str, str | float | bool] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value.get("init_args", {}), f"{prefix}{key}.")
            value = value.get("class_path")
        if not key.startswith("_") and value is not None:
            named = isinstance(value, str) and value.startswith(("novum.", "torch."))
            plain = isinstance(value, bool | int | float)
            text = str(value).rsplit(".", 1)[-1] if named else str(value)[:MOST_SHOWN]
            flat[prefix + key] = value if plain else text
    return flat


def _lower_is_better(tag: str) -> bool:
    return tag.startswith("val/") or tag.split("/")[1] in LOWER_IS_BETTER


def _remarks(trainer: Trainer) -> Iterator[str]:
    """Yield what other callbacks conclude about the run."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, StopOnCopying) and callback.reason:
            yield callback.reason
        if isinstance(callback, TrainingHealth):
            yield callback.verdict


def quality_trend(history: Sequence[tuple[int, dict[str, float]]]) -> list[str]:
    """Compare the last Fréchet distance with the first; give the loss of a text."""
    sentences = [
        f"The Fréchet distance in {tag.rsplit('/', 1)[1]} is {last / history[0][1][tag]:.0%} of the"
        f" first evaluation's {history[0][1][tag]:.4g}."
        for tag, last in history[-1][1].items()
        if tag.startswith("quality/frechet_distance/") and tag in history[0][1] and len(history) > 1
    ]
    if (nats := history[-1][1].get("val/nats_per_char")) is not None:
        bits = history[-1][1]["val/bits_per_char"]
        sentences.append(f"Held-out text costs {nats:.3f} nats ({bits:.3f} bits) a character.")
    return sentences


class WriteSamples(Callback):
    """`predict` writes each image as a PNG, each text as a UTF-8 .txt file, and labels as a table.

    A batch is (number of the first sample, how many); of a classifier, images and their rows in the
    data's `predict_reference`. Its table is labels.csv: image, class, probability.

    Args:
        folder: Where to; by default `samples` in the run's folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = trainer.log_dir or "."  # a collective: once, on all ranks
        self._target = Path(self.folder or Path(run) / "samples")
        self._target.mkdir(parents=True, exist_ok=True)
        self._labels: list[tuple[int, int, float]] = []  # row, class, probability

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | list[str],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if isinstance(outputs, Tensor) and outputs.ndim == 2:
            sure, classes = outputs.max(1)
            found = zip(batch["row"].tolist(), classes.tolist(), sure.tolist(), strict=True)
            self._labels += found
            return
        first, _ = batch
        if not isinstance(outputs, Tensor):
            for i, text in enumerate(outputs, first):
                (self._target / f"{i:06d}.txt").write_bytes(text.encode("utf-8", "replace"))
            return
        for i, image in enumerate(to_rgb(outputs), first):
            Image.fromarray(image).save(self._target / f"{i:06d}.png")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gathered = distributed.all_gather_objects(self._labels, "labels of images")
        if not trainer.is_global_zero:
            return
        if labels := sorted(row for part in gathered for row in part):
            self._write_labels(labels, trainer, pl_module)
            return
        if isinstance(pl_module, Staged):
            print("predict writes the image that the checkpoint holds; fit makes another")
        print(f"Samples: {self._target}")

    def _write_labels(
        self, labels: list[tuple[int, int, float]], trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """labels.csv, and how many images each class has."""
        ids = cast(Any, datamodule(trainer)).predict_reference().ids
        names = cast(Any, pl_module).class_names
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("image", "class", "probability"))
        rows.writerows((ids[row], names[found], f"{sure:.4f}") for row, found, sure in labels)
        path = self._target / "labels.csv"
        path.write_bytes(table.getvalue().encode("utf-8", "replace"))
        counts = Counter(names[found] for _, found, _ in labels).most_common()
        most = ", ".join(f"{n:,} {printable(name)}" for name, n in counts[:10])
        print(f"Labels:  {path} ({most}{', ...' if counts[10:] else ''})")
