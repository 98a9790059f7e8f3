"""Memorisation seen from inside: a model's losses of training items beside those of others.

The same items for every checkpoint of a run, so that losses can be compared from one to the next.
"""

import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core import distributed
from novum.core.checkpoints import load_module
from novum.core.errors import InputError, NotComputable
from novum.core.protocols import ItemScorer
from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.generators import evaluating
from novum.evaluation.request import Request
from novum.metrics.features.extraction import as_uint8
from novum.metrics.novelty.membership import (
    FEWEST,
    Losses,
    membership_test,
    shift_test,
    standing_out,
)
from novum.metrics.novelty.text.shift_test import exchangeability_test
from novum.report.known_items import NOTHING, Known
from novum.report.model import Estimate, KnownItem, Membership, Report, Space
from novum.report.pictures import to_rgb

NUM_ITEMS = 1000  # of each side, at most
LENGTH = 256  # of a passage, in the tokens of the text: characters, unless a run has others
MOST_BYTES = 2**28  # of the images of a side
BATCH = 64  # items that are scored at once
NAMED = 0.1  # q-value up to which an item is listed
SHOWN = 12  # of them are shown; report.json has all
FEW_DOCUMENTS = 20  # below which passages are of all parts of a text
KNOWN = 0.01  # p-value up to which a model is said to know its training items
SHIFT = 0.01  # p-value of the control up to which nothing is said of the losses
SPACE = "losses"  # under which the figures stand among those of feature spaces
SIDES = ("train", "heldout")


class Items(NamedTuple):
    """Items of one side, and how many bytes each takes when compressed."""

    data: Tensor  # uint8 images (n, c, h, w), or tokens (n, t)
    labels: Tensor | None
    items: list[KnownItem]  # what they are called; without figures
    sizes: Losses


class ItemSets(NamedTuple):
    """Items of both sides that are alike but for the training."""

    train: Items
    heldout: Items
    in_order: bool = False  # passages of a text, evenly spaced
    shift_p: float | None = None  # of "held-out text is of the same kind"
    passages: Sequence[str] | None = None  # of training text, as they are

    def key(self) -> str:
        """Digest of the items: losses of other items are no reference."""
        digest = hashlib.sha256()
        for side in (self.train, self.heldout):
            digest.update(side.data.numpy().tobytes())
        return digest.hexdigest()


class SideLosses(NamedTuple):
    """Losses of the items of either side."""

    train: Losses
    heldout: Losses


# -- items ---------------------------------------------------------------------------------------


def image_items(
    sources: Mapping[str, ImageSource], group: Tensor | None, n: int = NUM_ITEMS, seed: int = 0
) -> ItemSets:
    """Images at random of each side: none twice, and one of each group that is held out whole."""
    sizes = [len(sources[side]) for side in SIDES]
    groups = [None, None] if group is None else list(group.split(sizes))
    train, heldout = (
        _images(sources[side], own, n, [seed, number])
        for number, (side, own) in enumerate(zip(SIDES, groups, strict=True))
    )
    return ItemSets(train, heldout)


