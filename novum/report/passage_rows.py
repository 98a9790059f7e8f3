"""Rows of TensorBoard's Novelty tab for text: passages beside their sources."""

from collections.abc import Sequence

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.differences import Piece
from novum.report.model import Passage
from novum.report.novelty_record import MOST_ROWS, PassageRow, Rows, Stretch
from novum.report.reviews import pair_of_texts
from novum.report.text_page import Joined, passage_pair


def passage_rows(copies: Sequence[Passage], texts: Sequence[str], train: TextSource) -> Rows:
    """The first passages, which are those with most information."""
    joined = Joined(texts, train)
    return Rows(passages=[_row(copy, joined) for copy in copies[:MOST_ROWS]])


def _row(copy: Passage, joined: Joined) -> PassageRow:
    pair = passage_pair(copy, joined)
    own = joined.text[copy.sample : copy.sample + copy.length]
    source = joined.train.text(copy.train, copy.train + copy.train_length)
    return PassageRow(
        copy.text,
        copy.text_offset,
        copy.file,
        copy.file_offset,
        copy.length,
        copy.kind,
        _stretches(pair.own.copied),
        _stretches(pair.source.copied),
        pair_of_texts(own, source),
        pair.own.before,
        pair.own.after,
        copy.q,
        copy.bits,
        copy.identity,
        copy.is_copy,
        "passage" if copy.fact else None,
    )


def _stretches(pieces: Sequence[Piece]) -> list[Stretch]:
    return [Stretch(piece.text, piece.same) for piece in pieces]
