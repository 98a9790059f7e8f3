"""Novum: train generative models and judge whether what they make is good, and new."""

from novum.core.security.trust import trusting

__all__ = ["trusting"]
