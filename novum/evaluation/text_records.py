"""Parts of a report on text: figures, n-gram curves, passages and facts."""

from collections.abc import Sequence

import numpy as np

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import JudgedTexts
from novum.report.model import Fact, Passage, Space, TextEvidence, as_estimates


def figures(judged: JudgedTexts) -> dict[str, Space]:
    """Figures of each reading of the text; those of quality stand with the verbatim one."""
    spaces = {name: Space(novelty=as_estimates(found)) for name, found in judged.novelty.items()}
    spaces["verbatim"].quality = as_estimates(judged.quality)
    return spaces


def novel_ngrams(judged: JudgedTexts) -> dict[str, list[float | None]]:
    """Shares of n-grams, n = 1, 2, ..., that the training text lacks, of samples and held-out."""
    curves = {"samples": judged.novel, "heldout": judged.usually_novel}
    return {
        name: [None if np.isnan(x) else float(x) for x in curve]
        for name, curve in curves.items()
        if curve is not None
    }


def evidence(judged: JudgedTexts) -> TextEvidence:
    found = judged.judgement
    return TextEvidence(
        found.fact_bits,
        found.named_bits,
        found.excess_p,
        found.heldout_shared,
        found.train_repeated,
    )


def copy_records(judged: JudgedTexts, train: TextSource) -> list[Passage]:
    """Every passage in common with training text: facts first, then named ones, by bits.

    Offsets count characters in all samples joined, in the sample, in the training text and in its
    file.
    """
    starts = np.append(0, judged.stops)
    records = []
    for copy in judged.copies:
        text = int(np.searchsorted(judged.stops, copy.start, "right"))
        file, file_offset = train.place(copy.place)
        records.append(
            Passage(
                sample=copy.start,
                train=copy.place,
                length=copy.length,
                train_length=copy.source_length,
                q=copy.q,
                in_heldout=copy.common,
                text=text,
                text_offset=copy.start - int(starts[text]),
                file=file,
                file_offset=file_offset,
                features=copy.kind,
                bits=copy.bits,
                fact=copy.is_fact,
                documents=copy.documents,
                identity=copy.identity,
                edits=copy.edits,
                sources=copy.sources,
            )
        )
    return records


def facts(passages: Sequence[Passage]) -> list[Fact]:
    """Passages that are facts."""
    return [
        Fact(
            "passage",
            p.sample,
            p.train,
            p.bits,
            p.length,
            p.train_length,
            p.file,
            p.file_offset,
        )
        for p in passages
        if p.fact
    ]
