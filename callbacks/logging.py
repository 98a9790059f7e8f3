"""Writing scalars, pictures and text, the encoding off the training thread."""

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from novum.core.protocols import seen

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


def add_encoded(experiment: SummaryWriter, tag: str, encoded: bytes, step: int) -> None:
    """A picture as it is, where TensorBoard's add_image would encode it anew."""
    width, height = Image.open(io.BytesIO(encoded)).size
    image = Summary.Image(encoded_image_string=encoded, height=height, width=width, colorspace=3)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    experiment.file_writer.add_summary(summary, step)


def wait_for_pictures(at_most: int = 0) -> None:
    """Returns when no more than `at_most` pictures wait; raises what a drawing raised."""
    while len(_pending) > at_most:
        _pending.pop(0).result()


def literal(text: str) -> str:
    """Markdown that shows a text as it is: none of its characters means anything."""
    return "".join(c if c.isalnum() or c in " …\n" else f"&#{ord(c)};" for c in text)


def log_text(trainer: Trainer, tag: str, markdown: str, step: int) -> None:
    """Markdown in TensorBoard's Text tab."""
    experiment = writer(trainer)
    if experiment is not None:
        experiment.add_text(tag, markdown, step)
