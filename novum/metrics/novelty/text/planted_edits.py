"""Alterations of passages, which a detector of copied text should see through."""

import re
from collections.abc import Callable, Sequence

import numpy as np

TYPO_EVERY, DROPPED_EVERY, LINE, PIECE = 30, 40, 45, 45  # characters
WORDS_RENAMED = 0.6  # share of the identifiers of code
NAMES_REPLACED = "with names replaced"
LOOKALIKE = "with look-alike letters of another script"

Alteration = Callable[[str, np.random.Generator, Sequence[str]], str]  # (passage, chance, words)


def verbatim(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    return text


def capitals(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    return text.upper()


def wrapped(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Lines broken in other places."""
    return _lines(text, LINE, "\n")


def spaces_removed(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    return "".join(text.split())


def punctuation_removed(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    return "".join(c for c in text if c.isalnum() or c.isspace())


def hyphenated(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Lines broken within words, with hyphens."""
    flat = " ".join(text.split())
    parts = [flat[i : i + LINE] for i in range(0, len(flat), LINE)]
    joined = parts[0]
    for part in parts[1:]:
        inside = joined[-1:].isalpha() and part[:1].isalpha()
        joined += ("-\n" if inside else "\n") + part
    return joined


def numbered_lines(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    first = int(chance.integers(1, 500))
    lines = text.split("\n")
    return "\n".join(f"{first + i:4d}  {line}" for i, line in enumerate(lines))


def lines_shuffled(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    lines = text.split("\n")
    return "\n".join(lines[i] for i in chance.permutation(len(lines)))


def pieces(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Pieces of 45 characters in another order."""
    parts = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    return " ".join(parts[i] for i in chance.permutation(len(parts)))


def typos(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Another letter in every 30 characters."""
    letters = sorted({c for c in text if c.isalpha()}) or ["x"]
    own = list(text)
    for i in range(int(chance.integers(TYPO_EVERY)), len(own), TYPO_EVERY):
        others = [c for c in letters if c != own[i]] or ["?"]
        own[i] = others[int(chance.integers(len(others)))]
    return "".join(own)


def characters_dropped(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """One of every 40 characters."""
    first = int(chance.integers(DROPPED_EVERY))
    return "".join(c for i, c in enumerate(text) if i % DROPPED_EVERY != first)


def words_replaced(every: int) -> Alteration:
    """Replace each so many-th word by another one of the corpus."""

    def replaced(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
        first, count = int(chance.integers(every)), 0

        def other(found: re.Match[str]) -> str:
            nonlocal count
            count += 1
            return words[int(chance.integers(len(words)))] if count % every == first else found[0]

        return re.sub(WORD, other, text)

    return replaced


def identifiers_renamed(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Most words that look like names, each the same wherever it stands."""
    names = {name for name in re.findall(r"\b[A-Za-z_]\w{2,}\b", text) if name not in KEYWORDS}
    new = {
        name: words[int(chance.integers(len(words)))]
        for name in sorted(names)
        if chance.random() < WORDS_RENAMED
    }
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda m: new.get(m[0], m[0]), text)


KEYWORDS = frozenset(
    "and as assert auto break case char class const continue def default define del do double elif"
    " else endif enum except extern float for from global goto if ifdef ifndef import in include"
    " inline int is lambda long not or pass raise register return short signed sizeof static struct"
    " switch try typedef union unsigned void volatile while with yield None True False self".split()
)
# a run of letters, or of a script written without spaces two signs, as most Chinese words have
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{1,2}|(?:(?![\u3040-\u9fff])\w)+")

# letters of other scripts that look like Latin ones
LOOKALIKES = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")


def lookalikes(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Latin letters by Cyrillic ones that look the same."""
    return text.translate(LOOKALIKES)


ALTERATIONS: dict[str, Alteration] = {
    "verbatim": verbatim,
    "in capitals": capitals,
    "wrapped in other places": wrapped,
    "without spaces": spaces_removed,
    "without punctuation": punctuation_removed,
    "hyphenated": hyphenated,
    "with numbered lines": numbered_lines,
    "with lines in another order": lines_shuffled,
    "in pieces of 45 characters": pieces,
    "with a typo each 30 characters": typos,
    "with a character dropped each 40": characters_dropped,
    "with every 10th word replaced": words_replaced(10),
    "with every 6th word replaced": words_replaced(6),
    "with every 4th word replaced": words_replaced(4),
    LOOKALIKE: lookalikes,
    NAMES_REPLACED: identifiers_renamed,
}

SENTENCE = re.compile(r"(?<=[.!?;。！？；])\s*")
IN_A_CHAIN = 3


def sentences_shuffled(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    parts = [part for part in SENTENCE.split(text) if part]
    return " ".join(parts[i] for i in chance.permutation(len(parts)))


def chain(text: str, chance: np.random.Generator, words: Sequence[str]) -> str:
    """Three of ALTERATIONS in turn, drawn anew for each passage."""
    every = [name for name in ALTERATIONS if name not in ("verbatim", NAMES_REPLACED)]
    for i in chance.permutation(len(every))[:IN_A_CHAIN]:
        text = ALTERATIONS[every[i]](text, chance, words)
    return text


UNTUNED: dict[str, Alteration] = {  # that the search was not made for
    "altered in three of these ways in turn": chain,
    "with sentences in another order": sentences_shuffled,
}


def _lines(text: str, width: int, end: str) -> str:
    """Words in lines of about that width."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return end.join([*lines, line])
