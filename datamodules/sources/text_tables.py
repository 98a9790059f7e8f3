"""Texts in tables: JSON lines, plain or compressed, parquet and Arrow; a row is a document."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from novum.core.errors import BadText, InputError
from novum.core.vocabulary import MEND

LINES = (".jsonl", ".ndjson")
COLUMNS = (".parquet", ".arrow")
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
USUAL_COLUMNS = ("text", "content", "completion", "output", "generation")

Bad = Callable[[int, BadText], None]  # gets the number of a row that cannot be read


def is_table(name: str | Path) -> bool:
    """True if a file is read as a table of texts, by its name."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        return len(suffixes) > 1 and suffixes[-2] in LINES
    return bool(suffixes) and suffixes[-1] in (*LINES, *COLUMNS)


def _stop(number: int, error: BadText) -> None:
    raise error


def read_table(
    file: Path,
    column: str | None = None,
    encodings: Sequence[str] = ("utf-8",),
    bad: Bad = _stop,
) -> Iterator[tuple[int, str]]:
    """Number, from 0, and text of each row that has one.

    Args:
        file: JSON lines, parquet or Arrow.
        column: The column of the text; None finds it.
        encodings: Of JSON lines: each line is in the first that it decodes in.
        bad: Called for each line that cannot be read; raises unless another is given.

    Raises:
        InputError: If it is no such table, or has no such column.
    """
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(file, column)
        elif suffix == ".arrow":
            yield from _arrow(file, column)
        else:
            yield from _json_lines(file, column, encodings, bad)
    except (OSError, EOFError, zlib.error) as error:
        kind = COMPRESSED.get(suffix) or suffix.lstrip(".")
        raise InputError(f"{file} cannot be read as {kind}: {error}") from error


def _json_lines(
    file: Path, column: str | None, encodings: Sequence[str], bad: Bad
) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(file)):
        if not line.strip():
            continue
        try:
            row = _parsed(file, number, line, encodings)
        except BadText as error:
            bad(number, error)
            continue
        text = row if isinstance(row, str) else _value(file, number, row, column)
        if text:
            yield number, text


def _lines(file: Path) -> Iterator[bytes]:
    import pyarrow as pa

    compression = COMPRESSED.get(file.suffix.lower())
    with pa.OSFile(str(file), "rb") as raw:
        stream = pa.CompressedInputStream(raw, compression) if compression else raw
        pending = b""
        while block := stream.read(1 << 20):
            lines = (pending + block).split(b"\n")
            pending = lines.pop()
            yield from lines
        yield pending


def _parsed(file: Path, number: int, line: bytes, encodings: Sequence[str]) -> Any:
    where = f"{file} line {number + 1}"
    try:
        return json.loads(_decoded(line, encodings).removeprefix("\ufeff"))
    except UnicodeError:
        reason = f"not {' or '.join(encodings)} text"
        raise BadText(f"{where} is {reason}; {MEND}", reason) from None
    except (ValueError, RecursionError) as error:
        raise BadText(
            f"{where} is not JSON ({error}): mend it, or leave such texts out (on_bad_text: skip;"
            " evaluate.py: --on-bad-text skip)",
            "not JSON",
        ) from error


def _decoded(line: bytes, encodings: Sequence[str]) -> str:
    for encoding in encodings[:-1]:
        try:
            return line.decode(encoding)
        except UnicodeError:
            continue
    return line.decode(encodings[-1])


def _value(file: Path, number: int, row: Any, column: str | None) -> str | None:
    where = f"{file} line {number + 1}"
    if not isinstance(row, dict):
        raise InputError(f"{where} is neither an object nor a string: give one of them a line")
    name = column or find_column([k for k, v in row.items() if isinstance(v, str)], file)
    if name not in row:
        raise InputError(f"{where} has no {name!r}: it has {', '.join(map(repr, row))}")
    if not isinstance(row[name], str | None):
        raise InputError(f"{where}: {name!r} is no text")
    return row[name]


def find_column(names: Sequence[str], file: Path | str) -> str:
    """The column that holds the text."""
    usual = [name for name in USUAL_COLUMNS if name in names]
    if usual:
        return usual[0]
    if len(names) != 1:
        raise InputError(
            f"{file}: name the column of the text (text_column; evaluate.py: --text-column); there"
            f" are {', '.join(map(repr, names)) or 'none of text'}"
        )
    return names[0]


def _parquet(file: Path, column: str | None) -> Iterator[tuple[int, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        name = _text_column(table.schema_arrow, column, file)
        yield from _texts(batch.column(0) for batch in table.iter_batches(columns=[name]))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no parquet file that can be read: {error}") from error


def _arrow(file: Path, column: str | None) -> Iterator[tuple[int, str]]:
    """A stream, as `datasets` saves it, or a file of Arrow."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
                batches: Iterator[Any] = iter(reader)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            name = _text_column(reader.schema, column, file)
            yield from _texts(batch.column(name) for batch in batches)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no Arrow file that can be read: {error}") from error


def _text_column(schema: Any, column: str | None, file: Path) -> str:
    import pyarrow as pa

    texts = [
        field.name
        for field in schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    name = column or find_column(texts, file)
    if name not in texts:
        raise InputError(
            f"{file} has no column of text {name!r}: there are {', '.join(map(repr, texts))}"
        )
    return name


def _texts(columns: Iterator[Any]) -> Iterator[tuple[int, str]]:
    number = 0
    for column in columns:
        for text in column.to_pylist():
            if text:
                yield number, text
            number += 1
