"""Normal forms in which texts are compared, and the way back to places in the original.

`normalise` removes what no reader sees: line ends, kinds of spaces, zero-width characters and
canonically equivalent sequences (NFC). `fold` keeps letters, digits and pictographs alone, without
case, compatibility variants (NFKC) and diacritics, and takes letters of other scripts that look
like Latin ones for these, so that punctuation, spaces, line breaks,
hyphenation and line numbers make no difference either.
"""

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import CODE_POINTS

LONGEST_NUMBER = 6  # digits of a line number
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
NUMBER_ENDS = ".:)|]"
NEWLINE, SPACE = ord("\n"), ord(" ")

Codes = NDArray[np.uint32]


class Normal(NamedTuple):
    """Characters in a normal form."""

    codes: Codes  # (k,) code points
    origin: NDArray[np.integer]  # (k,) the place in the original of each


def normalise(codes: Codes) -> Normal:
    """Code points (n,) with `\\n` for any line end, one kind of space, in NFC.

    Invisible characters (of category Cf, such as zero-width ones, byte-order marks and soft
    hyphens) are left out.
    """
    origin = np.arange(len(codes))
    if len(codes) and (codes == ord("\r")).any():
        follows = np.append(False, codes[:-1] == ord("\r"))
        kept = ~(follows & (codes == NEWLINE))
        codes, origin = codes[kept], origin[kept]
    if len(codes) and codes.max() >= 0x300:
        codes, origin = _composed(codes, origin)
    return _replaced(codes, origin, _visible)


def fold(normal: Normal) -> Normal:
    """Letters, digits, numbers and pictographs in lower case, without diacritics.

    Numbers that begin a line and are set apart by a space are left out: line numbers.
    """
    codes, origin = normal
    kept = ~_line_numbers(codes)
    return _replaced(codes[kept], origin[kept], _letters)


def _visible(character: str) -> str:
    if character in LINE_ENDS:
        return "\n"
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else character


def _letters(character: str) -> str:
    """The characters that stand for one in the folded reading, maybe none."""
    if unicodedata.category(character) in ("Cn", "Co", "Cs"):
        return character
    plain = unicodedata.normalize("NFKD", character)
    plain = "".join(c for c in plain if unicodedata.category(c)[0] != "M")
    plain = unicodedata.normalize("NFKC", plain.casefold()).translate(_lookalikes())
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LN" or _is_picture(c))


# small letters that look like Latin ones, they or their capitals
LOOKALIKES = {
    "CYRILLIC SMALL LETTER": {
        "A": "a", "VE": "b", "ES": "c", "KOMI DE": "d", "IE": "e", "EN": "h", "SHHA": "h",
        "BYELORUSSIAN-UKRAINIAN I": "i", "JE": "j", "KA": "k", "PALOCHKA": "l", "EM": "m",
        "O": "o", "ER": "p", "QA": "q", "DZE": "s", "TE": "t", "WE": "w", "HA": "x", "U": "y",
        "STRAIGHT U": "y", "IZHITSA": "v",
    },
    "GREEK SMALL LETTER": {
        "ALPHA": "a", "BETA": "b", "EPSILON": "e", "ETA": "h", "IOTA": "i", "KAPPA": "k", "MU": "m",
        "NU": "n", "OMICRON": "o", "RHO": "p", "TAU": "t", "CHI": "x", "UPSILON": "y", "ZETA": "z",
    },
    "ARMENIAN SMALL LETTER": {"HO": "h", "VO": "n", "OH": "o", "SEH": "u"},
}  # fmt: skip


@cache
def _lookalikes() -> dict[int, str]:
    return {
        ord(unicodedata.lookup(f"{script} {name}")): latin
        for script, letters in LOOKALIKES.items()
        for name, latin in letters.items()
    }


def _is_picture(character: str) -> bool:
    return unicodedata.category(character) == "So"


def _replaced(
    codes: Codes, origin: NDArray[np.integer], replacement: Callable[[str], str]
) -> Normal:
    """Each character replaced by any number of others."""
    table, more = _table(replacement)
    new = table[codes]
    unknown = np.unique(codes[new == _UNSEEN])
    for code in unknown.tolist():
        found = [*map(ord, replacement(chr(code)))]
        table[code] = found[0] if len(found) == 1 else _GONE if not found else _SEVERAL
        if len(found) > 1:
            more[code] = found
    if len(unknown):
        new = table[codes]
    if (new == _SEVERAL).any():
        sizes = np.ones(len(codes), np.int64)
        several = np.flatnonzero(new == _SEVERAL)
        parts = [more[code] for code in codes[several].tolist()]
        sizes[several] = [len(part) for part in parts]
        at = np.cumsum(sizes) - sizes
        new, origin = np.repeat(new, sizes), np.repeat(origin, sizes)
        places = np.repeat(at[several], sizes[several])
        inside = np.arange(len(places)) - np.repeat(
            np.cumsum(sizes[several]) - sizes[several], sizes[several]
        )
        new[places + inside] = np.concatenate(parts)
    kept = new != _GONE
    return Normal(new[kept].astype(np.uint32), origin[kept])


