"""Novelty: what samples owe to the training set, always held against unseen data."""

from novum.metrics.novelty.nearest import Neighbours, find_neighbours, share_interval

__all__ = ["Neighbours", "find_neighbours", "share_interval"]
