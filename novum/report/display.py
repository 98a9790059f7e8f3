"""A report in a notebook, and in short."""

import html
import sys

from novum.report.model import Report
from novum.report.short_answer import short_answer

HEIGHT = 900  # px of the frame, in which the page scrolls


def show(report: Report) -> None:
    """Show the page inline in a notebook; elsewhere print the answer in short."""
    if report.page and "ipykernel" in sys.modules:
        from IPython.display import (  # pyright: ignore[reportMissingImports]  comes with a notebook
            HTML,
            display,
        )

        display(HTML(frame(report.page)))
    else:
        print(short_answer(report))


def frame(page: str) -> str:
    """A page inside of another: its styles stay in, and the policy that it states holds."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox title="Novum report"'
        f' style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
