"""The verdict on images: are they copied, how good are they, and what is to be done?"""

from collections.abc import Iterator

from novum.evaluation.gate import (
    GATE_ERROR,
    IDENTICAL_ERROR,
    NEAR_ERROR,
    convicted_by_facts,
    gate_passed,
    needed_heldout,
    needed_items,
    shifted,
)
from novum.evaluation.inside import inside_remark
from novum.metrics.functional.intervals import clopper_pearson_interval
from novum.report.formatting import listed
from novum.report.model import Estimate, Finding, Quality, Report, Verdict

FAR_FROM_FAIR = 0.45  # share closer to training below which the held-out images are doubted
MANY_DUPLICATES = 0.1  # share of near-duplicates that leaves the held-out images little use
SOUGHT = 0.01  # copy rate that an evaluation must be able to find
SEEN = 0.8  # lower limit of recall from which an edit counts as seen
LISTED = 4  # edits that a sentence names one by one
UNSEEN = 0.5  # recall below which copies of an edit are said to be missed
GOOD, POOR = 0.8, 0.3  # of the floor of precision, recall and coverage
FAR = 3.0  # times the floor of the Fréchet distance
QUALITY = {
    "frechet_distance": ("Fréchet distance", ".4g"),
    "precision": ("precision", ".0%"),
    "recall": ("recall", ".0%"),
    "coverage": ("coverage", ".0%"),
}
NO_FACTS = (
    "No sample is identical to a training image, or so near to one that no chance explains it, as"
    " far as training images among each other show."
)
LOOK = "look at the pairs below, then train with more data, fewer repeats of it or fewer steps"


def image_verdict(report: Report) -> Verdict:
    """Return the verdict that the facts, controls and figures of a report support."""
    finding, headline, details, todo = _finding(report)
    quality_finding, quality = _quality(report)
    caveats, grave = _caveats(report)
    if report.quick:
        caveats += ("Altered copies, and parts of images, were not looked for (--quick).",)
    gate = report.gate
    return Verdict(
        finding,
        headline,
        details,
        caveats,
        grave,
        quality,
        remarks=tuple(filter(None, (inside_remark(report, _unfit(report)),))),
        spaces=tuple(gate.spaces) if gate and finding is Finding.COPYING else (),
        next=f"Next: {todo}.",
        quality_finding=quality_finding,
    )


def _finding(report: Report) -> tuple[Finding, str, tuple[str, ...], str]:
    """The finding, its headline, sentences that continue it, and what to do next."""
    n, gate = report.samples.n or 0, report.gate
    if gate is not None and gate_passed(report) and gate.samples_named:
        details = (
            f"{_percent(gate.copy_rate)} of the samples are copies; {gate.samples_named:,} are"
            f" named, of {_count(gate.items_named, 'training image')}.",
            *_facts(report),
        )
        return Finding.COPYING, "Copying found", details, LOOK
    if convicted_by_facts(report):
        return Finding.COPYING, "Copying found", tuple(_facts(report)), LOOK
    if report.heldout is None:
        return _without_heldout(report)
    if gate is None:
        todo = "judge samples in a feature space, against training and held-out images"
        return Finding.CANNOT_JUDGE, "Copying was not judged", (), todo
    if reason := _unfit(report):
        headline = "These held-out images do not allow a judgement"
        todo = (
            "make both sets with the same program and settings; best, put images aside at random"
            " before training"
        )
        return Finding.CANNOT_JUDGE, headline, (reason, *_facts(report)), todo
    if gate.p <= GATE_ERROR:
        details = (
            "they match training images more often than chance allows, but no single one can be"
            f" named as a copy; at most {_high(gate.copy_rate)} are copies.",
            f"By chance so many matches have a probability of {gate.p:.2g}.",
            *_facts(report),
        )
        todo = "judge more samples, against more held-out images"
        return Finding.LEANING, "Samples lean on training images", details, todo
    if gate.needed > SOUGHT * n:
        details = (
            f"none found in {_count(n, 'sample')}, but fewer than {gate.needed:,} copied images"
            f" would not have been seen, and {SOUGHT:.0%} of the samples is {SOUGHT * n:.3g}.",
            *_facts(report),
        )
        return (
            Finding.TOO_LITTLE_EVIDENCE,
            "Too few images to rule copying out",
            details,
            _more(report),
        )
    bound, seen = _bound(report)
    details = (
        f"at most {bound} of the samples are copies, {seen} (95% confidence).",
        *_unseen(report),
        *_facts(report),
    )
    todo = "nothing, as far as these copies go"
    if report.quick:
        todo = "look for altered copies too, without --quick"
    return Finding.NONE_FOUND, f"No copying found in {_count(n, 'sample')}", details, todo