_UNSEEN, _GONE, _SEVERAL = -1, -2, -3


@cache
def _table(replacement: Callable[[str], str]) -> tuple[NDArray[np.int32], dict[int, list[int]]]:
    """Filled in as characters are met."""
    return np.full(CODE_POINTS, _UNSEEN, np.int32), {}


def _joins(codes: Codes) -> NDArray[np.bool_]:
    """Mask of characters that may change in NFC, or change with what they follow."""
    table = _joining()
    found = table[codes]
    for code in np.unique(codes[found < 0]).tolist():
        table[code] = _may_join(code)
    return table[codes] > 0


@cache
def _joining() -> NDArray[np.int8]:
    """1 for characters that join, -1 for those that were not looked at."""
    return np.where(np.arange(CODE_POINTS) < 0x300, 0, -1).astype(np.int8)


def _may_join(code: int) -> bool:
    character = chr(code)
    if unicodedata.category(character) == "Cs":
        return False
    changes = not unicodedata.is_normalized("NFC", character)
    return changes or unicodedata.combining(character) > 0 or _may_compose(code)


def _may_compose(code: int) -> bool:
    """Vowels and final consonants of Hangul, and vowel signs that compose though they are no marks
    of a combining class (NFC_Quick_Check=Maybe)."""
    return 0x1161 <= code <= 0x1175 or 0x11A8 <= code <= 0x11C2 or code in _SIGNS


_SIGNS = {
    0x09BE, 0x09D7, 0x0B3E, 0x0B56, 0x0B57, 0x0BBE, 0x0BD7, 0x0CC2, 0x0CD5, 0x0CD6, 0x0D3E, 0x0D57,
    0x0DCF, 0x0DDF, 0x102E, 0x1B35, 0x11127, 0x1133E, 0x11357, 0x114B0, 0x114BA, 0x114BD, 0x115AF,
    0x11930,
}  # fmt: skip


def _composed(codes: Codes, origin: NDArray[np.integer]) -> tuple[Codes, NDArray[np.integer]]:
    """NFC: each character with those that join it is normalised by itself."""
    joins = _joins(codes)
    if not joins.any():
        return codes, origin
    first = ~joins
    first[0] = True
    starts = np.flatnonzero(first)
    sizes = np.diff(starts, append=len(codes))
    changed = np.flatnonzero((sizes > 1) | joins[starts])
    known: dict[bytes, list[int]] = {}
    found = [_compose(codes[starts[i] : starts[i] + sizes[i]], known) for i in changed.tolist()]
    new_sizes = np.ones(len(starts), np.int64)
    new_sizes[changed] = [len(part) for part in found]
    at = np.cumsum(new_sizes) - new_sizes
    new = np.repeat(codes[starts], new_sizes)
    inside = np.arange(len(new)) - np.repeat(at, new_sizes)
    new_origin = np.repeat(origin[starts], new_sizes)
    new_origin += np.minimum(inside, np.repeat(sizes, new_sizes) - 1)
    if found:
        mask = np.repeat(np.isin(np.arange(len(starts)), changed), new_sizes)
        new[mask] = np.concatenate(found)
    return new, new_origin


def _compose(cluster: Codes, known: dict[bytes, list[int]]) -> list[int]:
    key = cluster.tobytes()
    if key not in known:
        text = key.decode("utf-32-le", "surrogatepass")
        known[key] = [*map(ord, unicodedata.normalize("NFC", text))]
    return known[key]


def _line_numbers(codes: Codes) -> NDArray[np.bool_]:
    """Mask of numbers that begin lines, with the mark that ends them."""
    found = np.zeros(len(codes), bool)
    digit = (codes >= ord("0")) & (codes <= ord("9"))
    starts = np.append(0, np.flatnonzero(codes == NEWLINE) + 1)
    starts = _skipped(codes == SPACE, starts[starts < len(codes)])
    starts = starts[starts < len(codes)]
    starts = starts[digit[starts]]
    stops = starts.copy()
    for _ in range(LONGEST_NUMBER):
        stops += digit[np.minimum(stops, len(codes) - 1)] & (stops < len(codes))
    padded = np.append(codes, [SPACE, SPACE])
    ends = np.isin(padded[stops], [ord(c) for c in NUMBER_ENDS])
    whole = padded[stops + ends] == SPACE
    edges = np.zeros(len(codes) + 1, np.int64)
    np.add.at(edges, starts[whole], 1)
    np.add.at(edges, stops[whole], -1)
    found = np.cumsum(edges[:-1]) > 0
    return found


def _skipped(mask: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first place from each of `starts` (ascending) on that is not in the mask."""
    others = np.append(np.flatnonzero(~mask), len(mask))
    return others[np.searchsorted(others, starts)]
