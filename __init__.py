"""Novum: train generative models and judge whether what they make is good, and new."""
