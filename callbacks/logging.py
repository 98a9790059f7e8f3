"""Writing scalars, pictures and text, the encoding off the training thread."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from novum.core.protocols import seen
from novum.report.events import add_encoded

_encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="novum-pictures")
_pending: list[Future] = []


def log_metrics(trainer: Trainer, pl_module: LightningModule, metrics: Mapping[str, float]) -> None:
    """Scalars for every logger, and for callbacks that monitor one; equal on all ranks."""
    pl_module.log_dict(dict(metrics), logger=False, sync_dist=True)
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=seen(pl_module))


def writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer on rank 0, if the run logs there."""
    if not trainer.is_global_zero:
        return None
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None


def log_picture(
    trainer: Trainer,
    tag: str,
    draw: Callable[[], bytes],
    step: int,
) -> None:
    """Encoded image bytes (PNG, JPEG or GIF) under a tag; `draw` runs in a thread of its own."""
    experiment = writer(trainer)
    if experiment is None:
        return

    wait_for_pictures(at_most=8)
    _pending.append(_encoder.submit(lambda: add_encoded(experiment, tag, draw(), step)))


def wait_for_pictures(at_most: int = 0) -> None:
    """Returns when no more than `at_most` pictures wait; raises what a drawing raised."""
    while len(_pending) > at_most:
        _pending.pop(0).result()


def log_text(trainer: Trainer, tag: str, markdown: str, step: int) -> None:
    """Markdown in TensorBoard's Text tab."""
    experiment = writer(trainer)
    if experiment is not None:
        experiment.add_text(tag, markdown, step)
