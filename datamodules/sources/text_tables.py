"""Texts in tables: JSON lines, plain or compressed, and parquet; a row is a document."""

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from novum.core.errors import InputError

LINES = (".jsonl", ".ndjson")
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
USUAL_COLUMNS = ("text", "content", "completion", "output", "generation")


def is_table(file: Path) -> bool:
    """True if a file is read as a table of texts, by its name."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes = suffixes[:-1]
    return bool(suffixes) and suffixes[-1] in (*LINES, ".parquet")


def read_table(file: Path, column: str | None = None) -> Iterator[tuple[int, str]]:
    """Number, from 0, and text of each row that has one.

    Raises:
        InputError: If it is no such table, or has no such column.
    """
    if file.suffix.lower() == ".parquet":
        yield from _parquet(file, column)
    else:
        yield from _json_lines(file, column)


def _json_lines(file: Path, column: str | None) -> Iterator[tuple[int, str]]:
    import pyarrow as pa

    compression = COMPRESSED.get(file.suffix.lower())
    try:
        with pa.OSFile(str(file), "rb") as raw:
            stream = pa.CompressedInputStream(raw, compression) if compression else raw
            pending, number = b"", 0
            while block := stream.read(1 << 20):
                lines = (pending + block).split(b"\n")
                pending = lines.pop()
                for line in lines:
                    yield from _row(file, number, line, column)
                    number += 1
            yield from _row(file, number, pending, column)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read as {compression or 'it is'}: {error}") from error


def _row(file: Path, number: int, line: bytes, column: str | None) -> Iterator[tuple[int, str]]:
    if not line.strip():
        return
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} line {number + 1} is not JSON ({error}): mend it") from error
    text = row if isinstance(row, str) else _value(file, number, row, column)
    if text:
        yield number, text


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


def find_column(names: Sequence[str], file: Path) -> str:
    """The column that holds the text."""
    usual = [name for name in USUAL_COLUMNS if name in names]
    if usual:
        return usual[0]
    if len(names) != 1:
        raise InputError(
            f"{file}: name the column of the text with --text-column; there are"
            f" {', '.join(map(repr, names)) or 'none of text'}"
        )
    return names[0]


def _parquet(file: Path, column: str | None) -> Iterator[tuple[int, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        kinds = {f.name: f.type for f in table.schema_arrow}
        texts = [n for n, kind in kinds.items() if pa.types.is_string(kind) or _is_large(kind)]
        name = column or find_column(texts, file)
        if name not in texts:
            raise InputError(
                f"{file} has no column of text {name!r}: there are {', '.join(map(repr, texts))}"
            )
        number = 0
        for batch in table.iter_batches(columns=[name]):
            for text in batch.column(0).to_pylist():
                if text:
                    yield number, text
                number += 1
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no parquet file that can be read: {error}") from error


def _is_large(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_large_string(kind)
