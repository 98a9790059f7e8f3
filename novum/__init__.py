"""Novum: train generative models and judge whether what they make is good, and new."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports
from novum.core.security.trust import trusting

if TYPE_CHECKING:
    from novum.evaluation.api import evaluate
    from novum.report.model import Report

__all__ = ["Report", "evaluate", "trusting"]

__getattr__, __dir__ = lazy_exports(__name__, __file__)
