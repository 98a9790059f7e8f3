"""Documents of files: a file of text is one, and so is each row of a table."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from novum.core.errors import BadText
from novum.core.files import read_blocks
from novum.core.vocabulary import Decoder, encodings
from novum.datamodules.sources.raw_images import Omission
from novum.datamodules.sources.text_tables import is_table, read_table

BLOCK = 1 << 22  # bytes read at once
MARK = b"\xef\xbb\xbf"  # byte-order mark of UTF-8


class Reading(NamedTuple):
    """Rules by which texts are read.

    Args:
        encoding: Of files of text and of JSON lines; each is in the first, of several parted by
            commas, that it decodes in.
        skip_bad: Leave out what cannot be read, and count it.
        column: Of tables; None finds it.
        as_bytes: Files of text are bytes, whatever they mean.
    """

    encoding: str = "utf-8"
    skip_bad: bool = False
    column: str | None = None
    as_bytes: bool = False


class TextFile(NamedTuple):
    """A file, its name among the others, and the encoding that it is in."""

    path: Path
    name: str
    encoding: str


class LeftOut:
    """Names of what is not read, by the reason."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        self._names[reason].append(name)

    def omissions(self) -> tuple[Omission, ...]:
        return tuple(Omission.of(*item) for item in sorted(self._names.items()))


def readable(
    files: Sequence[Path], names: Sequence[str], how: Reading, left_out: LeftOut
) -> Iterator[TextFile]:
    """Files in their encodings; those that cannot be read are an error, or left out."""
    tried = encodings(how.encoding)
    for path, name in zip(files, names, strict=True):
        try:
            sure = len(tried) == 1 and not how.skip_bad
            known = sure or how.as_bytes or is_table(path)
            yield TextFile(path, name, tried[0] if known else _encoding_of(path, tried))
        except BadText as error:
            if not how.skip_bad:
                raise
            left_out.add(error.reason, name)


def _encoding_of(path: Path, tried: Sequence[str]) -> str:
    """The first encoding that the whole file decodes in."""
    for number, encoding in enumerate(tried, 1):
        decode = Decoder(encoding, str(path))
        try:
            for block in read_blocks(path, BLOCK):
                decode(block)
            decode(b"", final=True)
        except BadText:
            if number == len(tried):
                raise
            continue
        return encoding
    raise AssertionError


def documents(
    file: TextFile, how: Reading, left_out: LeftOut
) -> Iterator[tuple[str, Iterator[str]]]:
    """Name and text, in blocks, of each document of a file."""
    if not is_table(file.path):
        yield file.name, _blocks(file)
        return

    def skip(number: int, error: BadText) -> None:
        if not how.skip_bad:
            raise error
        left_out.add(f"rows {error.reason}", f"{file.name}, row {number}")

    for number, text in read_table(file.path, how.column, encodings(how.encoding), skip):
        yield f"{file.name}, row {number}", iter([text])


def _blocks(file: TextFile) -> Iterator[str]:
    decode = Decoder(file.encoding, str(file.path))
    for block in read_blocks(file.path, BLOCK):
        yield decode(block)
    yield decode(b"", final=True)


def raw_blocks(path: Path) -> Iterator[bytes]:
    """Bytes of a file, without the byte-order mark of UTF-8."""
    blocks = read_blocks(path, BLOCK)
    yield next(blocks, b"").removeprefix(MARK)
    yield from blocks


def as_row(text: str) -> str:
    """Text of a row in a corpus, where an empty line parts it from the next."""
    whole = f"{text}\n\n".replace("\0", "")
    return whole if whole.isascii() else whole.encode("utf-8", "replace").decode()  # JSON's \\ud800
