"""Recall of altered copies of text: ours, containment of n-grams, and MinHash of datasketch, rensa.

    python benchmarks/text_copy_detection.py --train train.txt --heldout heldout.txt

Passages of 300 characters of the training text, 20 of each alteration, are set among 100,000
characters of held-out text. Each detector scores windows of the samples against windows of the
training text; a passage is found if a window that it lies in scores higher than 99% of the windows
of held-out text do, and its best match is where it comes from. Install the peers with
`pip install datasketch rensa`; those that are not there are left out of the table.
"""

import argparse
import importlib.util
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _tables import show

from novum.core.vocabulary import code_points
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import TextReferences, fold, normalise
from novum.metrics.novelty.text.near_copies import STEP, search
from novum.metrics.novelty.text.planted_edits import ALTERATIONS, NAMES_REPLACED, WORD
from novum.metrics.novelty.text.readings import read_samples

COPIES, LENGTH, GRAM = 20, 300, 12
SIZE = 500  # characters of a window of the peers, half of it to the next
PERMUTATIONS = 256

Scores = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # start, stop, score, source
Detector = Callable[[str], Scores]


def letters(text: str) -> str:
    return fold(normalise(code_points(text))).codes.tobytes().decode("utf-32-le")


def grams(text: str) -> list[str]:
    text = letters(text)
    return [text[i : i + GRAM] for i in range(max(len(text) - GRAM + 1, 1))]


def windows(text: str) -> list[tuple[int, str]]:
    return [(i, text[i : i + SIZE]) for i in range(0, len(text), SIZE // 2)]


def ours(train: str, heldout: str) -> Detector:
    references = TextReferences(TextSource.of(train), TextSource.of(heldout))
    pool, source = references.pool, references.read_train.readings["folded"]

    def detect(text: str) -> Scores:
        read = read_samples([text], references.alphabets)
        folded = read.readings["folded"]
        found = search(pool, folded.tokens, read.ends["folded"]).passages
        start, stop = folded.place(found.start), folded.place(found.stop - 1) + 1
        return start, stop, found.score, source.place(found.place)

    return detect


def containment(train: str, heldout: str) -> Detector:
    """Share of a window's n-grams that stand in one window of training text."""
    places: dict[str, list[int]] = {}
    for number, (_, part) in enumerate(windows(train)):
        for gram in set(grams(part)):
            places.setdefault(gram, []).append(number)

    def score(part: str) -> tuple[float, int]:
        own = set(grams(part))
        counts: dict[int, int] = {}
        for gram in own:
            for number in places.get(gram, []):
                counts[number] = counts.get(number, 0) + 1
        best = max(counts, key=lambda n: counts[n], default=-1)
        return (counts[best] / len(own), best * SIZE // 2) if best >= 0 else (0.0, -1)

    return _by_windows(score)


def by_datasketch(train: str, heldout: str) -> Detector:
    from datasketch import MinHash, MinHashLSH

    def signature(part: str) -> "MinHash":
        found = MinHash(num_perm=PERMUTATIONS)
        found.update_batch([gram.encode() for gram in set(grams(part))])
        return found

    return _by_signatures(train, signature, MinHashLSH(threshold=0.1, num_perm=PERMUTATIONS))


def by_rensa(train: str, heldout: str) -> Detector:
    from rensa import RMinHash, RMinHashLSH

    def signature(part: str) -> "RMinHash":
        found = RMinHash(num_perm=PERMUTATIONS, seed=0)
        found.update(list(set(grams(part))))
        return found

    bands = PERMUTATIONS // 2
    index = RMinHashLSH(threshold=0.1, num_perm=PERMUTATIONS, num_bands=bands)
    return _by_signatures(train, signature, index)


def _by_signatures(train: str, signature: Callable[[str], Any], index: Any) -> Detector:
    """Windows of training text in an LSH index, scored by the Jaccard similarity of signatures."""
    known = {start: signature(part) for start, part in windows(train)}
    for start, found in known.items():
        index.insert(start, found)

    def score(part: str) -> tuple[float, int]:
        own = signature(part)
        near = index.query(own)
        best = max(near, key=lambda start: own.jaccard(known[start]), default=-1)
        return (float(own.jaccard(known[best])), int(best)) if best != -1 else (0.0, -1)

    return _by_windows(score)


def _by_windows(score: Callable[[str], tuple[float, int]]) -> Detector:
    def detect(text: str) -> Scores:
        parts = windows(text)
        found = [score(part) for _, part in parts]
        starts = np.array([start for start, _ in parts])
        scores, sources = (np.array(x) for x in zip(*found, strict=True))
        return starts, starts + SIZE, scores, sources

    return detect


DETECTORS = {
    "ours": ours,
    "containment": containment,
    "datasketch": by_datasketch,
    "rensa": by_rensa,
}


def recall(
    detect: Detector, threshold: float, train: str, heldout: str, name: str, seed: int
) -> tuple[float, float]:
    """Share of planted passages that are found, and seconds."""
    chance = np.random.default_rng(seed)
    words = list(dict.fromkeys(WORD.findall(train)))
    text, spans = "", []
    step = min(100_000, len(heldout)) // COPIES
    for i in range(COPIES):
        text += heldout[i * step : (i + 1) * step] + "\n"
        place = int(chance.integers(len(train) - LENGTH))
        altered = ALTERATIONS[name](train[place : place + LENGTH], chance, words)
        spans.append((len(text), len(text) + len(altered), place))
        text += altered + "\n"
    begin = time.perf_counter()
    start, stop, score, source = detect(text)
    seconds = time.perf_counter() - begin
    hits = 0
    for first, last, place in spans:
        inside = (start < last) & (stop > first) & (score > threshold)
        near = (source >= place - SIZE) & (source <= place + LENGTH)
        hits += bool((inside & near).any())
    return hits / COPIES, len(text) / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--alterations", nargs="+")
    parser.add_argument("--output")
    args = parser.parse_args()
    for path in (args.train, args.heldout):
        if not path.is_file():
            sys.exit(f"there is no file {path}")
    train, heldout = (path.read_text(encoding="utf-8") for path in (args.train, args.heldout))
    half = len(heldout) // 2  # one half sets the threshold, the other is around the copies
    is_code = len(re.findall(r"[{};]", train)) > 0.01 * len(train)
    names = args.alterations or [n for n in ALTERATIONS if is_code or n != NAMES_REPLACED]
    known = {n: d for n, d in DETECTORS.items() if n not in ("datasketch", "rensa")
             or importlib.util.find_spec(n)}  # fmt: skip
    rows = {name: {"alteration": name} for name in [*names, "MB/s", "index s"]}
    for label, build in known.items():
        begin = time.perf_counter()
        detect = build(train, heldout[:half])
        detect(heldout[:1000])
        rows["index s"][label] = time.perf_counter() - begin
        innocent = np.sort(detect(heldout[half:])[2])[::-1]
        count = max(half // (STEP if label == "ours" else SIZE // 2), 1)  # windows
        allowed = int(0.01 * count)
        threshold = float(innocent[allowed]) if len(innocent) > allowed else 0.0
        speeds = []
        for number, name in enumerate(names):
            rows[name][label], speed = recall(
                detect, threshold, train, heldout[:half], name, number
            )
            speeds.append(speed)
        rows["MB/s"][label] = float(np.median(speeds))
    show("Recall of altered passages at 1% false alarms", [*rows.values()], args.output)


if __name__ == "__main__":
    main()
