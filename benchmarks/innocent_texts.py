"""Alarms about fresh text, which copies nothing: quotations and near-duplicates in real text.

    python benchmarks/innocent_texts.py FILE_OR_FOLDER [...] [--splits 8] [--characters 1100000]

A text of one file is cut into blocks of 5,000 characters, of a folder into its files; they are cut
at random into training (70%), held-out and fresh ones, and the fresh ones are judged as samples of
5,000 characters each, and as samples of twelve times as much. With --heldout none, facts alone.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _tables import show
from tqdm import tqdm

from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.text_verdict import HARDLY_CHANCE
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.metrics.novelty.text.chance import EXCESS_ERROR

BLOCK, TOGETHER, MOST = 5000, 12, 60  # characters; samples that are also judged as one; a split's
SHARES = 0.7, 0.85  # where training and held-out text end
LONGEST = 60_000  # characters of a file that are read

Sample = list[str]


def read(where: Path) -> list[str]:
    """Files of a folder, or the only one."""
    if where.is_file():
        return [where.read_text()]
    return [
        text[:LONGEST]
        for path in sorted(where.rglob("*"))
        if path.is_file() and len(text := path.read_text(errors="replace")) > BLOCK // 25
    ]


def source(parts: list[str], single: bool) -> TextSource:
    return TextSource.of("".join(parts)) if single else TextSource.of_documents(parts)


def drawn(texts: list[str], size: int, chance: np.random.Generator) -> list[str]:
    """About so many characters of them, in blocks or documents."""
    if len(texts) == 1:
        text = texts[0]
        start = int(chance.integers(max(1, len(text) - size)))
        return [text[i : i + BLOCK] for i in range(start, min(start + size, len(text)), BLOCK)]
    order = chance.permutation(len(texts)).tolist()
    ends = itertools.accumulate(len(texts[i]) for i in order)
    return [texts[i] for i, end in zip(order, ends, strict=True) if end <= size]


def samples(parts: list[str]) -> Iterator[Sample]:
    """Documents joined to samples of a block or more."""
    sample: Sample = []
    for part in parts:
        sample.append(part)
        if sum(map(len, sample)) >= BLOCK:
            yield sample
            sample = []


def alarms(references: TextReferences, sample: Sample) -> Iterator[str]:
    """Reasons that would convict it."""
    judged = judge_text(references, sample)
    folded = judged.novelty["folded"]
    if folded["facts_found"]:
        yield "fact"
    p = judged.judgement.excess_p
    if p is None:
        return
    if p <= EXCESS_ERROR:
        yield "excess"
    if folded["drawn_to_training"] > 0 and folded["permutation_p"] <= HARDLY_CHANCE:
        yield "drawn"


def judge_split(texts: list[str], size: int, seed: int, heldout: bool) -> Counter[tuple[str, str]]:
    chance = np.random.default_rng(seed)
    parts = drawn(texts, size, chance)
    where = np.searchsorted(SHARES, chance.random(len(parts)))
    train, held, fresh = ([parts[i] for i in np.flatnonzero(where == k)] for k in range(3))
    single = len(texts) == 1
    references = TextReferences(source(train, single), source(held, single) if heldout else None)
    fresh = list(itertools.islice(samples(fresh), MOST))
    joined = [
        list(itertools.chain(*fresh[i : i + TOGETHER]))
        for i in range(0, len(fresh) - TOGETHER + 1, TOGETHER)
    ]
    found: Counter[tuple[str, str]] = Counter()
    for kind, group in (("one", fresh), ("twelve", joined)):
        for sample in group:
            reasons = list(alarms(references, sample))
            found.update((kind, reason) for reason in reasons)
            found[kind, "convicted"] += bool(reasons)
            found[kind, "samples"] += 1
    return found


COLUMNS = "samples", "convicted", "fact", "excess", "drawn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--characters", type=int, default=1_100_000)
    parser.add_argument("--heldout", choices=["none"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output")
    options = parser.parse_args()
    rows = []
    for where in options.texts:
        texts, found = read(where), Counter[tuple[str, str]]()
        for split in tqdm(range(options.splits), desc=where.name, leave=False):
            size, seed = options.characters, options.seed + split
            found += judge_split(texts, size, seed, options.heldout is None)
        for kind in ("one", "twelve"):
            rows.append({"text": where.name, "of": kind, **{c: found[kind, c] for c in COLUMNS}})
            print(rows[-1], flush=True)
    show("alarms about fresh text", rows, options.output)


if __name__ == "__main__":
    main()
