"""What a report says, in words: is it copying, is it good, and what could not be said."""

from typing import Any

from novum.report.evaluation import Report, listed

HARDLY_CHANCE = 0.01  # p-value below which samples are said to favour training data
FAR_FROM_FAIR = 0.45  # share closer to training below which the held-out images are doubted
ANOTHER_KIND = 0.001  # p-value below which held-out images are said to differ from training ones
TOLD = ("mirrored", "cropped to 75%", "rotated 10°", "JPEG 30", "left half pasted")
IN_WORDS = {
    "frechet_distance": "Fréchet distance {:.4g}",
    "precision": "precision {:.0%}",
    "recall": "recall {:.0%}",
    "coverage": "coverage {:.0%}",
}


def verdict(report: Report) -> str:
    """One paragraph; its first words name the finding."""
    if not report.get("heldout"):
        said = (_uncalibrated(report), _quality(report))
    elif not any(found.get("copy_rate") for found in _novelty(report).values()):
        said = ("Copying was not judged.", _quality(report))
    else:
        said = (_finding(report), _doubts(report), _quality(report))
    return " ".join(sentence for sentence in said if sentence)


def spaces_with_copying(report: Report) -> list[str]:
    """Spaces in which samples are named as copies, or copies are there though none can be named."""
    return [
        name
        for name, found in _novelty(report).items()
        if found.get("copies_flagged")
        or (found.get("copies_at_least", 0) > 0 and _p(report, name) <= HARDLY_CHANCE)
    ]


def _finding(report: Report) -> str:
    copied = spaces_with_copying(report)
    if copied:
        return f"Copying found: {listed([_copies(report, name) for name in copied])}."
    shares = {
        n: f["closer_to_train"] for n, f in _novelty(report).items() if "closer_to_train" in f
    }
    reverse = [name for name, share in shares.items() if share["high"] < FAR_FROM_FAIR]
    if reverse:
        return (
            f"Doubtful held-out images: {_named(shares, reverse)}. Samples lie nearer to held-out"
            " than to training images; is it another kind of data, or was it trained on?"
        )
    leaning = [name for name in _novelty(report) if _p(report, name) <= HARDLY_CHANCE]
    if leaning:
        words = [f"{name} (p = {_p(report, name):.2g})" for name in leaning]
        return (
            f"Samples lean on training data: they favour training over held-out items in"
            f" {listed(words)}, though none can be named as a copy."
        )
    return f"No copying found{_bounds(report)}.{_power(report)}"


def _copies(report: Report, name: str) -> str:
    found, n = _novelty(report)[name], report["samples"].get("n")
    flagged = int(found.get("copies_flagged") or 0)
    low = max(found["copy_rate"]["low"], found.get("copies_at_least") or 0)
    bound = f"at least {low:.2%} of all are copies (95% confidence)" if low else ""
    of = f"{flagged:,} of {n:,}" if n else f"{flagged:,}"
    named = f"{of} samples are named as copies in {name}" if flagged else f"in {name}"
    return f"{named}{', ' if flagged and bound else ' '}{bound}".strip()


def _bounds(report: Report) -> str:
    """In the space that sees most, or in each."""
    found = {name: f["copy_rate"] for name, f in _novelty(report).items() if f.get("copy_rate")}
    n = report["samples"].get("n")
    told = [
        f"copy rate {rate['value']:.2%} (95% bound {rate['high']:.2%}) in {name}"
        for name, rate in found.items()
    ]
    return f"{f' in {n:,} samples' if n else ''}: {listed(told)}"


def _power(report: Report) -> str:
    """What the detector was tried on; the page lists it all."""
    recall = {a["attack"]: a["recall"] for a in report.get("power") or []}
    words = [f"{recall[name]:.0%} ({name})" for name in TOLD if recall.get(name) is not None]
    return f" Of altered copies the detector would have found {listed(words)}." if words else ""


def _doubts(report: Report) -> str:
    heldout = report["heldout"]
    said = []
    p = heldout.get("exchangeability_p")
    if p is not None and p <= ANOTHER_KIND:
        said.append(
            "Held-out images differ in kind from training images (p ="
            f" {p:.2g}), so novelty is not calibrated: put images aside at random before training."
        )
    duplicates = heldout.get("near_duplicates")
    if duplicates:
        searched = heldout.get("searched", heldout["n"])
        said.append(
            f"{duplicates:,} of {searched:,} held-out images looked at are near-duplicates of"
            " training images and hide copies of these."
        )
    return " ".join(said)


def _named(shares: dict[str, dict[str, float]], spaces: list[str]) -> str:
    """The shares in these spaces, in words."""
    words = [
        f"{shares[name]['value']:.1%} in {name} (95%: {shares[name]['low']:.1%} to"
        f" {shares[name]['high']:.1%})"
        for name in spaces
    ]
    return (
        f"{listed(words)} of the samples are closer to training than to held-out images, where"
        " 50% is fair"
    )


def _uncalibrated(report: Report) -> str:
    values = [
        f"{found['authenticity']:.0%} in {name}"
        for name, found in _novelty(report).items()
        if found.get("authenticity") is not None
    ]
    told = f" (authenticity, uncalibrated: {listed(values)})" if values else ""
    return (
        "Copying was not judged: without held-out images nearness to training cannot be told"
        f" from chance{told}."
    )


def _quality(report: Report) -> str:
    spaces = [(n, s["quality"]) for n, s in report["features"].items() if s["quality"]]
    if not spaces:
        return ""
    name, quality = spaces[0]
    known = {metric: estimate["value"] for metric, estimate in quality.items()}
    words = [
        text.format(known[metric])
        for metric, text in IN_WORDS.items()
        if known.get(metric) is not None
    ]
    n = report["samples"].get("n")
    if not words:
        return f"Quality was not judged: {n} samples are too few." if n else ""
    of = f"of {n:,} samples " if n else ""
    return f"Quality {of}in {name}: {', '.join(words)}."


def _novelty(report: Report) -> dict[str, dict[str, Any]]:
    return {name: space["novelty"] for name, space in report["features"].items()}


def _p(report: Report, name: str) -> float:
    """The permutation test's p-value, Bonferroni's for as many spaces as there are."""
    values = {n: f.get("permutation_p") for n, f in _novelty(report).items()}
    known = {n: p for n, p in values.items() if p is not None}
    return min(1.0, known[name] * len(known)) if name in known else 1.0
