"""Evaluation of images: opens the sets, judges them in each feature space, writes it down."""

import difflib
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from novum.core import distributed
from novum.core.cache import remembered
from novum.core.devices import default_device, place
from novum.core.errors import InputError, NotComputable
from novum.core.files import write_text
from novum.core.protocols import ItemScorer, StyleGenerator
from novum.datamodules.groups import read_groups
from novum.datamodules.resolve_source import Opened
from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.audit import add_audit
from novum.evaluation.bundled_sets import (
    bundled_groups,
    bundled_power,
    lacking_images,
    lacking_power,
    lacking_spaces,
    listed_spaces,
    picture_notes,
)
from novum.evaluation.evidence import (
    ALIGNMENT,
    DETECTORS,
    Altered,
    evidence,
    name_copies,
    projector_points,
)
from novum.evaluation.gate import LOCAL, USUAL, SpaceMatches, conclude, pool_of_digests
from novum.evaluation.image_sets import Sets, open_sets
from novum.evaluation.image_verdict import image_verdict
from novum.evaluation.inside import SIDES, image_items, judge_generator
from novum.evaluation.latent_figures import sees_small_steps, space_figures
from novum.evaluation.novelty_rows import evaluation_of, known_realism, write_images
from novum.evaluation.outputs import cost, prepare
from novum.evaluation.provenance import provenance
from novum.evaluation.redaction import redact_images
from novum.evaluation.request import Request
from novum.evaluation.reviewed import add_image_reviews
from novum.evaluation.space import (
    FLOORS,
    Judgement,
    as_estimate,
    copying_figures,
    judge,
    judge_copying,
    reference_floor,
)
from novum.metrics import novelty
from novum.metrics.features import (
    cache_together,
    extract_features_together,
    load_extractor,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
    references_of,
)
from novum.metrics.features.extraction import fingerprint
from novum.metrics.functional.frechet import WIDEST
from novum.metrics.novelty.alterations import LADDER
from novum.metrics.novelty.altered_copies import NEAR_DUPLICATE, AlteredCopyDetector
from novum.metrics.novelty.combined import combine_matches
from novum.metrics.novelty.facts import find_identical
from novum.metrics.novelty.library_edits import LIBRARY, library_edits
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.nearest_matches import Matches
from novum.metrics.novelty.negative_control import PoolMatches, negative_control
from novum.metrics.novelty.pool import Pool
from novum.metrics.novelty.power import power
from novum.metrics.record import FeatureSets
from novum.report.events import EVENTS, add_encoded, events
from novum.report.formatting import listed
from novum.report.image_page import NOTHING, page
from novum.report.known_items import Known
from novum.report.markdown import MOST_PAIRS, THUMBNAILS, Pair, named_pairs
from novum.report.model import Recall, Report, SetSummary, Space
from novum.report.neighbour_grid import neighbour_columns
from novum.report.pictures import captioned_table, encode, enlarge, tile, to_rgb
from novum.report.projector import write_projector
from novum.report.schema import write_report

QUICK = ("frechet_distance", "coverage")  # figures of quality of a quick evaluation
PLANTED = 40  # copies of each edit that the power card plants
NUM_PATHS = 500  # of each kind, in a generator's latent spaces
EVIDENCE = {
    ALIGNMENT: "views at 8 px propose, alignment at 32 px decides",
    LOCAL: "SIFT features vote, those that agree with an affine map count",
}
CONTROL_ROWS = 1500  # training and held-out images that are searched for in each other
MOST_PIXELS = 4096  # values of an image up to which the default feature space is `pixels`

Detector = AlteredCopyDetector | LocalCopyDetector


