"""Comparison of twins, written down: twin.html, twin.json and TensorBoard events."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from novum.core import distributed
from novum.core.run_record import read_record
from novum.datamodules.halves import HALVES
from novum.datamodules.text import TextDataModule
from novum.evaluation.twin_images import compare_images
from novum.evaluation.twin_texts import compare_texts
from novum.evaluation.twins import Models, describe_twins
from novum.report.events import EVENTS, add_encoded, literal
from novum.report.pictures import captioned_table, encode
from novum.report.twin_page import Pictures, Shown, TwinEvidence, TwinReport, write_twins


def compare_twins(models: Models, data: Any, folder: Path, seed: int) -> tuple[TwinReport, Path]:
    """Compare two models whose runs are `folder`/a and `folder`/b; all ranks call it at once.

    `data` is that of either run. Returns the report and the path of its page.
    """
    folders = {half: folder / half for half in HALVES}
    ids = {half: read_record(where).get("id") for half, where in folders.items()}
    twins = describe_twins(models, folders, ids, data)
    if isinstance(data, TextDataModule):
        report, pictures = compare_texts(models, data, twins, seed), {}
    else:
        report, pictures = compare_images(models, data, twins, seed)
    if distributed.is_rank_zero():
        write_twins(report, pictures, folder)
        _write_events(report, pictures, folder)
    distributed.barrier("the comparison of twins")
    return report, folder / "twin.html"


def _write_events(report: TwinReport, pictures: Pictures, folder: Path) -> None:
    step = max(twin.seen for twin in report.twins)
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for kind, found in report.evidence.items():
            for name, value in _scalars(found).items():
                writer.add_scalar(f"twins/{name}/{kind}", value, step)
            if shown := pictures.get(kind):
                add_encoded(writer, f"twins/items/{kind}", _drawn(found, shown), step)
            elif found.ranked and found.ranked[0].source:
                writer.add_text(f"twins/items/{kind}", _listed(found), step)
        writer.add_text("twins/verdict", literal(report.verdict.text), step)


def _scalars(found: TwinEvidence) -> dict[str, float]:
    estimates = {"mean_lead": found.mean, "ahead": found.ahead}
    known = {name: e.value for name, e in estimates.items() if e.value is not None}
    return known | {"p": found.p, "items_named": found.named}


def _drawn(found: TwinEvidence, shown: list[Shown]) -> bytes:
    """Items beside the samples of both twins, as one picture."""
    import numpy as np

    columns = [np.stack(images) for images in zip(*shown, strict=True)]
    captions = [[f"half {x.half}, q {x.q:.2g}" for x in found.ranked[: len(shown)]],
                [f"{x.own:.3g}" for x in found.ranked[: len(shown)]],
                [f"{x.other:.3g}" for x in found.ranked[: len(shown)]]]  # fmt: skip
    return encode(captioned_table(columns, ["item", "its own twin", "the other"], captions))


def _listed(found: TwinEvidence) -> str:
    """Passages as a table in Markdown."""
    rows = ["| where | half | lead | q | text |", "|---|---|---|---|---|"]
    for x in found.ranked[:10]:
        text = literal((x.source or "")[:400]).replace("\n", " ↵ ")
        rows.append(f"| {literal(x.name)} | {x.half} | {x.score:.3g} | {x.q:.2g} | {text} |")
    return "\n".join(rows)
