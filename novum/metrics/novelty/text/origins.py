"""The way back from a reading to its original: a byte a token, and looked up where it is needed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novum.core.files import append_array, mapped_array

ROW = 64  # tokens from one place that is kept whole to the next
LONG = 255  # of a step: what it has beyond is kept apart
BLOCK = 1 << 14  # rows at a time

Ints = NDArray[np.int64]


class Origins:
    """Places (n,) in the original, which do not descend."""

    def __init__(
        self, steps: NDArray[np.uint8], rows: Ints, long: Ints, beyond: NDArray[np.int64]
    ) -> None:
        self._steps = steps  # from the token before, LONG at the most
        self._rows = rows  # places of tokens 0, ROW, 2 ROW, ...
        self._long = long  # numbers of the tokens that are more than LONG from the one before
        self._beyond = np.append(0, np.cumsum(beyond))

    @classmethod
    def of(cls, places: NDArray[np.integer]) -> "Origins":
        steps = np.diff(places, prepend=0).astype(np.int64)
        long = np.flatnonzero(steps > LONG)
        rows = np.asarray(places[::ROW], np.int64)
        return cls(np.minimum(steps, LONG).astype(np.uint8), rows, long, steps[long] - LONG)

    @classmethod
    def mapped(cls, folder: Path, name: str) -> "Origins":
        """Map what an OriginsWriter has written into memory."""
        kinds = {"steps": "u1", "rows": "i8", "long": "i8", "beyond": "i8"}
        return cls(*(mapped_array(folder / f"{name}.{part}", k) for part, k in kinds.items()))

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, tokens: Ints) -> Ints:
        """Places of these tokens."""
        tokens = np.asarray(tokens, np.int64)
        out = np.empty(len(tokens), np.int64)
        for start in range(0, len(tokens), BLOCK):
            own = tokens[start : start + BLOCK]
            table = self._table(own // ROW)
            out[start : start + BLOCK] = table[np.arange(len(own)), own % ROW]
        return out

    def find(self, places: Ints) -> Ints:
        """Number of tokens that are before each place of the original."""
        places = np.asarray(places, np.int64)
        out = np.zeros(len(places), np.int64)
        for start in range(0, len(places) if len(self) else 0, BLOCK):
            own = places[start : start + BLOCK]
            row = np.maximum(np.searchsorted(self._rows, own) - 1, 0)
            before = (self._table(row) < own[:, None]).sum(1)
            out[start : start + BLOCK] = row * ROW + before
        return out

    def _table(self, rows: Ints) -> Ints:
        """Places (r, ROW) of the tokens of some rows; no place is beyond the last one's end."""
        tokens = rows[:, None] * ROW + np.arange(ROW)
        inside = tokens < len(self)
        steps = self._steps[np.minimum(tokens, len(self) - 1)].astype(np.int64)
        steps[:, 0] = self._rows[rows]
        places = np.cumsum(steps, axis=1)
        if len(self._long):
            since, until = (
                self._beyond[np.searchsorted(self._long, x, "right")]
                for x in (tokens[:, :1], tokens)
            )
            places += until - since
        return np.where(inside, places, np.iinfo(np.int64).max)


class OriginsWriter:
    """Writes the files of one reading's origins, block by block."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = [folder / f"{name}.{part}" for part in ("steps", "rows", "long", "beyond")]
        for path in self._paths:
            path.touch()
        self._written, self._last = 0, 0

    def add(self, places: NDArray[np.integer]) -> None:
        if not len(places):
            return
        steps = np.diff(places, prepend=self._last)
        long = np.flatnonzero(steps > LONG)
        rows = places[-self._written % ROW :: ROW]
        arrays = (
            np.minimum(steps, LONG).astype(np.uint8),
            rows.astype(np.int64),
            long + self._written,
            steps[long] - LONG,
        )
        for path, array in zip(self._paths, arrays, strict=True):
            append_array(path, array)
        self._written, self._last = self._written + len(places), int(places[-1])