def evaluate_images(options: Request, sets: Sets | None = None) -> Report:
    """Judge images, and write the report if it has a place.

    Args:
        sets: Those of the request, where they are open already.
    """
    start = time.perf_counter()
    prepare(options)
    with distributed.local_rank_zero_first("the networks that features come from"):
        names = feature_names(options.features)
    sets = open_sets(options) if sets is None else sets
    report = new_report(sets, options)
    spaces = judged_spaces(report, sets, names, options)
    if report.quick:
        report.notes.append(left_out(spaces[0]))
    keys = add_audit(report, sets, options)
    group = read_groups(sets.groups, sets.images()) if sets.groups else bundled_groups(sets)
    pool = pool_of_digests(keys["train"], keys.get("heldout"), options.seed, group)
    judged: dict[str, Judgement] = {}
    detectors: dict[str, Detector] = {}
    for name in spaces:
        if name in DETECTORS:
            add_detector(report, name, sets, pool, detectors)
            continue
        features = extract(name, sets, options.seed)
        metrics = QUICK if report.quick else None
        judged[name] = judge(features, pool, device=default_device(), metrics=metrics)
        add_judgement(report, name, judged[name])
        if len(judged) > 1:
            continue
        if sets.heldout:
            sides = sets.train.images, sets.heldout.images, load_extractor(name)
            report.features[name].floor = reference_floor(
                *sides, features, default_device(), metrics or FLOORS
            )
        shown = not options.redacted and not report.quick
        if distributed.is_rank_zero() and options.output and shown:
            points, pictures, facts = projector_points(features, judged[name], sets.pictures())
            write_projector(options.output / EVENTS, {name: points}, pictures, facts)
    altered = judge_altered(report, sets, detectors, options.seed)
    if not report.quick:
        add_styles(report, sets, options)
    found_in = {name: found.found for name, found in judged.items()}
    found_in |= {name: found.found_in for name, found in altered.items()}
    same = find_identical(keys["samples"], keys["train"], keys.get("heldout"))
    conclusion = conclude(report, same, found_in, sets.images(), options.seed)
    judged, altered = name_copies(report, conclusion, judged, altered, sets.images())
    known = add_inside(report, sets, group, options)
    report.verdict = image_verdict(report)
    add_image_reviews(report, options.output, sets.images())
    images = sum(len(side) for side in sets.images().values())
    report.made_by = provenance(options)
    report.cost = cost(time.perf_counter() - start, images=images)
    if distributed.is_rank_zero():
        if options.redacted:
            redact_images(report, keys, sets.images())
            judged, altered, known = {}, {}, known and known._replace(images=None)
        write(report, sets, judged, altered, known, options)
    distributed.barrier("the report")  # if it cannot be written, nobody may end as if it were
    return report


def feature_names(listed: Sequence[str] | None) -> list[str]:
    """Names of the feature spaces asked for, loaded now: fail early if an extractor is missing."""
    names = list(listed or ())
    for name in names:
        if name in DETECTORS:
            continue
        try:
            load_extractor(name)
        except InputError as error:
            if not (close := difflib.get_close_matches(name, DETECTORS, 1)):
                raise
            raise InputError(
                f"no feature extractor '{name}': did you mean '{close[0]}', a detector of copies?"
            ) from error
    return list(dict.fromkeys(names))


def left_out(space: str) -> str:
    """Say what a quick evaluation in one space does not judge."""
    detectors = listed([name for name in DETECTORS if name != space])
    return (
        f"quick, in {space} alone: without {detectors}, which look for altered copies and parts of"
        " images, other spaces, planted copies, which show what would have been found, and most"
        " figures of quality; an evaluation without --quick has them"
    )


def default_features(sets: Sets, quick: bool = False) -> list[str]:
    """Large images are compared as thumbnails: millions of distances in 196,608 values are slow."""
    if quick:
        return ["efficientnet_lite0"]
    channels, height, width = sets.samples.images.shape
    pixels = "pixels" if channels * height * width <= MOST_PIXELS else "pixels@32"
    return ["efficientnet_lite0", pixels, *DETECTORS]


