"""Recall of altered copies of text: ours, and containment of n-grams, MinHash, comparison of all.

    python benchmarks/text_copy_detection.py --train train.txt --heldout heldout.txt

Passages of 300 characters of the training text, 20 of each alteration, are set among 100,000
characters of held-out text. Each detector scores windows of the samples against windows of the
training text; a passage is found if a window that it lies in scores higher than 99% of the windows
of held-out text do, and its best match has the passage: it is the place that the passage is from,
or another one with half of its n-grams. Train and held-out text are files, or folders of files that
are a document each. Held-out documents that share a tenth of their n-grams with a training document
(another version, a page of the same manual) are left out: 1% of alarms at copies would be no false
ones. Passages most of which ten documents or held-out text have are not planted, since nobody can
tell whose they are. Both are counted.
`exhaustive` compares each window with every place of the training text, word by word, without an
index: its time grows with the training text.
Install the peers with `pip install datasketch rensa infini-gram`, and text-dedup, whose pins
exclude ours, with `pip install --no-deps text-dedup` and what it imports; those not there are left
out. infini-gram knows exact passages alone: a window has the score of its longest one, in letters.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _tables import show

from novum.core.vocabulary import code_points
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import TextReferences, fold, normalise
from novum.metrics.novelty.text.near_copies import BOILERPLATE, STEP, search
from novum.metrics.novelty.text.planted_edits import ALTERATIONS, NAMES_REPLACED, WORD
from novum.metrics.novelty.text.readings import read_samples
from novum.metrics.novelty.text.text_power import CODE_SHARE, CODE_SIGNS

COPIES, LENGTH, GRAM = 20, 300, 12
RELATED = 0.1  # of a held-out document's n-grams that one training document has
SHARED = 0.5  # of a passage's n-grams: with its source, or with so much else that none is it
PHRASE = 4  # words
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


def read(where: Path) -> list[str]:
    """Documents: files of a folder, or the only one."""
    if not where.exists():
        sys.exit(f"there is no file or folder {where}")
    files = [f for f in sorted(where.rglob("*")) if f.is_file()] if where.is_dir() else [where]
    return [file.read_text(encoding="utf-8") for file in files]


def unrelated(heldout: list[str], train: list[str]) -> list[str]:
    """Held-out documents that are no version of a training document."""
    places: dict[str, list[int]] = {}
    for number, text in enumerate(train):
        for gram in set(grams(text)):
            places.setdefault(gram, []).append(number)
    kept = []
    for text in heldout:
        own = [found for g in set(grams(text)) if len(found := places.get(g, [])) < BOILERPLATE]
        counts = Counter(number for found in own for number in found)
        if max(counts.values(), default=0) < RELATED * max(len(own), 1):
            kept.append(text)
    if not kept:
        sys.exit("every held-out document shares a tenth of its n-grams with a training document")
    return kept


def halves(documents: list[str]) -> tuple[list[str], list[str]]:
    """Every other document, or the two halves of the only one."""
    if len(documents) == 1:
        half = len(documents[0]) // 2
        return [documents[0][:half]], [documents[0][half:]]
    return documents[::2], documents[1::2]


def ours(train: list[str], heldout: list[str]) -> Detector:
    references = TextReferences(TextSource.of_documents(train), TextSource.of_documents(heldout))
    pool, source = references.pool, references.read_train.readings["folded"]

    def detect(text: str) -> Scores:
        read = read_samples([text], references.alphabets)
        folded = read.readings["folded"]
        found = search(pool, folded.tokens, read.ends["folded"]).passages
        start, stop = folded.place(found.start), folded.place(found.stop - 1) + 1
        return start, stop, found.score, source.place(found.place)

    return detect


def containment(train: list[str], heldout: list[str]) -> Detector:
    """Share of a window's n-grams that stand in one window of training text."""
    places: dict[str, list[int]] = {}
    for number, (_, part) in enumerate(windows("".join(train))):
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


def by_datasketch(train: list[str], heldout: list[str]) -> Detector:
    from datasketch import MinHash, MinHashLSH

    def signature(part: str) -> "MinHash":
        found = MinHash(num_perm=PERMUTATIONS)
        found.update_batch([gram.encode() for gram in set(grams(part))])
        return found

    return _by_signatures(train, signature, MinHashLSH(threshold=0.1, num_perm=PERMUTATIONS))


def by_rensa(train: list[str], heldout: list[str]) -> Detector:
    from rensa import RMinHash, RMinHashLSH

    def signature(part: str) -> "RMinHash":
        found = RMinHash(num_perm=PERMUTATIONS, seed=0)
        found.update(list(set(grams(part))))
        return found

    bands = PERMUTATIONS // 2
    index = RMinHashLSH(threshold=0.1, num_perm=PERMUTATIONS, num_bands=bands)
    return _by_signatures(train, signature, index)


