"""What is logged while training. Each callback knows a model only through its protocol."""

from novum.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from novum.callbacks.copying import StopOnCopying
from novum.callbacks.evaluation import Evaluation, EvaluationCallback
from novum.callbacks.health import TrainingHealth
from novum.callbacks.latent_space import LatentRecovery, LatentSpace
from novum.callbacks.nearest_neighbours import NearestNeighbours
from novum.callbacks.progress import ProgressBar
from novum.callbacks.quality import (
    DensityCoverage,
    FrechetDistanceCallback,
    KernelDistance,
    ParzenLogLikelihood,
    PrecisionRecall,
)
from novum.callbacks.samples import FilmStrip, Interpolation, SampleGrid
from novum.callbacks.styles import StyleInterpolation, StyleMixing, TruncationSweep
from novum.callbacks.summary import RunSummary, WriteSamples

__all__ = [
    "BestCheckpoint",
    "DensityCoverage",
    "Evaluation",
    "EvaluationCallback",
    "FilmStrip",
    "FrechetDistanceCallback",
    "Interpolation",
    "KernelDistance",
    "LastCheckpoint",
    "LatentRecovery",
    "LatentSpace",
    "NearestNeighbours",
    "ParzenLogLikelihood",
    "PrecisionRecall",
    "ProgressBar",
    "RunSummary",
    "SampleGrid",
    "StopOnCopying",
    "StyleInterpolation",
    "StyleMixing",
    "TrainingHealth",
    "TruncationSweep",
    "WriteSamples",
]
