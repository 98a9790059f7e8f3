"""TensorBoard events: the figures of a report, encoded pictures, and text shown as it is."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from PIL import Image
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch.utils.tensorboard import SummaryWriter

from novum.report.boden import TAG, chart_of_report, draw_boden
from novum.report.model import Report
from novum.report.table import scalars

EVENTS = "tensorboard"  # a folder of their own, in which the second time replaces the first


@contextmanager
def events(report: Report, folder: Path, step: int) -> Iterator[SummaryWriter]:
    """The figures and the verdict at a step of training, and what else is written to it."""
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for tag, value in scalars(report.features).items():
            writer.add_scalar(tag, value, step)
        if chart := chart_of_report(report):
            add_encoded(writer, TAG, draw_boden(chart), step)
        yield writer
        writer.add_text("verdict", literal(report.verdict.text), step)


def add_encoded(experiment: SummaryWriter, tag: str, encoded: bytes, step: int) -> None:
    """A picture as it is, where TensorBoard's add_image would encode it again."""
    width, height = Image.open(io.BytesIO(encoded)).size
    image = Summary.Image(encoded_image_string=encoded, height=height, width=width, colorspace=3)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    cast(Any, experiment).file_writer.add_summary(summary, step)


def literal(text: str) -> str:
    """Markdown that shows a text as it is: none of its characters means anything."""
    return "".join(c if c.isalnum() or c in " …\n" else f"&#{ord(c)};" for c in text)
