"""`explore.py extract`: what a generator of images, or of text, knows by heart."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novum.cli.explore_text import extract_texts
from novum.core.checkpoints import load_module
from novum.core.devices import default_device
from novum.core.errors import InputError, printable
from novum.core.files import prepare_output, read_blocks, write_text
from novum.core.protocols import BLOCK, ImageGenerator, require_new_images
from novum.core.security import arguments_of_run
from novum.datamodules.images import ImageDataModule
from novum.datamodules.resolve_source import open_references
from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.drawn_samples import DrawnSamples, labels_of
from novum.evaluation.image_extraction import (
    MOST_HELDOUT,
    MOST_ITEMS,
    NAMED,
    TIMES,
    ClassRow,
    Control,
    Item,
    Returned,
    blocks_of,
    find_returned,
    require_control,
    require_training,
    root_mean_square,
    rows_by_class,
    thumbnails,
)
from novum.evaluation.image_sets import reference_places
from novum.evaluation.request import Request
from novum.metrics.functional.intervals import clopper_pearson_interval
from novum.metrics.neighbours import knn
from novum.metrics.subsets import choose_rows
from novum.report.formatting import counted
from novum.report.pictures import captioned_table, encode, to_rgb

OF_IMAGES = ("num_samples", "label")
OF_TEXT = ("num_prompts", "prefixes", "suffix", "tries", "temperature")
LISTED = 10  # images that are printed; the file has all
PICTURED = 12


def extract(options: argparse.Namespace) -> None:
    """Ask a generator for what it knows by heart, by samples or by prompts."""
    path = Path(options.checkpoint)
    module: Any = load_module(path, ("sample", "sample_text"), "generator")
    module.to(default_device()).eval()
    writes = callable(getattr(module, "sample_text", None))
    if not writes:
        _check_images(module, options)
    for name in OF_IMAGES if writes else OF_TEXT:
        if name in options.given:
            raise InputError(
                f"{options.given[name]} is of generators of {'images' if writes else 'text'}: leave"
                f" it out for {type(module).__name__}"
            )
    prepare_output(options.output)
    if writes:
        extract_texts(module, options)
    else:
        extract_images(module, options)


def _check_images(module: Any, options: argparse.Namespace) -> None:
    require_new_images(module, "explore.py extract")
    classes = getattr(module, "num_classes", 0)
    if options.label is not None and not 0 <= options.label < classes:
        has = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise InputError(
            f"--class {options.label}: the generator of {options.checkpoint} has {has}"
        )


def extract_images(module: ImageGenerator, options: argparse.Namespace) -> None:
    """Find images that come back again and again, and training images that they are."""
    train, heldout = references(module, options)
    drawn = draw(module, options)
    chosen = choose_rows(torch.arange(len(heldout)), MOST_HELDOUT)
    near = thumbnails(blocks_of(heldout, chosen))
    samples = thumbnails(drawn)
    returned = find_returned(samples, near)
    labels = classes_of(module, options)
    items: list[Item] = []
    if len(returned.leaders):
        items = judged_items(returned, drawn, samples, (train, heldout), (near, chosen), labels)
    rows = rows_by_class(items, returned, labels)
    write(options, rows, items, len(returned.leaders))
    if items:
        picture(options, items, drawn, returned, train, heldout)
    print_table(options, rows, items, returned)


def references(
    module: ImageGenerator, options: argparse.Namespace
) -> tuple[ImageSource, ImageSource]:
    """Training and held-out images, of the run or as given, at the size of samples."""
    places = [x for x in (options.train, options.heldout) if x]
    known = None
    if not (options.train and options.heldout):
        known = arguments_of_run(Path(options.checkpoint), ImageDataModule, places)
    asked = Request(
        samples=options.checkpoint, train=options.train, heldout=options.heldout, ask_heldout=True
    )
    channels, size, _ = module.sample(1, seed=0).shape[1:]
    follow = options.follow_links or bool(known and known.get("follow_links"))
    train, heldout = open_references(
        *reference_places(asked, known), size, channels, known, follow_links=follow
    )
    require_training(train.images)  # before anything is drawn
    return train.images, require_control(heldout and heldout.images)


def draw(module: ImageGenerator, options: argparse.Namespace) -> DrawnSamples:
    """The samples, drawn as far as an earlier run has not."""
    digest = hashlib.sha256()
    for block in read_blocks(options.checkpoint):
        digest.update(block)
    made_by = {"checkpoint": digest.hexdigest(), "seed": options.seed, "class": options.label}
    drawn = DrawnSamples(options.output / "samples", options.num_samples, made_by)
    there = drawn.draw(module)
    if there:
        print(f"{there:,} of {options.num_samples:,} samples were there already")
    return drawn


def classes_of(module: ImageGenerator, options: argparse.Namespace) -> Tensor | None:
    """Class (n,) of each sample."""
    labels = labels_of(module, options.label)
    return None if labels is None else labels[torch.arange(options.num_samples) % BLOCK]


def judged_items(
    returned: Returned,
    drawn: DrawnSamples,
    samples: Tensor,
    references: tuple[ImageSource, ImageSource],
    near: tuple[Tensor, Tensor],
    labels: Tensor | None,
) -> list[Item]:
    """The images returned most often, each with the training image that is most like it.

    Args:
        near: Thumbnails of held-out images, and their rows.
    """
    train, heldout = references
    leaders = returned.leaders[:MOST_ITEMS]
    images = drawn[leaders]
    found = Control(train, heldout).judge(images)
    own = samples[leaders]
    theirs = thumbnails(blocks_of(train, found.train_rows))
    nearest = knn(own, near[0], 1).indices[:, 0]
    distances = zip(
        root_mean_square(own, theirs).tolist(),
        root_mean_square(own, near[0][nearest]).tolist(),
        strict=True,
    )
    every = zip(leaders.tolist(), returned.times.tolist(), distances, strict=False)
    return [
        Item(
            sample=row,
            times=times,
            share=clopper_pearson_interval(times, drawn.n),
            label=None if labels is None else int(labels[row]),
            train=train.ids[int(found.train_rows[i])],
            heldout=heldout.ids[int(near[1][nearest[i]])],
            train_distance=to_train,
            heldout_distance=to_heldout,
            transform=found.transforms[i],
            p=float(found.p[i]),
            q=float(found.q[i]),
            fact=found.facts[i],
        )
        for i, (row, times, (to_train, to_heldout)) in enumerate(every)
    ]


def write(
    options: argparse.Namespace, rows: list[ClassRow], items: list[Item], returned: int
) -> None:
    """Write all of it as JSON."""
    content = {
        "samples": options.num_samples,
        "seed": options.seed,
        "class": options.label,
        "returned": returned,
        "times": TIMES,
        "rows": [row._asdict() | {"rate": row.rate._asdict()} for row in rows],
        "items": [
            item._asdict() | {"share": item.share._asdict(), "extracted": item.extracted}
            for item in items
        ],
    }
    write_text(options.output / "extraction.json", json.dumps(content, indent=2) + "\n")


def picture(
    options: argparse.Namespace,
    items: list[Item],
    drawn: DrawnSamples,
    returned: Returned,
    train: ImageSource,
    heldout: ImageSource,
) -> None:
    """Images that came back, another return of each, and their nearest training and held-out ones.

    Extracted ones first.
    """
    order = sorted(range(len(items)), key=lambda i: not items[i].extracted)[:PICTURED]
    shown = [items[i] for i in order]
    others = [_another(returned, i) for i in order]
    columns = [
        drawn[torch.tensor([item.sample for item in shown])],
        drawn[torch.tensor(others)],
        _by_name(train, [item.train for item in shown]),
        _by_name(heldout, [item.heldout for item in shown]),
    ]
    captions = [
        [f"{item.times:,} times" for item in shown],
        ["" for _ in shown],
        [_caption(item) for item in shown],
        [f"{item.heldout_distance:.3g}" for item in shown],
    ]
    headings = ["came back", "once more", "training", "held-out"]
    sheet = captioned_table([to_rgb(x) for x in columns], headings, captions)
    (options.output / "extraction.png").write_bytes(encode(sheet))


def _another(returned: Returned, place: int) -> int:
    """Row of the last sample that is a return of that image."""
    return int((returned.leader_of == place).nonzero()[-1, 0])


def _by_name(images: ImageSource, names: list[int | str]) -> Tensor:
    places = {name: row for row, name in enumerate(images.ids)}
    return images[torch.tensor([places[name] for name in names])]


def _caption(item: Item) -> str:
    sure = item.fact.replace("_", " ") if item.fact else f"q {item.q:.2g}"
    return f"{item.train_distance:.3g}, {sure}"


def share(value: float) -> str:
    """Format a share of many samples, which may be small."""
    return f"{100 * value:.3g}%"


def print_table(
    options: argparse.Namespace, rows: list[ClassRow], items: list[Item], returned: Returned
) -> None:
    """Print what came back, what of it is training data, and where all of it is."""
    count, back = len(returned.leaders), int((returned.leader_of >= 0).sum())
    print(
        f"{options.num_samples:,} samples: {counted(count, 'image')} came back"
        f" {TIMES} times or more, as {back:,} of them; 95% intervals"
    )
    if count > len(items):
        print(f"judged: the {len(items):,} that came back most often")
    print(
        f"{'class':>7} {'samples':>9} {'came back':>10} {'extracted':>10} {'training images':>16}"
        "  of samples"
    )
    for row in rows:
        rate = f"{share(row.rate.value)} ({share(row.rate.low)} to {share(row.rate.high)})"
        name = "all" if row.label is None else str(row.label)
        counts = f"{row.returned:>10,} {row.extracted:>10,} {row.sources:>16,}"
        print(f"{name:>7} {row.samples:>9,} {counts}  {rate}")
    extracted = [item for item in items if item.extracted]
    for item in extracted[:LISTED]:
        sure = item.fact.replace("_", " ") if item.fact else f"q {item.q:.2g}"
        print(f"training image {printable(str(item.train))}: {item.times:,} times, {sure}")
    if items and not extracted:
        print(f"none of them is a training image, as far as q <= {NAMED} and facts say")
    print(options.output / "extraction.json")
    if items:
        print(options.output / "extraction.png")