def by_text_dedup(train: list[str], heldout: list[str]) -> Detector:
    """Bands of a MinHash of n-grams of three words that a window has in common with another."""
    from text_dedup.minhash import embed_func
    from text_dedup.utils import optimal_param, xxh3_32hash

    bands, rows = optimal_param(0.1, PERMUTATIONS)
    prime, chance = np.uint64((1 << 61) - 1), np.random.RandomState(42)
    shuffles = [chance.randint(low, prime, PERMUTATIONS, np.uint64) for low in (1, 0)]

    def signature(part: str) -> list[bytes]:
        return embed_func(
            part, 0, num_perm=PERMUTATIONS, ngram_size=3, min_length=0, permutations=shuffles,
            hashranges=[(i * rows, (i + 1) * rows) for i in range(bands)], hash_func=xxh3_32hash,
            dtype=np.uint64, max_hash=np.uint64((1 << 32) - 1), modulo_prime=prime,
        )["__signatures__"]  # fmt: skip

    places: dict[tuple[int, bytes], list[int]] = {}
    for start, part in windows("".join(train)):
        for key in enumerate(signature(part)):
            places.setdefault(key, []).append(start)

    def score(part: str) -> tuple[float, int]:
        own = Counter(at for key in enumerate(signature(part)) for at in places.get(key, []))
        best, count = max(own.items(), key=lambda item: item[1], default=(-1, 0))
        return float(count), best

    return _by_windows(score)


def by_infini_gram(train: list[str], heldout: list[str]) -> Detector:
    """The longest passage of a window that stands in training text, letter by letter."""
    from infini_gram.engine import InfiniGramEngine

    known = fold(normalise(code_points("".join(train))))
    text = known.codes.tobytes().decode("utf-32-le")
    folder = tempfile.mkdtemp()
    Path(folder, "tokenized.0").write_bytes(b"\xff" + text.encode())
    Path(folder, "offset.0").write_bytes(bytes(8))
    flags = ("--data_dir", folder, "--save_dir", folder, "--token_dtype", "u8", "--mem", "2")
    module = [sys.executable, "-m", "infini_gram.indexing", "--cpus", "1", "--ulimit", "1024"]
    subprocess.run([*module, *flags], check=True, capture_output=True)
    engine = InfiniGramEngine(folder, eos_token_id=0, vocab_size=255, token_dtype="u8")

    def score(part: str) -> tuple[float, int]:
        own, best = letters(part), ""
        for start in range(len(own)):
            while start + len(best) < len(own):
                longer = own[start : start + len(best) + 1]
                if not engine.find([*longer.encode()])["cnt"]:
                    break
                best = longer
        return float(len(best)), int(known.origin[text.find(best)])

    return _by_windows(score)


def _by_signatures(train: list[str], signature: Callable[[str], Any], index: Any) -> Detector:
    """Windows of training text in an LSH index, scored by the Jaccard similarity of signatures."""
    known = {start: signature(part) for start, part in windows("".join(train))}
    for start, found in known.items():
        index.insert(start, found)

    def score(part: str) -> tuple[float, int]:
        own = signature(part)
        near = index.query(own)
        best = max(near, key=lambda start: own.jaccard(known[start]), default=-1)
        return (float(own.jaccard(known[best])), int(best)) if best != -1 else (0.0, -1)

    return _by_windows(score)


def exhaustive(train: list[str], heldout: list[str]) -> Detector:
    """Bits of the words that a window has in common with a place, each as far in as there.

    Words of phrases that ten documents or held-out text have count for nothing.
    """
    found = list(WORD.finditer("".join(train)))
    numbers: dict[str, int] = {}
    own = np.array([numbers.setdefault(m[0].lower(), len(numbers)) for m in found])
    order, counts = np.argsort(own, kind="stable"), np.bincount(own)
    edges, bits = np.append(0, np.cumsum(counts)), -np.log2(counts / len(own))
    documents = Counter(phrase for text in train for phrase in set(_phrases(_words(text))))
    common = {phrase for phrase, count in documents.items() if count >= BOILERPLATE}
    common = common.union(*(_phrases(_words(text)) for text in heldout))

    def score(part: str) -> tuple[float, int]:
        words = _words(part)
        size = len(words)
        total = np.zeros(len(own) + size)  # by where the window would begin, plus its size
        free = np.ones(size, bool)
        for i, phrase in enumerate(_phrases(words)):
            free[i : i + PHRASE] &= phrase not in common
        for i in np.flatnonzero(free).tolist():
            number = numbers.get(words[i])
            if number is not None:
                total[order[edges[number] : edges[number + 1]] - i + size] += bits[number]
        best = int(total.argmax())
        return float(total[best]), found[min(max(best - size, 0), len(found) - 1)].start()

    return _by_windows(score)


