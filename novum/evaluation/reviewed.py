"""A person's reviews from the report's folder, put beside the pairs that a report names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.novelty_rows import rows_of
from novum.report.markdown import named_pairs
from novum.report.model import Report, Reviewed
from novum.report.reviews import pair_of_images, pair_of_texts, read_reviews

Named = tuple[str | int, str | int, str]  # sample and source, as a report names them; fingerprint


def add_image_reviews(
    report: Report, folder: Path | None, images: Mapping[str, ImageSource]
) -> None:
    """Add the decisions on this report's pairs, if there are any, recognised by their pixels."""
    if folder is not None and (known := read_reviews(folder)):
        report.reviewed = _reviewed(known, _image_pairs(report, images))


def add_text_reviews(
    report: Report, folder: Path | None, texts: Sequence[str], train: TextSource
) -> None:
    """The same of passages, by their characters."""
    if folder is not None and (known := read_reviews(folder)):
        report.reviewed = _reviewed(known, _text_pairs(report, "".join(texts), train))


def _reviewed(known: Mapping[str, str], pairs: Iterator[Named]) -> list[Reviewed]:
    return [Reviewed(sample, train, known[pair]) for sample, train, pair in pairs if pair in known]


def _image_pairs(report: Report, images: Mapping[str, ImageSource]) -> Iterator[Named]:
    pairs = named_pairs(report)
    samples = rows_of(images["samples"], {pair.sample for pair in pairs})
    train = rows_of(images["train"], {pair.train for pair in pairs})
    for pair in pairs:
        sides = images["samples"][samples[pair.sample]], images["train"][train[pair.train]]
        own, source = (side.numpy().tobytes() for side in sides)
        yield pair.sample, pair.train, pair_of_images(own, source)


def _text_pairs(report: Report, text: str, train: TextSource) -> Iterator[Named]:
    for copy in report.passages:
        if copy.is_copy:
            own = text[copy.sample : copy.sample + copy.length]
            source = train.text(copy.train, copy.train + copy.train_length)
            yield copy.sample, copy.train, pair_of_texts(own, source)