def _without_heldout(report: Report) -> tuple[Finding, str, tuple[str, ...], str]:
    details = (
        "without held-out images a faint copy cannot be distinguished from a chance likeness.",
        *(_facts(report) if report.facts else (NO_FACTS,)),
    )
    todo = (
        "look at the most suspicious pairs below; better, train on half of the data and give the"
        " other half as --heldout"
    )
    return Finding.CANNOT_JUDGE, "Copying was not judged", details, todo


def _facts(report: Report) -> Iterator[str]:
    """Sentences about samples that are identical or nearly so to training images."""
    n = report.samples.n or 0
    count = {kind: sum(f.kind == kind for f in report.facts) for kind in _KINDS}
    for kind, words in _KINDS.items():
        if count[kind]:
            of = len({f.train for f in report.facts if f.kind == kind})
            share = clopper_pearson_interval(count[kind], max(n, count[kind]))
            yield (
                f"{count[kind]:,} of {_count(n, 'sample')} {'is' if count[kind] == 1 else 'are'}"
                f" {words} {_count(of, 'training image')}: {_percent(Estimate(*share))}."
            )
    yield from _near_facts(report)
    same = report.identical
    if same is None or not same.samples:
        return
    if same.p > IDENTICAL_ERROR:
        fresh = ""
        if same.heldout is not None:
            fresh = f"{same.heldout:,} of {same.of_heldout or 0:,} held-out images are, and "
        yield (
            f"That is not more than this data gives by chance: {fresh}{same.repeated:,} of"
            f" {same.of_train:,} training images occur more than once."
        )
    elif not same.pool_pairs:
        yield (
            "No training or held-out image equals another one, so that an identical sample is no"
            " accident."
        )


def _near_facts(report: Report) -> Iterator[str]:
    """Sentences if near-duplicates in the data may explain the samples'."""
    near = report.near_identical
    if near is None or not near.samples:
        return
    if near.heldout:
        yield (
            f"{_count(near.heldout, 'sample')} {'is' if near.heldout == 1 else 'are'} as near to a"
            " held-out image, which cannot be a copy: nearness proves nothing here."
        )
    if not near.p:
        return
    image = "training or held-out image"
    others = _count(near.pool, image) if near.pool else f"no {image}"
    proves = "more" if near.p <= NEAR_ERROR else "not more"
    yield (
        f"That is {proves} than near-duplicates among such images may explain (p = {near.p:.2g}):"
        f" {others} {'are' if near.pool > 1 else 'is'} so near to another one."
    )


_KINDS = {"identical": "identical to", "near_identical": "nearly identical to"}


def _unfit(report: Report) -> str:
    """Reason why nothing follows from a comparison with these held-out images; '' if it does."""
    same = report.identical
    if same is not None and same.leak_p <= IDENTICAL_ERROR and report.heldout is not None:
        return (
            f"{same.heldout_rows:,} of {report.heldout.n or 0:,} held-out images are training"
            f" images, where {same.repeated:,} of {same.of_train:,} training images occur more than"
            " once."
        )
    if names := shifted(report):
        control = report.negative_controls[names[0]]
        most = max(control.excess, key=lambda e: e.value or 0)
        return (
            "training images too are nearer to training than to held-out images, by"
            f" {_percent(most)} more than chance in {names[0]}, and samples show no more than"
            " that: the two sets differ in kind."
        )
    if reverse := _nearer_to_heldout(report):
        return (
            f"{listed(reverse)} of the samples are nearer to training than to held-out images,"
            " where 50% is fair: was the generator trained on the held-out images?"
        )
    return ""


def _nearer_to_heldout(report: Report) -> list[str]:
    """Shares closer to training that are far below one half, in words."""
    shares = {name: space.novelty.get("closer_to_train") for name, space in report.features.items()}
    return [
        f"{_percent(share)} in {name}"
        for name, share in shares.items()
        if share is not None and share.high is not None and share.high < FAR_FROM_FAIR
    ]


