"""Summary in the terminal and cost, of images and of text alike."""

import os
import resource
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from novum.core.errors import printable
from novum.report.model import Cost, Report
from novum.report.table import metric_table


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
    console.print(metric_table(report))
    for note in report.notes:
        console.print(f"Note: {printable(note)}", markup=False)
    console.print(Text.assemble(("Verdict:", "bold"), f" {printable(report.verdict.text)}"))
    console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True, markup=False)
    console.print(f"As JSON:    {folder / 'report.json'}", soft_wrap=True, markup=False)
    console.print(f"Look at it: tensorboard --logdir {folder}", soft_wrap=True, markup=False)
