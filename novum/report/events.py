"""TensorBoard events: the figures of a report, encoded pictures, and text shown as it is."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from PIL import Image
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_SCALAR,  # pyright: ignore[reportAttributeAccessIssue]
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
    SummaryMetadata,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch.utils.tensorboard import SummaryWriter

from novum.metrics.registry import describe
from novum.report.boden import TAG, chart_of_report, draw_boden
from novum.report.model import Report
from novum.report.table import scalars

ENDS = {"low": "Lower end of the 95% interval of", "high": "Upper end of the 95% interval of"}
READ_FIRST = ("quality", "novelty", "health", "speed", "loss", "val")
EVENTS = "tensorboard"  # a folder of their own, in which the second time replaces the first


@contextmanager
def events(report: Report, folder: Path, step: int) -> Iterator[SummaryWriter]:
    """The figures and the verdict at a step of training, and what else is written to it."""
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for tag, value in scalars(report.features).items():
            add_scalar(writer, tag, value, step)
        if chart := chart_of_report(report):
            add_encoded(writer, TAG, draw_boden(chart), step)
        yield writer
        writer.add_text("verdict", literal(report.verdict.text), step)


def add_scalar(experiment: SummaryWriter, tag: str, value: float, step: int) -> None:
    """A scalar with its meaning, which TensorBoard takes from the first value of a tag."""
    kind = SummaryMetadata.PluginData(plugin_name="scalars")
    # without its class TensorBoard's fast loader leaves out the description
    metadata = SummaryMetadata(
        summary_description=meaning(tag), plugin_data=kind, data_class=DATA_CLASS_SCALAR
    )
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value, metadata=metadata)])
    cast(Any, experiment).file_writer.add_summary(summary, step)


def meaning(tag: str) -> str:
    """Explanation of the figure of a tag; '' if the registry has none."""
    name = tag.split("/")[1] if "/" in tag else tag
    whole, _, end = name.rpartition("_")
    known = describe(whole if end in ENDS else name)
    said = [f"{ENDS[end]} {known.title}."] if end in ENDS else []
    said += [known.meaning, f"Better: {known.better}." if known.better else ""]
    return " ".join(part for part in said if part) if known.meaning else ""


def chart_layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Layout of the Custom Scalars tab: the order in which one reads, intervals as bands.

    The other tabs sort by name, health before quality.
    """
    known, layout = set(tags), {}
    for group in READ_FIRST:
        charts: dict[str, list[Any]] = {}
        for tag in sorted(tag for tag in known if tag.startswith(f"{group}/")):
            _, name, *space = tag.split("/", 2)
            ends = ["/".join([group, f"{name}_{end}", *space]) for end in ENDS]
            if name.rpartition("_")[2] in ENDS:
                continue
            if all(end in known for end in ends):
                charts[" in ".join([name, *space])] = ["Margin", [tag, *ends]]
            else:
                charts.setdefault(name, ["Multiline", []])[1].append(re.escape(tag))
        if charts:
            layout[group] = charts
    return layout


def add_encoded(experiment: SummaryWriter, tag: str, encoded: bytes, step: int) -> None:
    """A picture as it is, where TensorBoard's add_image would encode it again."""
    width, height = Image.open(io.BytesIO(encoded)).size
    image = Summary.Image(encoded_image_string=encoded, height=height, width=width, colorspace=3)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    cast(Any, experiment).file_writer.add_summary(summary, step)


def literal(text: str) -> str:
    """Markdown that shows a text as it is: none of its characters means anything."""
    return "".join(c if c.isalnum() or c in " …\n" else f"&#{ord(c)};" for c in text)
