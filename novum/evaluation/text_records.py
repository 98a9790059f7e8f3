"""Parts of a report on text: figures, n-gram curves, copied passages."""

from collections.abc import Sequence

import numpy as np

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import JudgedTexts
from novum.report.model import Passage, Space, as_estimates

NAMED = 0.1  # false discovery rate of the copies that a verdict counts


def figures(judged: JudgedTexts) -> dict[str, Space]:
    """Figures of each reading of the text; those of quality stand with the verbatim one."""
    spaces = {
        name: Space(novelty=as_estimates(found.novelty)) for name, found in judged.readings.items()
    }
    spaces["verbatim"].quality = as_estimates(judged.quality)
    return spaces


def novel_ngrams(judged: JudgedTexts) -> dict[str, list[float | None]]:
    """Shares of n-grams, n = 1, 2, ..., that the training text lacks, of samples and held-out."""
    verbatim = judged.readings["verbatim"]
    curves = {"samples": verbatim.novel, "heldout": verbatim.usually_novel}
    return {
        name: [None if np.isnan(x) else float(x) for x in curve]
        for name, curve in curves.items()
        if curve is not None
    }


def copy_records(judged: JudgedTexts, texts: Sequence[str], train: TextSource) -> list[Passage]:
    """Every copied passage, the surest and longest first.

    Offsets count characters in all samples joined, in the sample, in the training text and in its
    file.
    """
    vocabulary = train.vocabulary
    starts = np.append(0, np.cumsum([len(vocabulary.encode(text)) for text in texts]))
    records = []
    for name, found in judged.readings.items():
        columns = (*found.copies, found.source_length, found.q, found.common)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            start, length, place, source_length, q, common = row
            text = int(np.searchsorted(starts, start, "right")) - 1
            file, file_offset = train.place(place)
            records.append(
                Passage(
                    sample=start,
                    train=place,
                    q=q,
                    features=name,
                    length=length,
                    train_length=source_length,
                    in_heldout=common,
                    text=text,
                    text_offset=start - int(starts[text]),
                    file=file,
                    file_offset=file_offset,
                )
            )
    return sorted(records, key=_severity)


def _severity(copy: Passage) -> tuple[bool, bool, int]:
    return copy.q > NAMED, copy.kind != "verbatim", -copy.length
