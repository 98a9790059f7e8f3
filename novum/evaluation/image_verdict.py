"""The verdict on images: are they copied, how good are they, and what makes that doubtful?"""

from collections.abc import Iterable

from novum.report.formatting import listed
from novum.report.model import Estimate, Finding, Report, SetSummary, Verdict

HARDLY_CHANCE = 0.01  # p-value below which samples are said to favour training data
FAR_FROM_FAIR = 0.45  # share closer to training below which the held-out images are doubted
ANOTHER_KIND = 0.001  # p-value below which held-out images are said to differ from training ones
MANY_DUPLICATES = 0.1  # share of near-duplicates that leaves the held-out images little use
SHOWN_EDITS = ("mirrored", "cropped to 75%", "rotated 10°", "JPEG 30", "left half pasted")
QUALITY = {
    "frechet_distance": "Fréchet distance {:.4g}",
    "precision": "precision {:.0%}",
    "recall": "recall {:.0%}",
    "coverage": "coverage {:.0%}",
}


def image_verdict(report: Report) -> Verdict:
    """Return the verdict that the figures of a report support."""
    quality = _quality(report)
    if report.heldout is None:
        return _uncalibrated(report, quality)
    if not any(_value(report, space, "copy_rate") is not None for space in report.features):
        return Verdict(Finding.CANNOT_JUDGE, "Copying was not judged", quality=quality)
    caveats, grave = _heldout_caveats(report.heldout)
    if copied := spaces_with_copying(report):
        told = listed([_copies(report, name) for name in copied])
        return Verdict(
            Finding.COPYING, "Copying found", (f"{told}.",), caveats, grave, quality, (), copied
        )
    if reverse := _nearer_to_heldout(report):
        told = f"{listed(reverse)} of the samples are closer to training than to held-out images"
        return Verdict(
            Finding.CANNOT_JUDGE,
            "Doubtful held-out images",
            (f"{told}, where 50% is fair.",),
            (
                "Samples lie nearer to held-out than to training images; is it another kind of"
                " data, or was it trained on?",
                *caveats,
            ),
            True,
            quality,
        )
    if leaning := [n for n in report.features if adjusted_p(report, n) <= HARDLY_CHANCE]:
        told = listed([f"{name} (p = {adjusted_p(report, name):.2g})" for name in leaning])
        return Verdict(
            Finding.LEANING,
            "Samples lean on training data",
            (
                f"they favour training over held-out items in {told}, though none can be named as"
                " a copy.",
            ),
            caveats,
            grave,
            quality,
        )
    n = report.samples.n
    return Verdict(
        Finding.NONE_FOUND,
        f"No copying found{f' in {n:,} samples' if n else ''}",
        tuple(filter(None, (f"{_bounds(report)}.", _power(report)))),
        caveats,
        grave,
        quality,
    )


def spaces_with_copying(report: Report) -> tuple[str, ...]:
    """Spaces in which samples are named as copies, or some are copies though none can be named."""
    return tuple(
        name
        for name in report.features
        if _value(report, name, "copies_flagged")
        or (
            (_value(report, name, "copies_at_least") or 0) > 0
            and adjusted_p(report, name) <= HARDLY_CHANCE
        )
    )


def adjusted_p(report: Report, name: str) -> float:
    """p-value of the permutation test in a space, by Bonferroni for all spaces that have one."""
    values = {space: _value(report, space, "permutation_p") for space in report.features}
    known = {space: p for space, p in values.items() if p is not None}
    return min(1.0, known[name] * len(known)) if name in known else 1.0


def _figure(report: Report, space: str, metric: str) -> Estimate | None:
    return report.features[space].novelty.get(metric)


def _value(report: Report, space: str, metric: str) -> float | None:
    estimate = _figure(report, space, metric)
    return None if estimate is None else estimate.value


