"""Byte pair encoding (Sennrich et al., 2016, arXiv:1508.07909), over bytes of UTF-8 as in GPT-2."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from novum.core.errors import InputError
from novum.core.vocabulary import MOST_TOKENS, Tokens, Vocabulary, begins_character

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES = 256  # the first tokens
MOST_MERGES = 100_000  # characters of the list of merges, as long as a text of a checkpoint may be


def _byte_names() -> list[str]:
    """The character that stands for each byte in merges.txt of GPT-2: visible, and no blank."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(BYTES, 2 * BYTES))
    return [chr(byte if byte in visible else next(others)) for byte in range(BYTES)]


BYTE_NAMES = _byte_names()


class BytePairs(Vocabulary):
    """Tokens of bytes, and of pairs of tokens that were merged, one after another.

    Args:
        merges: A line for each, of its two tokens, as in merges.txt of GPT-2.
    """

    unit = "tokens"

    def __init__(self, merges: str) -> None:
        self._ids = {name: byte for byte, name in enumerate(BYTE_NAMES)}
        self._pairs: list[tuple[str, str]] = []
        for number, line in enumerate(merges.splitlines(), 1):
            pair = line.split(" ")
            if len(pair) != 2 or not all(part in self._ids for part in pair):
                raise InputError(
                    f"line {number} of the merges is {line[:50]!r}: two tokens made before it are"
                    " needed, parted by a blank"
                )
            self._pairs.append((pair[0], pair[1]))
            self._ids.setdefault("".join(pair), len(self._ids))
        if len(self._ids) > MOST_TOKENS:
            raise InputError(f"{len(self._ids):,} tokens are more than {MOST_TOKENS:,}")
        super().__init__(None)
        self.merges = merges
        byte_of = {name: byte for byte, name in enumerate(BYTE_NAMES)}
        self._contents = [bytes(map(byte_of.__getitem__, name)) for name in self._ids]

    @classmethod
    def of_texts(cls, texts: Iterable[str], size: int) -> "BytePairs":
        """The merges of the most frequent pairs, until there are `size` tokens.

        Raises:
            InputError: If the size is none, or the list of merges would be too long to be kept.
        """
        from tokenizers import trainers  # loaded where it is needed

        if not BYTES < size <= MOST_TOKENS:
            raise InputError(
                f"bpe_tokens is {size}: it must be from {BYTES + 1} to {MOST_TOKENS:,}"
            )
        tokenizer = cls("")._tokenizer
        alphabet = BYTE_NAMES  # all bytes, whether they occur or not
        trainer: Any = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        )
        tokenizer.train_from_iterator(map(_plain, texts), trainer)
        merges = "\n".join(_merges_of(tokenizer))
        if len(merges) > MOST_MERGES:
            raise InputError(
                f"bpe_tokens is {size}: the list of merges has {len(merges):,} characters, and at"
                f" most {MOST_MERGES:,} are kept in a checkpoint: give fewer"
            )
        return cls(merges)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer, models, pre_tokenizers

        model: Any = models.BPE(vocab=self._ids, merges=self._pairs)
        tokenizer: Any = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer

    @property
    def kind(self) -> str:
        return "bpe"

    def __len__(self) -> int:
        return len(self._ids)

    def encode(self, text: str) -> Tokens:
        """Tokens (n,) uint16; what is no text, such as half of a surrogate pair, becomes `?`."""
        return np.array(self._tokenizer.encode(_plain(text)).ids, self.dtype)

    def decode(self, tokens: Tokens | Iterable[int]) -> str:
        """Text of tokens (n,); invalid UTF-8, such as a truncated character, becomes U+FFFD."""
        rows = np.asarray(tokens, np.int64).tolist()
        return b"".join([self._contents[row] for row in rows]).decode("utf-8", "replace")

    def sizes(self) -> NDArray[np.int64]:
        contents = [np.frombuffer(x, np.uint8) for x in self._contents]
        return np.array([[begins_character(x).sum(), len(x)] for x in contents], np.int64)


def _plain(text: str) -> str:
    """The text as Rust takes it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _merges_of(tokenizer: "Tokenizer") -> list[str]:
    import json

    found = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) for pair in found]


def new_vocabulary(alphabet: str | None, merges: str | None) -> Vocabulary:
    """Byte pairs if there are merges; else characters, or bytes if there is no alphabet."""
    return Vocabulary(alphabet) if merges is None else BytePairs(merges)


def vocabulary_of(checkpoint: Mapping[str, Any]) -> Vocabulary | None:
    """The vocabulary that a text model's checkpoint was trained with; None of any other's."""
    if "alphabet" not in checkpoint:
        return None
    return new_vocabulary(checkpoint["alphabet"], checkpoint.get("merges"))
