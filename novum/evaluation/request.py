"""Requests: the sets to judge and the options, of evaluate.py and of `novum.evaluate` alike."""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novum.core.errors import InputError, printable
from novum.core.hub_places import dataset_name, is_hub
from novum.datamodules.sources.suffixes import BUNDLE
from novum.evaluation.request_fields import PLACES, check_fields, is_whole, option, require_apart

KINDS = ("image", "text")
LARGEST_SEED = 2**31 - 1
MOST_SECONDS = 7 * 86_400
ON_BAD = ("error", "skip")


@dataclass(frozen=True, kw_only=True)
class Request:
    """An evaluation that is asked for. Messages call a field by its option: --num-samples.

    Args:
        samples: What to judge: a place, what a program holds, or a generator.
        train: What the generator was trained on; None: what its checkpoint's run says.
        heldout: Data like it, never trained on; None: unsaid; "none": there is none.
        kind: image or text.
        features: Names of feature spaces; None: the usual ones.
        seed: Of samples drawn, and of cells.
        output: Folder of report.html, report.json and TensorBoard events; None: nothing is written.
        num_samples: Drawn from a generator, or files that `follow` waits for.
        follow: Of a folder that is still written: seconds without a change after which it is whole.
        classifier: A classifier's checkpoint, for the separability of a generator's styles.
        calibrate_by: Another checkpoint of the generator, whose losses of items are taken off.
        groups: Images that are held out together.
        contamination: Of text: held-out documents stand in the place of samples.
        ask_heldout: An unsaid held-out set is an error.
        quiet: Print nothing.
        quick: Of images: facts and one feature space alone.
        redacted: Write no image or text of the training set, and no name of one: hashes instead.
        save_reference: Write what judging needs of the references here; samples are then optional.
    """

    samples: Any
    train: Any = None
    heldout: Any = None
    kind: str = "image"
    features: Sequence[str] | None = None
    seed: int = 0
    output: Path | None = None
    num_samples: int | None = None
    follow: float | None = None
    classifier: str | None = None
    calibrate_by: str | None = None
    groups: str | None = None
    image_column: str | None = None
    text_column: str | None = None
    split: str | None = None
    encoding: str = "utf-8"
    on_bad_image: str = "error"
    on_bad_text: str = "error"
    follow_links: bool = False
    contamination: bool = False
    ask_heldout: bool = False
    quick: bool = False
    quiet: bool = False
    redacted: bool = False
    save_reference: Path | None = None

    def __post_init__(self) -> None:
        for name in PLACES:
            place = getattr(self, name)
            if isinstance(place, os.PathLike):
                object.__setattr__(self, name, os.fspath(place))
        for name in ("seed", "num_samples"):
            if is_whole(number := getattr(self, name)):
                object.__setattr__(self, name, int(number))
        check_fields(self)
        check(self)
        for name in ("output", "save_reference"):
            require_apart(option(name), getattr(self, name), self.places())

    def places(self) -> dict[str, Any]:
        """Samples, training and held-out data as they were given."""
        return {name: getattr(self, name) for name in PLACES}

    @property
    def is_checkpoint(self) -> bool:
        return isinstance(self.samples, str) and self.samples.endswith(".ckpt")

    def say(self, line: str) -> None:
        """Print a line once for all ranks, unless all is to be quiet."""
        from novum.core import distributed  # imports torch

        if not self.quiet and distributed.is_rank_zero():
            print(printable(line), flush=True)

    def settings(self) -> dict[str, Any]:
        """All that figures depend on beside the sets themselves, as JSON has it."""
        places = {
            name: place if place is None or isinstance(place, str) else None
            for name, place in self.places().items()
        }
        others = (
            "kind seed num_samples classifier calibrate_by groups image_column text_column split"
            " encoding on_bad_image on_bad_text follow_links contamination quick"
        ).split()
        features = None if self.features is None else list(self.features)
        return {**places, "features": features, **{name: getattr(self, name) for name in others}}


def check_bundle(request: Request) -> None:
    """Raise InputError for a bundle that cannot be asked for."""
    places = request.places().values()
    if request.kind == "text" and any(isinstance(x, str) and x.endswith(BUNDLE) for x in places):
        raise InputError(f"a bundle of references ({BUNDLE}) is of images: texts have none")
    path = request.save_reference
    if path is None:
        return
    if request.kind == "text":
        raise InputError("--save-reference is of images: leave it out with --kind text")
    if path.suffix != BUNDLE:
        raise InputError(f"--save-reference {path}: give a name that ends in {BUNDLE}")