def judged_spaces(report: Report, sets: Sets, asked: Sequence[str], options: Request) -> list[str]:
    """Spaces to judge in; those that a reference bundle lacks the data of are said to be left out.

    Raises:
        InputError: If the user asked for one of these.
    """
    lacking = lacking_spaces(sets, names := list(asked) or usual_features(sets, options.quick))
    if lacking and asked:
        name, reason = next(iter(lacking.items()))
        raise InputError(f"--features {name} cannot be judged: {reason}")
    for name, reason in lacking.items():
        report.notes.append(f"{name}: not judged: {reason}.")
        options.say(f"left out: {name}: {reason}")
    report.notes += picture_notes(sets)
    return [name for name in names if name not in lacking]


def usual_features(sets: Sets, quick: bool) -> list[str]:
    """Spaces if none are named: those that a bundle was made for, else by the images' size."""
    known = listed_spaces(sets)
    if quick:
        known = [name for name in known if name not in DETECTORS][:1]
    return known or default_features(sets, quick)


def extract(name: str, sets: Sets, seed: int) -> FeatureSets:
    """One pass over each set; those of the references are remembered for the next evaluation."""
    extractor = place(load_extractor(name), default_device())
    fake = extract_features_together(extractor, sets.samples.images)
    cache_together(sets.train.images, extractor, len(fake))
    if sets.heldout:
        cache_together(sets.heldout.images, extractor)
    train = reference_features(sets.train.images, extractor)
    other = sets.heldout and sets.heldout.images
    heldout = None if other is None else reference_features(other, extractor)
    narrow = train.shape[1] <= WIDEST
    with distributed.local_rank_zero_first(f"moments of {name}"):
        moments = reference_moments(sets.train.images, extractor) if narrow else None
    near = reference_neighbour_distances(sets.train.images, extractor, len(fake))
    logits = getattr(extractor, "logits", None)
    logits = None if logits is None else logits(fake)
    found = FeatureSets(train, heldout, fake, moments, near, logits, seed)
    return found._replace(references=references_of(extractor, sets.train.images, other))


def new_report(sets: Sets, options: Request) -> Report:
    """Return a report that describes the sets, before anything is measured."""
    samples = describe(sets.samples)
    if sets.images_seen:
        samples.images_seen, samples.seed = sets.images_seen, options.seed
    heldout = sets.heldout and describe(sets.heldout)
    notes = dict.fromkeys(side.note for side in sets.opened().values() if side.note)
    train = describe(sets.train)
    return Report(samples, train, heldout, notes=list(notes), quick=options.quick)


def add_judgement(report: Report, name: str, found: Judgement) -> None:
    report.notes += [f"{name}: not computed: {reason}" for reason in found.missing]
    report.features[name] = Space(found.quality, found.novelty, load_extractor(name).spec)


def add_detector(
    report: Report, name: str, sets: Sets, pool: Pool, detectors: dict[str, Detector]
) -> None:
    """Prepare a detector of copies for the references."""
    try:
        detectors[name] = detector_of(name, sets, pool)
    except NotComputable as error:
        report.notes.append(f"{name}: not computed: {error}")


def detector_of(name: str, sets: Sets, pool: Pool) -> Detector:
    """A detector of copies, ready to search the references."""
    train, heldout = sets.train.images, sets.heldout and sets.heldout.images
    progress = distributed.is_rank_zero()
    if name == LOCAL:
        return LocalCopyDetector(train, heldout, pool=pool, progress=progress, together=True)
    return AlteredCopyDetector(
        train, heldout, pool=pool, device=default_device(), progress=progress, together=True
    )


def judge_altered(
    report: Report, sets: Sets, detectors: dict[str, Detector], seed: int
) -> dict[str, Altered]:
    """Search the samples for altered copies, and measure what the detectors would have found."""
    judged: dict[str, Altered] = {}
    known = references_key(sets, next(iter(detectors.values())).drawn) if detectors else []
    for name, detector in detectors.items():
        found = detector.search(sets.samples.images)
        within = within_pool(name, detector, known)
        copying = control = None
        if sets.heldout is not None:
            copying = judge_copying(found.matches, NEAR_DUPLICATE, seed)
            control = negative_control(within, seed=seed)
        figures = copying_figures(copying) if copying else {}
        report.features[name] = Space(novelty=figures, extractor=EVIDENCE[name])
        judged[name] = Altered(found, copying, SpaceMatches(found.matches, within, control))
    if sets.heldout is not None and judged:
        near = judged.get(ALIGNMENT, next(iter(judged.values())))
        add_near_duplicates(report, near.found_in.pool)
        if not report.quick:
            add_power(report, sets, detectors, judged, known, seed)
    return judged


