"""Novelty of text: which passages stand in the training text, altered or not? Is it chance?"""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.metrics.novelty.text.index import TextIndex, build_index
    from novum.metrics.novelty.text.matching import Matching, first_places, match
    from novum.metrics.novelty.text.near_copies import search
    from novum.metrics.novelty.text.normal_form import fold, normalise
    from novum.metrics.novelty.text.references import TextReferences
    from novum.metrics.novelty.text.repetition import distinct_n, documents, self_bleu
    from novum.metrics.novelty.text.shift_test import exchangeability_test
    from novum.metrics.novelty.text.spans import LONG, Spans, copied, copied_spans, novel_ngrams
    from novum.metrics.novelty.text.texts import JudgedTexts, TextCopy, TextJudgement, judge_text

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "LONG",
    "JudgedTexts",
    "Matching",
    "Spans",
    "TextCopy",
    "TextIndex",
    "TextJudgement",
    "TextReferences",
    "build_index",
    "copied",
    "copied_spans",
    "distinct_n",
    "documents",
    "exchangeability_test",
    "first_places",
    "fold",
    "judge_text",
    "match",
    "normalise",
    "novel_ngrams",
    "search",
    "self_bleu",
]
