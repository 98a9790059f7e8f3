"""What both kinds of evaluation leave: a summary, TensorBoard events, and what they cost."""

import os
import resource
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from novum.core.errors import printable
from novum.report.evaluation import Report, metric_table


def cost(seconds: float, judged: int, kind: str) -> dict[str, float]:
    """Time and memory of the whole evaluation of so many images or characters, without imports."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "peak_rss_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        f"{kind}_per_second": judged / seconds,
    }


def show(report: Report, folder: Path) -> None:
    """The figures, the notes, the verdict, and where more is."""
    console = Console(width=None if os.isatty(1) else 110, highlight=False)
    console.print(metric_table(report))
    for note in report["notes"]:
        console.print(f"Note: {printable(note)}", markup=False)
    console.print(Text.assemble(("Verdict:", "bold"), f" {printable(report['verdict'])}"))
    console.print(f"Report:     {folder / 'report.html'}", soft_wrap=True, markup=False)
    console.print(f"As JSON:    {folder / 'report.json'}", soft_wrap=True, markup=False)
    console.print(f"Look at it: tensorboard --logdir {folder}", soft_wrap=True, markup=False)