def within_pool(name: str, detector: Detector, references: list[object]) -> PoolMatches:
    """Items of the pool matched with each other, once for the same references."""

    def compute() -> NDArray[np.float64]:
        found = detector.match_within(CONTROL_ROWS)
        return torch.stack([x.double() for x in found[:3]], 1).numpy()

    found = remembered([*references, name, CONTROL_ROWS], compute, 3)
    own, nearest, margin = torch.from_numpy(found.T.copy())
    return PoolMatches(own.long(), nearest.long(), margin, detector.drawn)


def references_key(sets: Sets, pool: Pool) -> list[object]:
    """All that detectors' finds in the references depend on: images, their items, and our code."""
    sides = [fingerprint(side.images) for side in (sets.train, sets.heldout) if side is not None]
    items = hashlib.sha256(pool.rows.numpy().tobytes() + pool.unit.numpy().tobytes()).hexdigest()
    code = hashlib.sha256()
    for path in sorted(Path(novelty.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return [*sides, items, code.hexdigest()]


def add_power(
    report: Report,
    sets: Sets,
    detectors: dict[str, Detector],
    judged: dict[str, Altered],
    references: list[object],
    seed: int,
) -> None:
    """Add the power card: share of planted copies found by the verdict's rule."""
    settings, edits = power_settings(sets, detectors, seed), planted_edits(sets)
    recall = bundled_power(sets, [*settings, references[-1]], len(edits))
    if recall is None and (why := lacking_power(sets)):
        report.notes.append(f"power: not computed: {why}.")
        return
    if recall is None:
        usual = [found.found_in.pool for found in judged.values()]
        recall = recall_of_planted(sets, detectors, usual, references, seed)
    report.power = [
        Recall(edit, value, low, high, LIBRARY if edit not in LADDER else "", edit in LADDER)
        for edit, (value, low, high) in zip(edits, recall.tolist(), strict=True)
    ]


def planted_edits(sets: Sets) -> list[str]:
    """Edits of the copies that are planted."""
    channels, *sides = sets.train.images.shape
    return [*LADDER, *library_edits(channels, max(sides))]


def power_settings(sets: Sets, detectors: dict[str, Detector], seed: int) -> list[object]:
    """All that a power card depends on beside the references and our code."""
    return [*detectors, *planted_edits(sets), PLANTED, seed]


def recall_of_planted(
    sets: Sets,
    detectors: dict[str, Detector],
    usual: list[PoolMatches],
    references: list[object],
    seed: int,
) -> NDArray[np.float64]:
    """Share of planted copies of each edit that is found, with its interval (n, 3).

    Args:
        usual: Matches of the pool's own items, of each detector.
        references: All that the detectors' finds in the references depend on.
    """
    assert sets.heldout is not None
    train, heldout = sets.train.images, sets.heldout.images
    edits = planted_edits(sets)

    def match(samples: Tensor, exclude: Tensor) -> Matches:
        found = [detector.match(samples, exclude) for detector in detectors.values()]
        return combine_matches(found, usual).matches

    def compute() -> NDArray[np.float64]:
        usually = -math.log(USUAL)  # of the verdict, twins among training and held-out left in
        card = power(
            train, heldout, match, attacks=edits, copies=PLANTED, threshold=usually, seed=seed
        )
        return np.array([card.recall[edit] for edit in edits], np.float64)

    return remembered([*references, *power_settings(sets, detectors, seed)], compute, 3)


def add_near_duplicates(report: Report, within: PoolMatches) -> None:
    """Count held-out images that are near-duplicates of training images."""
    trained = within.drawn.trained
    heldout = ~trained[within.own]
    twins = heldout & trained[within.nearest] & (within.margin >= NEAR_DUPLICATE)
    assert report.heldout is not None
    report.heldout.searched = int(heldout.sum())
    report.heldout.near_duplicates = int(twins.sum())


def add_styles(report: Report, sets: Sets, options: Request) -> None:
    """Add path lengths, and with a classifier separability, of a generator that has styles."""
    if not isinstance(sets.generator, StyleGenerator):
        return
    names = [
        n for n in report.features if n not in DETECTORS and sees_small_steps(load_extractor(n))
    ]
    n = len(sets.samples.images)
    paths = min(n, NUM_PATHS)
    try:
        found = space_figures(sets.generator, names, options.classifier, paths, n, options.seed)
    except NotComputable as error:
        report.notes.append(f"styles: not computed: {error}")
        return
    for name, figures in found.items():
        space = report.features.setdefault(name, Space(extractor=options.classifier))
        space.quality |= {k: as_estimate(figure) for k, figure in figures.items()}


def add_inside(report: Report, sets: Sets, group: Tensor | None, options: Request) -> Known | None:
    """Add the losses of a generator that has some for each image."""
    if not isinstance(sets.generator, ItemScorer) or sets.heldout is None:
        return None
    if where := lacking_images(sets):
        report.notes.append(f"losses: not measured: {where} does not hold the images themselves")
        return None
    images = {side: sets.images()[side] for side in SIDES}
    try:
        items = image_items(images, group, seed=options.seed)
        return judge_generator(report, items, sets.generator, options)
    except NotComputable as error:
        report.notes.append(f"losses: not computed: {error}")
        return None


def describe(opened: Opened) -> SetSummary:
    images = opened.images
    return SetSummary(opened.where, len(images), list(images.shape), fingerprint=images.fingerprint)


def write(
    report: Report,
    sets: Sets,
    judged: dict[str, Judgement],
    altered: dict[str, Altered],
    known: Known | None,
    options: Request,
) -> None:
    """Render the page; write it, report.json, pictures, TensorBoard events and its Novelty tab.

    A redacted report shows no picture.
    """
    images = sets.pictures()
    shown = NOTHING if options.redacted else evidence(report, judged, altered, images)
    report.page = page(report, shown._replace(known=known))
    folder = options.output
    if folder is None:
        return
    write_thumbnails(folder / THUMBNAILS, [] if options.redacted else named_pairs(report), images)
    write_report(folder / "report.json", report)
    write_text(folder / "report.html", report.page)
    picture = neighbour_picture(judged, images) if judged else None
    if picture is not None:
        picture.save(folder / "nearest_neighbours.png")
    with events(report, folder, sets.images_seen) as writer:
        if picture is not None:
            tag = "novelty/nearest_neighbours"
            add_encoded(writer, tag, encode(picture), sets.images_seen)
    line = evaluation_of(report, sets.images_seen, "images")
    write_images(folder, line, report, judged, altered, images, known_realism(judged))


def write_thumbnails(
    folder: Path, pairs: Sequence[Pair], images: Mapping[str, ImageSource]
) -> None:
    """A picture of each of the first pairs, the sample at the left, in the place of former ones."""
    for old in folder.glob("*.png"):
        old.unlink()
    rows = {side: {name: row for row, name in enumerate(images[side].ids)}
            for side in ("samples", "train")}  # fmt: skip
    for number, pair in enumerate(pairs[:MOST_PAIRS], 1):
        sides = [images["samples"][rows["samples"][pair.sample]],
                 images["train"][rows["train"][pair.train]]]  # fmt: skip
        folder.mkdir(exist_ok=True)
        picture = tile(enlarge(to_rgb(torch.stack(sides))), 2)
        Image.fromarray(picture).save(folder / f"{number}.png")


def neighbour_picture(judged: dict[str, Judgement], images: dict[str, ImageSource]) -> Image.Image:
    references = {name: side for name, side in images.items() if name != "samples"}
    neighbours = {name: found.neighbours for name, found in judged.items()}
    return captioned_table(*neighbour_columns(images["samples"], references, neighbours))