def _words(text: str) -> list[str]:
    return [m[0].lower() for m in WORD.finditer(text)]


def _phrases(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + PHRASE]) for i in range(len(words) - PHRASE + 1)]


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
    "text-dedup": by_text_dedup,
    "infini-gram": by_infini_gram,
    "exhaustive": exhaustive,
}
PEERS = {
    "datasketch": "datasketch",
    "rensa": "rensa",
    "text-dedup": "text_dedup",
    "infini-gram": "infini_gram",
}


class Planter:
    """Draws passages of training text that are its own."""

    def __init__(self, train: list[str], heldout: list[str]) -> None:
        self.train, self.drawn, self.left_out = "".join(train), 0, 0
        self.words = list(dict.fromkeys(WORD.findall(self.train)))
        documents = Counter(gram for text in train for gram in set(grams(text)))
        shared = {gram for gram, count in documents.items() if count >= BOILERPLATE}
        self._shared = shared.union(*map(grams, heldout))

    def draw(self, chance: np.random.Generator) -> int:
        """Place of a passage."""
        while True:
            self.drawn += 1
            place = int(chance.integers(len(self.train) - LENGTH))
            own = set(grams(self.train[place : place + LENGTH]))
            if len(own & self._shared) < SHARED * len(own):
                return place
            self.left_out += 1

    def has(self, source: int, place: int) -> bool:
        """Tell whether the training text around a source has most of the passage at a place."""
        near = self.train[max(source - LENGTH, 0) : source + SIZE + LENGTH]
        own = set(grams(self.train[place : place + LENGTH]))
        return len(own & set(grams(near))) >= SHARED * len(own)


def recall(
    detect: Detector, threshold: float, planter: Planter, heldout: str, name: str, seed: int
) -> tuple[float, float]:
    """Share of planted passages that are found, and MB/s."""
    chance = np.random.default_rng(seed)
    text, spans = "", []
    step = min(100_000, len(heldout)) // COPIES
    for i in range(COPIES):
        text += heldout[i * step : (i + 1) * step] + "\n"
        place = planter.draw(chance)
        passage = planter.train[place : place + LENGTH]
        altered = ALTERATIONS[name](passage, chance, planter.words)
        spans.append((len(text), len(text) + len(altered), place))
        text += altered + "\n"
    begin = time.perf_counter()
    start, stop, score, source = detect(text)
    seconds = time.perf_counter() - begin
    hits = 0
    for first, last, place in spans:
        inside = (start < last) & (stop > first) & (score > threshold)
        hits += any(planter.has(int(at), place) for at in source[inside].tolist())
    return hits / COPIES, len(text) / seconds / 1e6


def is_code(text: str) -> bool:
    return sum(map(text.count, CODE_SIGNS)) >= CODE_SHARE * len(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=[*DETECTORS][:-1])
    parser.add_argument("--alterations", nargs="+")
    parser.add_argument("--output")
    args = parser.parse_args()
    train, heldout = read(args.train), read(args.heldout)
    kept = unrelated(heldout, train)
    pool, innocent = halves(kept)  # the second sets the threshold
    around = "".join(pool)
    size = sum(map(len, innocent))
    planter = Planter(train, pool)
    code = is_code(planter.train)
    names = args.alterations or [n for n in ALTERATIONS if code or n != NAMES_REPLACED]
    known = [n for n in args.detectors if n not in PEERS or importlib.util.find_spec(PEERS[n])]
    rows = {name: {"alteration": name} for name in [*names, "threshold", "MB/s", "index s"]}
    for label in known:
        begin = time.perf_counter()
        detect = DETECTORS[label](train, pool)
        detect(around[:1000])
        rows["index s"][label] = time.perf_counter() - begin
        scores = np.sort(detect("".join(innocent))[2])[::-1]
        allowed = int(0.01 * max(size // (STEP if label == "ours" else SIZE // 2), 1))  # windows
        threshold = float(scores[allowed]) if len(scores) > allowed else 0.0
        rows["threshold"][label] = threshold
        speeds = []
        for number, name in enumerate(names):
            found = recall(detect, threshold, planter, around, name, number)
            rows[name][label], speed = found
            speeds.append(speed)
        rows["MB/s"][label] = float(np.median(speeds))
    title = (
        f"Recall of altered passages at 1% false alarms; {planter.left_out / planter.drawn:.1%} of"
        f" passages and {len(heldout) - len(kept)} of {len(heldout)} held-out documents are shared"
    )
    show(title, [*rows.values()], args.output)


if __name__ == "__main__":
    main()
