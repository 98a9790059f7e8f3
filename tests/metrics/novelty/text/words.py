"""Text of words, with the statistics of prose."""

import numpy as np

_RANDOM = np.random.default_rng(11)
_PARTS = "ba ce di fo gu la me ni or pu ra se ti vo an er in st th ou ch el".split()
WORDS = np.array(
    sorted({"".join(_RANDOM.choice(_PARTS, _RANDOM.integers(1, 4))) for _ in range(4000)})
)
_WEIGHTS = 1 / (3 + _RANDOM.permutation(len(WORDS)))
_FOLLOWERS = _RANDOM.integers(0, len(WORDS), (len(WORDS), 12))  # of each word, likely ones


def author(n: int, seed: int) -> str:
    """n characters: words by Zipf's law, some that like to follow each other, in lines."""
    random = np.random.default_rng(seed)
    count = n // 3
    free = random.choice(len(WORDS), count, p=_WEIGHTS / _WEIGHTS.sum())
    liked, which = random.random(count) < 0.3, random.integers(0, 12, count)
    ends = random.random(count)
    text, length, line, at = [], 0, 0, int(free[0])
    for i in range(count):
        at = int(_FOLLOWERS[at, which[i]]) if liked[i] else int(free[i])
        word = str(WORDS[at]) + ("." if ends[i] < 0.08 else "," if ends[i] < 0.15 else "")
        line += len(word) + 1
        text.append(word + ("\n" if line > 60 else " "))
        line = 0 if line > 60 else line
        length += len(text[-1])
        if length >= n:
            break
    return "".join(text)[:n]
