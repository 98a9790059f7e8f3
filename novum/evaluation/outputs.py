"""Summary in the terminal and cost, of images and of text alike."""

import os
import resource
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from novum.core import distributed
from novum.core.errors import InputError, printable
from novum.core.files import prepare_output
from novum.evaluation.request import Request
from novum.report.model import Cost, Report
from novum.report.reviews import read_reviews
from novum.report.schema import read_report
from novum.report.short_answer import WIDTH, short_answer
from novum.report.table import metric_tables


def prepare(request: Request) -> None:
    """Create the folder of the report before the work.

    Raises:
        InputError: If it cannot be written, or holds what a redacted report may not stand beside,
            or reviews that cannot be read.
    """
    if request.output is None or not distributed.is_rank_zero():
        return
    prepare_output(request.output)
    read_reviews(request.output)
    known = request.output / "report.json"
    if not request.redacted or not known.is_file():
        return
    made = read_report(known).made_by
    if made is None or not made.redacted:
        raise InputError(
            f"{request.output} holds a report that is not redacted, with pictures: give another"
            " --output"
        )


def cost(seconds: float, *, images: int = 0, characters: int = 0) -> Cost:
    """Return the time and memory that the evaluation of `count` images or characters took."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Cost(
        seconds,
        peak * (1 if sys.platform == "darwin" else 1024),
        images / seconds if images else None,
        characters / seconds if characters else None,
    )


def show(report: Report, folder: Path) -> None:
    """Print the figures, the notes, the verdict, and where to find more."""
    console = Console(width=None if os.isatty(1) else 110, highlight=False)
    for table in metric_tables(report, console.width):
        console.print(table)
    for note in report.notes:
        console.print(f"Note: {printable(note)}", markup=False)
    console.print(Text.assemble(("Verdict:", "bold"), f" {printable(report.verdict.text)}"))
    _say_places(console, folder)


def show_short(report: Report, folder: Path) -> None:
    """Print the answer on one screen."""
    width = Console().width if os.isatty(1) else WIDTH
    print(short_answer(report, min(width, WIDTH)))
    print(printable(f"Report: {folder / 'report.html'}"))


def _say_places(console: Console, folder: Path) -> None:
    console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True, markup=False)
    console.print(f"As JSON:    {folder / 'report.json'}", soft_wrap=True, markup=False)
    console.print(f"Look at it: tensorboard --logdir {folder}", soft_wrap=True, markup=False)
