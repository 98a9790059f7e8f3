"""Callbacks that log while training. Each knows a model only through its protocol."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.callbacks.adversarial_robustness import AttackFigure, Robustness
    from novum.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
    from novum.callbacks.evaluation import Evaluation, EvaluationCallback
    from novum.callbacks.guard import Guard
    from novum.callbacks.health import TrainingHealth
    from novum.callbacks.image_results import ClassJudge, SourceDistance, WriteResult
    from novum.callbacks.latent_space import LatentRecovery, LatentSpace
    from novum.callbacks.membership_inference import MembershipInference
    from novum.callbacks.nearest_neighbours import NearestNeighbours
    from novum.callbacks.preemption import Preemption
    from novum.callbacks.progress import ProgressBar
    from novum.callbacks.quality import (
        DensityCoverage,
        FrechetDistanceCallback,
        KernelDistance,
        ParzenLogLikelihood,
        PrecisionRecall,
        SetMetrics,
    )
    from novum.callbacks.run_identity import RunRecord
    from novum.callbacks.samples import FilmStrip, Interpolation, SampleGrid
    from novum.callbacks.stop_on_copying import StopOnCopying
    from novum.callbacks.style_sheets import StyleInterpolation, StyleMixing, TruncationSweep
    from novum.callbacks.style_transfer_sources import StyleSources
    from novum.callbacks.summary import RunSummary, WriteSamples
    from novum.callbacks.text_novelty import TextNovelty
    from novum.callbacks.text_samples import LossByPosition, SurprisalText, TextSamples
    from novum.callbacks.units import InterpretableUnits

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "AttackFigure",
    "BestCheckpoint",
    "ClassJudge",
    "DensityCoverage",
    "Evaluation",
    "EvaluationCallback",
    "FilmStrip",
    "FrechetDistanceCallback",
    "Guard",
    "Interpolation",
    "InterpretableUnits",
    "KernelDistance",
    "LastCheckpoint",
    "LatentRecovery",
    "LatentSpace",
    "LossByPosition",
    "MembershipInference",
    "NearestNeighbours",
    "ParzenLogLikelihood",
    "PrecisionRecall",
    "Preemption",
    "ProgressBar",
    "Robustness",
    "RunRecord",
    "RunSummary",
    "SampleGrid",
    "SetMetrics",
    "SourceDistance",
    "StopOnCopying",
    "StyleInterpolation",
    "StyleMixing",
    "StyleSources",
    "SurprisalText",
    "TextNovelty",
    "TextSamples",
    "TrainingHealth",
    "TruncationSweep",
    "WriteResult",
    "WriteSamples",
]
