"""Novelty of text: which passages stand word for word in the training text, and is that chance?"""
