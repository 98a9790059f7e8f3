"""Pictures of a style space: mixed styles, truncation, a walk in w. For the log and for files."""

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback
from novum.callbacks.logging import log_picture
from novum.core.protocols import require_styles, seen
from novum.report.pictures import (
    encode,
    encode_gif,
)
from novum.report.style_grids import mixing_sheet, style_walk, truncation_sheet


class StyleMixing(EvaluationCallback):
    """samples/style_mixing: coarse, middle and fine styles of some images put into others.

    Args:
        rows: Images that take styles.
        columns: Images that give them.
        seed: Of the latents.
        psi: Truncation.
    """

    def __init__(self, rows: int = 3, columns: int = 6, seed: int = 0, psi: float = 0.7) -> None:
        self.rows, self.columns, self.seed, self.psi = rows, columns, seed, psi

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = require_styles(pl_module, "StyleMixing")
            sheet = mixing_sheet(module, self.rows, self.columns, self.seed, self.psi)
            log_picture(trainer, "samples/style_mixing", lambda: encode(sheet), seen(pl_module))


class TruncationSweep(EvaluationCallback):
    """samples/truncation: the same latents at several strengths of truncation.

    Args:
        rows: Latents.
        seed: Of the latents.
    """

    def __init__(self, rows: int = 6, seed: int = 0) -> None:
        self.rows, self.seed = rows, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = require_styles(pl_module, "TruncationSweep")
            sheet = truncation_sheet(module, self.rows, seed=self.seed)
            log_picture(trainer, "samples/truncation", lambda: encode(sheet), seen(pl_module))


class StyleInterpolation(EvaluationCallback):
    """samples/style_interpolation: closed walks along straight lines in w, as an animation.

    Args:
        rows: Walks shown side by side.
        stops: Latents each walk visits.
        frames: Frames between two stops.
        seed: Of the latents.
    """

    def __init__(self, rows: int = 6, stops: int = 3, frames: int = 12, seed: int = 0) -> None:
        self.rows, self.stops, self.frames, self.seed = rows, stops, frames, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = require_styles(pl_module, "StyleInterpolation")
            frames = style_walk(module, self.rows, self.stops, self.frames, self.seed)
            log_picture(
                trainer,
                "samples/style_interpolation",
                lambda: encode_gif(frames),
                seen(pl_module),
            )
