"""Extraction of text: the part of `explore.py extract` for text models."""

import argparse
import json
from pathlib import Path
from typing import Any

from novum.core.bars import progress
from novum.core.errors import printable
from novum.core.files import write_text
from novum.core.security import arguments_of_run
from novum.datamodules.text import TextDataModule
from novum.evaluation.request import Request
from novum.evaluation.text_extraction import (
    Prompt,
    Row,
    adjusted,
    compared,
    draw_prompts,
    recited,
)
from novum.evaluation.text_sets import Places, open_references

SHOWN = 5  # passages that are printed; the file has all


def extract_texts(model: Any, options: argparse.Namespace) -> None:
    """Prompts a model with text that it was trained on, and with held-out text as the control."""
    path = Path(options.checkpoint)
    known = None if options.train else arguments_of_run(path, TextDataModule)
    places = Places(follow_links=options.follow_links).of_vocabulary(model.vocabulary)
    asked = Request(
        samples=options.checkpoint,
        train=options.train,
        heldout=options.heldout,
        kind="text",
        seed=options.seed,
        follow_links=options.follow_links,
        ask_heldout=True,
    )
    train, heldout, _ = open_references(asked, known, places)
    assert heldout is not None  # `none` is refused by the parser
    sides = {"train": train.as_characters(), "heldout": heldout.as_characters()}
    longest = max(options.prefixes)
    prompts = {
        name: draw_prompts(
            side, options.num_prompts, longest, options.suffix, options.seed, model.vocabulary
        )
        for name, side in sides.items()
    }
    rows, extracted = [], []
    total = len(options.prefixes) * 2 * sum(map(len, prompts.values()))
    with progress(total=total, doing="prompts", unit=" prompts", delay=1, leave=False) as bar:
        for prefix in options.prefixes:
            for tries in (0, options.tries):
                found = {}
                for name, side in prompts.items():
                    how = prefix, tries, options.temperature, options.seed
                    found[name] = []
                    for hit in recited(model, side, *how):
                        found[name].append(hit)
                        bar.update()
                rows.append(compared(prefix, tries, found["train"], found["heldout"]))
                hits = zip(prompts["train"], found["train"], strict=True)
                extracted += [record(x, rows[-1], sides["train"]) for x, hit in hits if hit]
    show(adjusted(rows), extracted, {name: len(asked) for name, asked in prompts.items()}, options)


def record(prompt: Prompt, row: Row, text: Any) -> dict[str, Any]:
    """A passage of training text that was extracted, and its place."""
    file, offset = text.place(prompt.offset)
    return {"prefix": row.prefix, "tries": row.tries, "file": file, "offset": offset,
            "text": prompt.suffix}  # fmt: skip


def show(
    rows: list[Row], extracted: list[dict[str, Any]], counts: dict[str, int], options: Any
) -> None:
    """Print the table and some passages, and write all of it."""
    print(
        f"{options.suffix} characters word for word, of {counts['train']} prompts of training text"
        f" and {counts['heldout']} of held-out text; 95% intervals; q: p adjusted for the"
        f" {len(rows)} rows"
    )
    print(f"{'prefix':>6}  {'by':<12} {'training':<24} {'held-out':<24} q")
    for row in rows:
        by = f"{row.tries} samples" if row.tries else "likeliest"
        sides = [f"{x.value:.1%} ({x.low:.1%} to {x.high:.1%})" for x in (row.train, row.heldout)]
        print(f"{row.prefix:>6}  {by:<12} {sides[0]:<24} {sides[1]:<24} {row.q:.2g}")
    for found in extracted[:SHOWN]:
        print(f"{printable(found['file'])} at {found['offset']:,}: {printable(found['text'])!r}")
    path = options.output / "extraction.json"
    content = {
        "suffix": options.suffix,
        "prompts": counts,
        "temperature": options.temperature,
        "seed": options.seed,
        "rows": [
            row._asdict() | {"train": row.train._asdict(), "heldout": row.heldout._asdict()}
            for row in rows
        ],
        "extracted": extracted,
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
    print(path)
