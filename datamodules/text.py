"""Text for training, and the held-out text that novelty is measured against."""

from novum.datamodules.corpus import Corpus, Piece, TextSource
from novum.datamodules.vocabulary import UNKNOWN, Tokens, Vocabulary

__all__ = ["UNKNOWN", "Corpus", "Piece", "TextSource", "Tokens", "Vocabulary"]
