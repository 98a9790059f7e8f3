"""Between text and tokens: one character, or one byte, is one token."""

import codecs
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from novum.core.errors import BadText, InputError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # token 0 of every character vocabulary
MOST_TOKENS = 2**16
CODE_POINTS = 0x110000

Tokens = NDArray[np.uint8 | np.uint16]  # (n,)


def code_points(text: str) -> NDArray[np.uint32]:
    """Unicode code points (n,) of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Vocabulary:
    """Tokens of characters, the first of which replaces unknown ones; or of bytes.

    Args:
        alphabet: The characters in the order of their tokens, as `Vocabulary.of` makes it; None for
            a vocabulary of bytes (of UTF-8).
    """

    merges: str | None = None  # of byte pairs alone
    unit = "characters"  # that tokens are counted as

    def __init__(self, alphabet: str | None = None) -> None:
        if alphabet is not None and not alphabet.startswith(UNKNOWN):
            alphabet = UNKNOWN + alphabet.replace(UNKNOWN, "")
        if alphabet is not None and len(set(alphabet)) < len(alphabet):
            raise InputError("alphabet holds a character twice: each may have but one token")
        self.alphabet = alphabet
        self.dtype = np.dtype(np.uint8 if len(self) <= 256 else np.uint16)
        if alphabet is not None:
            self._codes = code_points(alphabet)
            self._tokens = np.zeros(CODE_POINTS, self.dtype)
            self._tokens[self._codes] = np.arange(len(alphabet))

    @classmethod
    def of(cls, counts: NDArray[np.integer]) -> "Vocabulary":
        """All characters that occur, by code point; the most frequent, if they are too many.

        Args:
            counts: How often each code point occurs (0x110000,).
        """
        found = np.flatnonzero(counts)
        found = found[found != ord(UNKNOWN)]
        if len(found) >= MOST_TOKENS:
            often = np.argsort(-counts[found], kind="stable")[: MOST_TOKENS - 1]
            found = np.sort(found[often])
        codes = found.astype(np.uint32)
        return cls(UNKNOWN + codes.tobytes().decode("utf-32-le", "surrogatepass"))

    @classmethod
    def of_text(cls, text: str) -> "Vocabulary":
        return cls.of(np.bincount(code_points(text), minlength=CODE_POINTS))

    @property
    def is_bytes(self) -> bool:
        return self.kind == "bytes"

    @property
    def kind(self) -> str:
        """As data.vocabulary names it."""
        return "bytes" if self.alphabet is None else "characters"

    def __len__(self) -> int:
        return 256 if self.alphabet is None else len(self.alphabet)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return False
        return (self.alphabet, self.merges) == (other.alphabet, other.merges)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def extends(self, other: "Vocabulary") -> bool:
        """Return True if each token of the other one means the same in this one."""
        if self.alphabet is None or other.alphabet is None:
            return self == other
        return self.alphabet.startswith(other.alphabet)

    def encode(self, text: str) -> Tokens:
        """Tokens (n,), uint8 where 256 are enough, else uint16; unknown characters become 0."""
        if self.alphabet is None:
            return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
        return self._tokens[code_points(text)]

    def decode(self, tokens: Tokens | Iterable[int]) -> str:
        """Text of tokens (n,); invalid UTF-8, such as a truncated character, becomes U+FFFD."""
        if self.alphabet is None:
            return np.asarray(tokens, np.uint8).tobytes().decode("utf-8", "replace")
        codes = self._codes[np.asarray(tokens, np.int64)]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def code_points(self, tokens: Tokens) -> NDArray[np.uint32]:
        """Unicode code points of tokens (n,), of a vocabulary of characters."""
        return self._codes[tokens]

    def unknown(self, text: str) -> str:
        """The characters of `text` that have no token, each once, in order."""
        if self.alphabet is None:
            return ""
        alphabet = self.alphabet
        return "".join(dict.fromkeys(c for c in text if c not in alphabet))

    def sizes(self) -> NDArray[np.int64]:
        """Characters, and bytes of UTF-8, of each token (v, 2).

        A character that several tokens make is counted with the one that begins it.
        """
        if self.alphabet is None:
            return np.stack([begins_character(np.arange(256)), np.ones(256, int)], 1)
        sizes = [len(c.encode("utf-8", "surrogatepass")) for c in self.alphabet]
        return np.stack([np.ones(len(sizes), int), sizes], 1)


def begins_character(byte: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask of bytes that begin a character: all but the continuation bytes of UTF-8."""
    return (byte & 0xC0) != 0x80


BYTE_ORDER_MARK = "\ufeff"
MEND = (
    "name its encoding (encoding: latin-1, or utf-8,latin-1 to try both; evaluate.py: --encoding)"
    " or leave such texts out (on_bad_text: skip; evaluate.py: --on-bad-text skip)"
)


def encodings(names: str) -> list[str]:
    """The encodings that are named, parted by commas.

    Raises:
        InputError: If one of them is none of text.
    """
    found = [name.strip() for name in names.split(",")]
    for name in found:
        try:
            if not codecs.lookup(name)._is_text_encoding:  # such as zlib and base64
                raise LookupError(name)
            codecs.getincrementaldecoder(name)("strict")
        except (LookupError, ValueError):
            raise InputError(f"unknown encoding {name!r}: utf-8 and latin-1 are two") from None
    return found


class Decoder:
    """Decodes blocks of a file without its byte-order mark; knows the offset of a bad byte."""

    def __init__(self, encoding: str, where: str) -> None:
        (self.encoding,) = encodings(encoding)
        self._decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        self.where = where
        self._bytes = 0  # given so far
        self._begun = False

    def __call__(self, block: bytes, final: bool = False) -> str:
        pending = len(self._decoder.getstate()[0])
        reason = f"not {self.encoding} text"
        try:
            text = self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            at = self._bytes - pending + error.start
            byte = f"byte {error.object[error.start]:#04x} at offset {at:,}"
            raise BadText(f"{self.where} is {reason}: {byte}; {MEND}", reason) from None
        except UnicodeError as error:  # of a codec that knows no place
            raise BadText(f"{self.where} is {reason}: {error}; {MEND}", reason) from None
        self._bytes += len(block)
        if "\0" in text:
            message = (
                f"{self.where} is a binary file (a NUL is within its first {self._bytes:,} bytes)"
            )
            raise BadText(f"{message}; {MEND}", "binary")
        if text and not self._begun:
            self._begun, text = True, text.removeprefix(BYTE_ORDER_MARK)
        return text