def _bound(report: Report) -> tuple[str, str]:
    """Upper bound of the copy rate and what it covers, in words.

    A copy that is found with probability r counts r times: the bound is divided by the lowest
    lower limit of recall among the edits that it covers.
    """
    assert report.gate is not None
    high = report.gate.copy_rate.high or 0.0
    seen = {r.edit: r.low for r in report.power if r.low is not None and r.low >= SEEN}
    if not seen:
        return f"{high:.2%}", "if they are unaltered"
    ways = _or(list(seen))
    if len(seen) > LISTED:
        ways = f"altered in one of the {len(seen)} ways that planted copies show to be found"
    return f"{min(high / min(seen.values()), 1):.2%}", f"if they are {ways}"


def _unseen(report: Report) -> Iterator[str]:
    missed = [r.edit for r in report.power if r.recall is not None and r.recall < UNSEEN]
    if missed:
        yield f"Would not have been seen: copies that are {_or(missed)}."


def _or(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _more(report: Report) -> str:
    """Numbers of samples, or of held-out images for these samples, that would do."""
    assert report.gate is not None and report.heldout is not None
    n, train = report.samples.n or 0, report.train.n or 0
    words = f"judge {round(report.gate.needed / SOUGHT):,} samples or more"
    if SOUGHT * n >= needed_items(1, 1):
        words += f", or hold out {needed_heldout(train, SOUGHT * n):,} images instead"
    return words


def _caveats(report: Report) -> tuple[tuple[str, ...], bool]:
    """Caveats of the finding, and True if they leave it doubtful."""
    heldout, same = report.heldout, report.identical
    if heldout is None:
        return (), False
    caveats, grave = [], False
    if heldout.near_duplicates:
        searched = heldout.searched or heldout.n or heldout.near_duplicates
        grave = heldout.near_duplicates > MANY_DUPLICATES * searched
        caveats.append(
            f"{heldout.near_duplicates:,} of {searched:,} held-out images looked at are"
            " near-duplicates of training images and hide copies of these."
        )
    if same is not None and same.heldout_rows:
        grave = grave or same.heldout_rows > MANY_DUPLICATES * (heldout.n or 1)
        caveats.append(
            f"{same.heldout_rows:,} of {heldout.n or 0:,} held-out images are identical to training"
            " images."
        )
    return tuple(caveats), grave


def _quality(report: Report) -> tuple[Quality, str]:
    """Quality of the samples in the first space that has figures, beside its floor.

    Held-out images that differ in kind, or are training images, give no floor.
    """
    unfit = _unfit(report)
    for name, space in report.features.items():
        floors = {} if unfit else space.floor
        known = {m: e.value for m, e in space.quality.items() if e.value is not None}
        words = []
        for metric, (title, form) in QUALITY.items():
            if metric in known:
                floor = floors.get(metric)
                reach = floor and floor.value is not None and f"{floor.value:{form}}"
                beside = f" (held-out images: {reach})" if reach else ""
                words.append(f"{title} {known[metric]:{form}}{beside}")
        if words:
            found = _quality_finding(known, floors)
            opening = "Quality" if found is Quality.UNKNOWN else f"Quality is {found.value}"
            why = _unrated(report, unfit) if found is Quality.UNKNOWN else ""
            return found, f"{opening}, in {name}: {', '.join(words)}.{why}"
    few = report.samples.n and any(space.quality for space in report.features.values())
    return Quality.UNKNOWN, "Quality was not judged: these are too few samples." if few else ""


def _unrated(report: Report, unfit: str) -> str:
    """Reason why figures of quality are not rated; '' if these figures are none to rate."""
    if report.heldout is None:
        return " To rate that takes held-out images."
    return " These held-out images are no measure of that." if unfit else ""


def _quality_finding(known: dict[str, float], floors: dict[str, Estimate]) -> Quality:
    """By the worst of the figures against their floors."""
    shares = []
    for metric in ("precision", "recall", "coverage"):
        floor = floors.get(metric)
        if metric in known and floor is not None and floor.value:
            shares.append(known[metric] / floor.value)
    if not shares:
        return Quality.UNKNOWN
    distance, floor = known.get("frechet_distance"), floors.get("frechet_distance")
    far = distance is not None and floor is not None and distance > FAR * (floor.value or 0)
    if min(shares) < POOR:
        return Quality.POOR
    return Quality.GOOD if min(shares) >= GOOD and not far else Quality.FAIR


def _percent(estimate: Estimate) -> str:
    if estimate.value is None:
        return "an unknown share"
    low, high = estimate.low, estimate.high
    ends = "" if low is None or high is None else f" (95%: {low:.1%} to {high:.1%})"
    return f"{estimate.value:.1%}{ends}"


def _high(estimate: Estimate) -> str:
    return "an unknown share" if estimate.high is None else f"{estimate.high:.1%}"


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"
