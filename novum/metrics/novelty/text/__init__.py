"""Novelty of text: which passages stand word for word in the training text, and is that chance?"""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.metrics.novelty.text.index import TextIndex, build_index
    from novum.metrics.novelty.text.judging import READINGS, TextJudgement, judge_reading, prepare
    from novum.metrics.novelty.text.matching import Matching, match
    from novum.metrics.novelty.text.repetition import distinct_n, documents, self_bleu
    from novum.metrics.novelty.text.shift_test import exchangeability_test
    from novum.metrics.novelty.text.spans import LONG, Spans, copied, copied_spans, novel_ngrams
    from novum.metrics.novelty.text.texts import JudgedTexts, TextReferences, judge_text

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "LONG",
    "READINGS",
    "JudgedTexts",
    "Matching",
    "Spans",
    "TextIndex",
    "TextJudgement",
    "TextReferences",
    "build_index",
    "copied",
    "copied_spans",
    "distinct_n",
    "documents",
    "exchangeability_test",
    "judge_reading",
    "judge_text",
    "match",
    "novel_ngrams",
    "prepare",
    "self_bleu",
]
