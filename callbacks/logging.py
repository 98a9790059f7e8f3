"""Scalars, pictures and text for every logger of a run, the encoding off the training thread.

TensorBoard, W&B and MLflow show pictures and text themselves. For any other logger, as CSV, and in
a run without one they are files: `pictures/TAG/STEP.png` and `text/TAG/STEP.md` in its folder.
"""

import html
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.tensorboard import SummaryWriter

from novum.core.files import write_text
from novum.core.lightning_compat import fast_dev_run
from novum.core.protocols import seen
from novum.report.events import add_encoded, add_scalar, meaning
from novum.report.model import GROUPS, Estimate
from novum.report.table import spaces_of_tags

_encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="novum-pictures")
_pending: list[Future] = []
_explained: WeakKeyDictionary[Logger, set[str]] = WeakKeyDictionary()


def log_metrics(trainer: Trainer, pl_module: LightningModule, metrics: Mapping[str, float]) -> None:
    """Scalars for every logger, and for callbacks that monitor one; equal on all ranks."""
    pl_module.log_dict(dict(metrics), logger=False, sync_dist=True)
    for logger in trainer.loggers:
        logger.log_metrics(_described(trainer, logger, metrics, seen(pl_module)), seen(pl_module))


def _described(
    trainer: Trainer, logger: Logger, metrics: Mapping[str, float], step: int
) -> dict[str, float]:
    """Metrics that are left to a logger: TensorBoard has first values with their meaning."""
    if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
        return dict(metrics)
    known = _explained.setdefault(logger, set())
    new = {tag for tag in metrics.keys() - known if meaning(tag)}
    known |= metrics.keys()
    for tag in new:
        add_scalar(logger.experiment, tag, float(metrics[tag]), step)
    return {tag: value for tag, value in metrics.items() if tag not in new}


def writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer on rank 0, if the run logs there."""
    if not trainer.is_global_zero:
        return None
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None


class Files:
    """Pictures and texts as files in a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, tag: str, encoded: bytes, step: int) -> Path:
        place = self.folder / "pictures" / tag / f"{step}.{_suffix(encoded)}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded)
        return place

    def text(self, tag: str, markdown: str, step: int) -> None:
        write_text(self.folder / "text" / tag / f"{step}.md", markdown)


class TensorBoard:
    def __init__(self, logger: TensorBoardLogger) -> None:
        self.writer: SummaryWriter = logger.experiment

    def picture(self, tag: str, encoded: bytes, step: int) -> None:
        add_encoded(self.writer, tag, encoded, step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        self.writer.add_text(tag, markdown, step)


class WeightsAndBiases:
    """Pictures are files that W&B takes a copy of, an animation one that it plays; a text is a
    table of one row."""

    def __init__(self, logger: WandbLogger, files: Files) -> None:
        self.run, self.files = cast(Any, logger.experiment), files

    def picture(self, tag: str, encoded: bytes, step: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        place = self.files.picture(tag, encoded, step)
        moving = place.suffix == ".gif"
        shown = wandb.Video(str(place), format="gif") if moving else wandb.Image(str(place))
        self.run.log({tag: shown, "trainer/global_step": step})

    def text(self, tag: str, markdown: str, step: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        table = wandb.Table(columns=["step", "text"], data=[[step, html.unescape(markdown)]])
        self.run.log({tag: table, "trainer/global_step": step})


class MLflow:
    """Artifacts of the run: pictures/TAG/STEP.png, text/TAG/STEP.md."""

    def __init__(self, logger: MLFlowLogger) -> None:
        self.client, self.run_id = cast(Any, logger.experiment), cast(str, logger.run_id)

    def picture(self, tag: str, encoded: bytes, step: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{step}.{_suffix(encoded)}"
            file.write_bytes(encoded)
            self.client.log_artifact(self.run_id, str(file), f"pictures/{tag}")

    def text(self, tag: str, markdown: str, step: int) -> None:
        self.client.log_text(self.run_id, markdown, f"text/{tag}/{step}.md")


def _suffix(encoded: bytes) -> str:
    """By the first bytes of a file."""
    kinds = {b"\x89PNG": "png", b"GIF8": "gif", b"\xff\xd8\xff\xe0": "jpg"}
    return kinds.get(encoded[:4], "png")


Sink = Files | TensorBoard | WeightsAndBiases | MLflow


def sinks(trainer: Trainer) -> Iterator[Sink]:
    """Loggers that show pictures and texts of this run, on rank 0."""
    if not trainer.is_global_zero or fast_dev_run(trainer):
        return
    files = False
    for logger in trainer.loggers or [None]:
        if isinstance(logger, TensorBoardLogger):
            yield TensorBoard(logger)
        elif isinstance(logger, WandbLogger):
            yield WeightsAndBiases(logger, Files(folder_of(trainer)))
        elif isinstance(logger, MLFlowLogger):
            yield MLflow(logger)
        elif not files:
            files = True
            yield Files(folder_of(trainer))


def folder_of(trainer: Trainer) -> Path:
    """The run's folder, on one rank alone: trainer.log_dir is a collective."""
    folder = getattr(trainer, "run_folder", None)
    if folder is None:
        known = [getattr(x, "log_dir", None) or x.save_dir for x in trainer.loggers]
        folder = next((x for x in known if x), trainer.default_root_dir)
    return Path(folder)


def log_picture(
    trainer: Trainer,
    tag: str,
    draw: Callable[[], bytes],
    step: int,
) -> None:
    """Encoded image bytes (PNG, JPEG or GIF) under a tag; `draw` runs in a thread of its own."""
    shown = list(sinks(trainer))
    if not shown:
        return

    def show() -> None:
        encoded = draw()
        for sink in shown:
            sink.picture(tag, encoded, step)

    wait_for_pictures(at_most=8)
    _pending.append(_encoder.submit(show))


def wait_for_pictures(at_most: int = 0) -> None:
    """Returns when no more than `at_most` pictures wait; raises what a drawing raised."""
    while len(_pending) > at_most:
        _pending.pop(0).result()


def log_text(trainer: Trainer, tag: str, markdown: str, step: int) -> None:
    """Markdown in TensorBoard's Text tab, and where other loggers show texts."""
    for sink in sinks(trainer):
        sink.text(tag, markdown, step)


def novelty_folder(trainer: Trainer) -> Path | None:
    """The run's folder, for what TensorBoard's Novelty tab shows, on the rank that writes it.

    None for a trial, and where the folder is no local one (s3://bucket).
    """
    if not trainer.is_global_zero or fast_dev_run(trainer):
        return None
    folder = folder_of(trainer)
    return None if re.match(r"\w+:/", str(folder)) else folder


def logged_figures(trainer: Trainer) -> dict[str, Estimate]:
    """Figures of quality, novelty and on held-out data of this evaluation, by tag."""
    tags = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
    figures = {tag: Estimate(x) for tag, x in tags.items() if tag.startswith("val/")}
    for space, found in spaces_of_tags(tags).items():
        for group in GROUPS:
            figures |= {f"{group}/{k}/{space}": e for k, e in found.group(group).items()}
    return figures


def where_to_look(logger: Logger | None, folder: Path) -> str:
    """The command, or place, that shows what a logger has."""
    if isinstance(logger, TensorBoardLogger):
        return f"tensorboard --logdir {folder.parent}"
    if isinstance(logger, WandbLogger):
        run = cast(Any, logger.experiment)
        return f"wandb sync {Path(run.dir).parent}" if run.offline else str(run.url)
    if isinstance(logger, MLFlowLogger):
        return f"mlflow ui --backend-store-uri {logger._tracking_uri}"
    return str(folder / "pictures")