def _images(source: ImageSource, group: Tensor | None, n: int, seed: Sequence[int]) -> Items:
    order = np.random.default_rng(seed).permutation(len(source))
    n = min(n, max(FEWEST, MOST_BYTES // math.prod(source.shape)))
    if group is not None:
        _, first = np.unique(group.numpy()[order], return_index=True)
        order = order[np.sort(first)]
    rows = torch.from_numpy(order[:n])
    images = as_uint8(source[rows]).cpu()
    contents = [image.numpy().tobytes() for image in images]
    first = {content: i for i, content in reversed(list(enumerate(contents)))}
    distinct = torch.tensor(sorted(first.values()), dtype=torch.int64)
    if len(distinct) < FEWEST:
        raise NotComputable(f"{len(distinct)} different images are too few: give {FEWEST} or more")
    rows, images = rows[distinct], images[distinct]
    labels = None if source.labels is None else source.labels[rows]
    called = [KnownItem(source.ids[row]) for row in rows.tolist()]
    return Items(images, labels, called, compressed_sizes([contents[i] for i in distinct.tolist()]))


def text_items(
    sources: Mapping[str, TextSource], vocabulary: Vocabulary, n: int = NUM_ITEMS, seed: int = 0
) -> ItemSets:
    """Passages of each side: one of each document, or evenly spaced ones of few long documents."""
    texts = [sources[side] for side in SIDES]
    documents = [
        [(start, stop) for _, start, stop in text.documents() if stop - start >= LENGTH]
        for text in texts
    ]
    in_order = min(map(len, documents)) < FEW_DOCUMENTS
    if in_order:
        step = max(LENGTH, sum(map(len, texts)) // (2 * n))
        starts = [np.arange(0, len(text) - LENGTH + 1, step) for text in texts]
    else:
        starts = [_one_each(found, n, [seed, i]) for i, found in enumerate(documents)]
    rows = [_rows(*side, vocabulary) for side in zip(texts, starts, strict=True)]
    length = min((len(row) for side in rows for row in side), default=0)
    if length < 2:
        raise NotComputable(
            f"one of the sides has no passage of {LENGTH} {texts[0].vocabulary.unit}"
        )
    train, heldout = (
        _passages(text, own, [row[:length] for row in found])
        for text, own, found in zip(texts, starts, rows, strict=True)
    )
    same = None
    if texts[0].vocabulary == texts[1].vocabulary:
        same = exchangeability_test(texts[0].tokens, texts[1].tokens)
    said = [texts[0].text(start, start + LENGTH) for start in starts[0].tolist()]
    return ItemSets(train, heldout, in_order, same and same.p, said)


def _rows(text: TextSource, starts: NDArray, vocabulary: Vocabulary) -> list[NDArray]:
    """Tokens of the passages; those of another vocabulary are of several lengths."""
    own = text.vocabulary == vocabulary
    return [
        text.tokens[start : start + LENGTH]
        if own
        else vocabulary.encode(text.text(start, start + LENGTH))
        for start in starts.tolist()
    ]


def _one_each(documents: Sequence[tuple[int, int]], n: int, seed: Sequence[int]) -> NDArray:
    """A start in each of n documents, at random."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(documents))[:n]
    first, last = np.array(documents)[chosen].T
    return first + (random.random(len(chosen)) * (last - first - LENGTH + 1)).astype(np.int64)


def _passages(text: TextSource, starts: NDArray, rows: Sequence[NDArray]) -> Items:
    places = [(start, *text.place(start)) for start in starts.tolist()]
    called = [KnownItem(s, length=LENGTH, file=file, file_offset=at) for s, file, at in places]
    if len(rows) < FEWEST:
        raise NotComputable(f"{len(rows)} passages are too few: {FEWEST} of each side are needed")
    passages = [text.text(start, start + LENGTH) for start in starts.tolist()]
    sizes = compressed_sizes([passage.encode("utf-8", "surrogatepass") for passage in passages])
    return Items(torch.from_numpy(np.stack(rows).astype(np.int64)), None, called, sizes)


def compressed_sizes(contents: Sequence[bytes]) -> Losses:
    """Bytes that each takes when compressed: how hard it is for no model (Carlini et al., 2021)."""
    return np.array([len(zlib.compress(content)) for content in contents], np.float64)


# -- losses --------------------------------------------------------------------------------------


def loss_name(scorer: ItemScorer) -> str:
    """The name that the module gives its loss."""
    return str(getattr(scorer, "item_loss", "loss"))


def measure(scorer: ItemScorer, sets: ItemSets) -> SideLosses:
    """Losses of all items, measured in shares by the ranks."""
    sides = (sets.train, sets.heldout)
    return SideLosses(*(item_losses(scorer, side.data, side.labels) for side in sides))


def item_losses(scorer: ItemScorer, items: Tensor, labels: Tensor | None) -> Losses:
    """Losses (n,) of items, measured in shares by the ranks."""

    def scored(rows: slice) -> Tensor:
        given = None if labels is None else labels[rows]
        return scorer.item_losses(items[rows], labels=given).float().cpu()

    own = distributed.shard(len(items), BATCH)
    batches = [slice(i, min(i + BATCH, own.stop)) for i in range(own.start, own.stop, BATCH)]
    # what is wrong with all items is an error on every rank, with a share of them or without
    parts = [scored(slice(1))[:0], *map(scored, batches)]
    return distributed.all_gather_rows(torch.cat(parts), "losses of items").double().numpy()


def judge_inside(
    report: Report,
    sets: ItemSets,
    losses: SideLosses,
    name: str,
    reference: tuple[str, SideLosses] | None = None,
    seed: int = 0,
) -> None:
    """Add what the losses say to a report.

    Args:
        name: Of the loss.
        reference: Losses of the same items by another checkpoint, and what it is: its difference
            from these takes away what makes an item hard (Watson et al., 2022).
    """
    control = shift_test(sets.train.sizes, sets.heldout.sizes, in_order=sets.in_order, seed=seed)
    tests = [losses]
    if reference is not None:
        earlier = reference[1]
        tests.append(SideLosses(losses.train - earlier.train, losses.heldout - earlier.heldout))
    found = [membership_test(*sides, in_order=sets.in_order, seed=seed) for sides in tests]
    q = standing_out(*tests[0], *tests[1:])
    known = [
        replace(
            sets.train.items[row],
            loss=float(losses.train[row]),
            q=float(q[row]),
            reference_loss=None if reference is None else float(reference[1].train[row]),
        )
        for row in np.lexsort((tests[-1].train, q)).tolist()
        if q[row] <= NAMED
    ]
    report.membership = Membership(
        loss=name,
        train_items=len(losses.train),
        heldout_items=len(losses.heldout),
        train_loss=float(losses.train.mean()),
        heldout_loss=float(losses.heldout.mean()),
        auc=Estimate(*found[0].auc),
        p=min(1.0, len(found) * min(test.p for test in found)),
        control_auc=Estimate(*control.auc),
        control_p=control.p,
        shift_p=sets.shift_p,
        calibrated_by=None if reference is None else reference[0],
        calibrated_auc=Estimate(*found[-1].auc) if reference is not None else None,
        known=known,
    )
    report.features[SPACE] = Space(novelty=figures(report.membership))


def figures(membership: Membership) -> dict[str, Estimate]:
    """The figures by the names of their metrics."""
    calibrated = membership.calibrated_auc
    return {
        "membership_auc": membership.auc,
        **({} if calibrated is None else {"calibrated_auc": calibrated}),
        "membership_p": Estimate(membership.p),
        "items_known": Estimate(len(membership.known)),
    }


def judge_generator(
    report: Report, sets: ItemSets, generator: ItemScorer, options: Request
) -> Known:
    """Add the losses of a generator, calibrated by another checkpoint if one is asked for."""
    reference = None
    try:
        with evaluating(generator):
            losses = measure(generator, sets)
    except InputError as error:  # such as labels that are missing
        raise NotComputable(str(error)) from error
    if options.calibrate_by is not None:
        other = load_module(Path(options.calibrate_by), "item_losses", "generator")
        reference = options.calibrate_by, measure(_alike(other, generator), sets)
    judge_inside(report, sets, losses, loss_name(generator), reference, options.seed)
    return known_losses(report, sets, losses)


def _alike(other: Any, generator: Any) -> ItemScorer:
    """The other checkpoint, ready, if it says the same of the same items."""
    names = [type(module).__name__ for module in (other, generator)]
    if names[0] != names[1] or getattr(other, "vocabulary", None) != getattr(
        generator, "vocabulary", None
    ):
        raise InputError(
            f"--calibrate-by is a {names[0]}, and --samples a {names[1]}: give a checkpoint of the"
            " same technique and vocabulary, an earlier one or a twin's"
        )
    return other.to(generator.device).eval()


def known_losses(report: Report, sets: ItemSets, losses: SideLosses) -> Known:
    """Exhibits of the page: the losses, and the first items that stand out."""
    assert report.membership is not None
    shown = [item.item for item in report.membership.known[:SHOWN]]
    rows = {called.item: row for row, called in enumerate(sets.train.items)}
    chosen = [rows[item] for item in shown]
    if sets.passages is not None:
        return Known(*losses, passages=[sets.passages[row] for row in chosen])
    return Known(*losses, to_rgb(sets.train.data[chosen]) if chosen else None)


# -- words ---------------------------------------------------------------------------------------


def inside_remark(report: Report, unfit: str = "") -> str:
    """A sentence of the verdict, which is no finding: a model may know what it never reproduces.

    Args:
        unfit: Reason why held-out data is no measure of chance, if the verdict has one.
    """
    found = report.membership
    if found is None:
        return ""
    if reason := _unreadable(found, unfit):
        return f"{NOTHING}: {reason}."
    if found.p > KNOWN:
        return (
            f"From inside, the {found.loss} does not tell training from held-out items: it is lower"
            f" for training in {_share(found.auc)}, where 50% is chance."
        )
    shares, calibrated = _share(found.auc), found.calibrated_auc
    if calibrated is not None and (calibrated.value or 0) > (found.auc.value or 0):
        shares += f", and in {_share(calibrated)} once that of {found.calibrated_by} is taken off"
    count = len(found.known)
    stand = f"; {count:,} of {found.train_items:,} stand out" if count else ""
    return (
        f"From inside, the model knows what it was trained on: the {found.loss} is lower for"
        f" training than for held-out items in {shares}, where 50% is chance{stand}."
        " That is memory, and by itself no proof that it reproduces any of them."
    )


def _unreadable(found: Membership, unfit: str) -> str:
    if unfit:
        return "as the finding says, the held-out data is no measure of chance"
    if found.control_p <= SHIFT:
        return (
            "the two sets differ where no model has part, for training items compress to less in"
            f" {_share(found.control_auc)}, where 50% is chance"
        )
    if found.shift_p is not None and found.shift_p <= SHIFT:
        return "held-out text differs in kind from training text"
    return ""


def _share(auc: Estimate) -> str:
    return f"{auc.value:.0%} of the pairs (95%: {auc.low:.0%} to {auc.high:.0%})"