def check(request: Request) -> None:
    """Raise InputError for what is no value of a field, and for fields that contradict."""
    if request.samples is None and request.save_reference is None:
        raise InputError("--samples is needed: what to judge")
    check_bundle(request)
    if request.kind not in KINDS:
        near = difflib.get_close_matches(str(request.kind), KINDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"--kind {request.kind!r}: {meant}give image or text")
    for name in ("on_bad_image", "on_bad_text"):
        if getattr(request, name) not in ON_BAD:
            raise InputError(f"{option(name)} {getattr(request, name)!r}: give error or skip")
    if not is_whole(request.seed) or not 0 <= request.seed <= LARGEST_SEED:
        raise InputError(f"--seed {request.seed!r}: give a number from 0 to {LARGEST_SEED}")
    if request.num_samples is not None:
        if not is_whole(request.num_samples) or request.num_samples < 2:
            raise InputError(
                f"--num-samples {request.num_samples!r}: at least 2 are needed, a whole number"
            )
    for place in filter(is_hub, (request.train, request.heldout)):
        dataset_name(place)
    if request.follow is not None:
        _check_follow(request)
    of_text = request.text_column or request.encoding != "utf-8" or request.on_bad_text == "skip"
    if request.kind == "image" and (of_text or request.contamination):
        raise InputError(
            "--text-column, --encoding, --on-bad-text and --contamination are of text: leave them"
            " out without --kind text"
        )
    of_images = request.groups or request.image_column or request.on_bad_image == "skip"
    if request.kind == "text" and of_images:
        raise InputError(
            "--groups, --image-column and --on-bad-image are of images: leave them out"
        )
    if request.kind == "text" and request.features:
        raise InputError("--features are of images: leave it out with --kind text")
    if request.quick and request.kind == "text":
        raise InputError("--quick is of images: leave it out with --kind text")
    if request.quick and len(spaces := set(request.features or ())) > 1:
        raise InputError(f"--quick judges one feature space, --features names {len(spaces)}")
    if request.quick and request.classifier:
        raise InputError("--quick measures no separability: leave --classifier out")
    if request.classifier and not _has_styles(request):
        raise InputError(
            "--classifier labels what a StyleGAN makes: --samples must be its checkpoint"
        )
    if request.calibrate_by and not (
        request.is_checkpoint or hasattr(request.samples, "item_losses")
    ):
        raise InputError(
            "--calibrate-by is of generators that have losses: --samples must be a checkpoint"
        )
    if request.calibrate_by and isinstance(request.heldout, str) and request.heldout == "none":
        raise InputError("--calibrate-by needs held-out items: leave it out with --heldout none")
    if isinstance(request.train, str) and request.train == "none":
        raise InputError("--train none: copying is judged against training data, so name it")


def _check_follow(request: Request) -> None:
    seconds: Any = request.follow
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not known or not 0 < seconds < MOST_SECONDS:
        raise InputError(f"--follow {seconds!r}: give seconds without a change, such as 60")
    place = request.samples
    if not isinstance(place, str) or place.endswith((".ckpt", ".onnx")) or "://" in place:
        raise InputError("--follow is of a folder that samples are written to: leave it out")


def _has_styles(request: Request) -> bool:
    return request.is_checkpoint or hasattr(request.samples, "synthesize")


def for_code(message: str) -> str:
    """A message in the words of a function: `num_samples` for `--num-samples`."""
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda found: found[1].replace("-", "_"), message)


def feature_list(features: str | Sequence[str] | None) -> list[str] | None:
    """Names of feature spaces, given one by one or parted by commas."""
    if features is None:
        return None
    listed = features.split(",") if isinstance(features, str) else features
    known = isinstance(listed, Sequence) and not isinstance(listed, bytes)
    if not known or not all(isinstance(name, str) for name in listed):
        raise InputError(f"--features {features!r}: give a name, or a list of names")
    if not listed or not all(name.strip() for name in listed):
        raise InputError(f"--features {features!r}: a name is empty; leave it out, or give one")
    return [name.strip() for name in listed]