def _copies(report: Report, name: str) -> str:
    n, flagged = report.samples.n, int(_value(report, name, "copies_flagged") or 0)
    rate = _figure(report, name, "copy_rate")
    low = max((rate and rate.low) or 0, _value(report, name, "copies_at_least") or 0)
    bound = f"at least {low:.2%} of all are copies (95% confidence)" if low else ""
    of = f"{flagged:,} of {n:,}" if n else f"{flagged:,}"
    named = f"{of} samples are named as copies in {name}" if flagged else f"in {name}"
    return f"{named}{', ' if flagged and bound else ' '}{bound}".strip()


def _bounds(report: Report) -> str:
    """Copy rate and its upper bound in each space."""
    rates = {name: _figure(report, name, "copy_rate") for name in report.features}
    return listed(
        [
            f"copy rate {rate.value:.2%}{_bound(rate)} in {name}"
            for name, rate in rates.items()
            if rate is not None and rate.value is not None
        ]
    )


def _bound(rate: Estimate) -> str:
    return "" if rate.high is None else f" (95% bound {rate.high:.2%})"


def _power(report: Report) -> str:
    """Recall of some edits; the page lists all."""
    recall = {r.edit: r.recall for r in report.power if r.recall is not None}
    words = [f"{recall[edit]:.0%} ({edit})" for edit in SHOWN_EDITS if edit in recall]
    return f"Of altered copies the detector would have found {listed(words)}." if words else ""


def _heldout_caveats(heldout: SetSummary) -> tuple[tuple[str, ...], bool]:
    """Caveats of the finding, and True if they leave it doubtful."""
    caveats, grave = [], False
    p, duplicates = heldout.exchangeability_p, heldout.near_duplicates
    if p is not None and p <= ANOTHER_KIND:
        grave = True
        caveats.append(
            "Held-out images differ in kind from training images (p ="
            f" {p:.2g}), so novelty is not calibrated: put images aside at random before training."
        )
    if duplicates:
        searched = heldout.searched or heldout.n or duplicates
        grave = grave or duplicates > MANY_DUPLICATES * searched
        caveats.append(
            f"{duplicates:,} of {searched:,} held-out images looked at are near-duplicates of"
            " training images and hide copies of these."
        )
    return tuple(caveats), grave


def _nearer_to_heldout(report: Report) -> list[str]:
    """Shares closer to training that are far below one half, in words."""
    shares = {name: _figure(report, name, "closer_to_train") for name in report.features}
    return [
        f"{share.value:.1%} in {name} (95%: {share.low:.1%} to {share.high:.1%})"
        for name, share in shares.items()
        if share is not None
        and share.value is not None
        and share.low is not None
        and share.high is not None
        and share.high < FAR_FROM_FAIR
    ]


def _uncalibrated(report: Report, quality: str) -> Verdict:
    values = {name: _value(report, name, "authenticity") for name in report.features}
    words = [f"{value:.0%} in {name}" for name, value in values.items() if value is not None]
    known = f" (authenticity, uncalibrated: {listed(words)})" if words else ""
    return Verdict(
        Finding.CANNOT_JUDGE,
        "Copying was not judged",
        (
            "without held-out images nearness to training cannot be distinguished from chance"
            f"{known}.",
        ),
        quality=quality,
    )


def _quality(report: Report) -> str:
    measured = ((name, space.quality) for name, space in report.features.items() if space.quality)
    name, quality = next(measured, ("", {}))
    if not name:
        return ""
    words = list(_quality_words(quality.items()))
    n = report.samples.n
    if not words:
        return f"Quality was not judged: {n} samples are too few." if n else ""
    of = f"of {n:,} samples " if n else ""
    return f"Quality {of}in {name}: {', '.join(words)}."


def _quality_words(figures: Iterable[tuple[str, Estimate]]) -> Iterable[str]:
    known = {name: estimate.value for name, estimate in figures}
    for name, text in QUALITY.items():
        if (value := known.get(name)) is not None:
            yield text.format(value)
