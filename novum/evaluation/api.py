"""`novum.evaluate`: everything that evaluate.py does, from code."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from novum.core.distributed import process_group
from novum.core.errors import NovumError
from novum.core.hub_places import DATASETS, is_hub
from novum.evaluation.request import Request, feature_list, for_code
from novum.report.model import Report


def evaluate(
    samples: Any,
    train: Any = None,
    heldout: Any = None,
    *,
    kind: Literal["image", "text"] = "image",
    features: str | Sequence[str] | None = None,
    seed: int = 0,
    output: str | PathLike[str] | None = None,
    num_samples: int | None = None,
    follow: float | None = None,
    classifier: str | PathLike[str] | None = None,
    calibrate_by: str | PathLike[str] | None = None,
    groups: str | PathLike[str] | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    split: str | None = None,
    encoding: str = "utf-8",
    on_bad_image: Literal["error", "skip"] = "error",
    on_bad_text: Literal["error", "skip"] = "error",
    follow_links: bool = False,
    redacted: bool = False,
    quick: bool = False,
) -> Report:
    """Judge samples against training data: are they good, and are they new?

    Images are uint8, or floats from 0 to 1: an array or tensor (n, h, w), (n, h, w, c) or
    (n, c, h, w); images, or paths of them, in a list; a table of `datasets`; a torch Dataset or
    DataLoader; or a place: a folder, a .npy, .npz, .parquet, .arrow or .tar file. Texts are a list
    of str, a table of `datasets`, or a file, a folder or a glob.

    Args:
        samples: What to judge, never split. Also a generator: a checkpoint, a module with `sample`
            or `sample_text`, or a function of n and a seed that returns n images or texts.
        train: What the generator was trained on. A checkpoint's run knows it. Also a bundle of
            references, which brings its held-out set (`evaluate.py --save-reference`).
        heldout: Data like it that was never trained on. Without any, facts alone decide; a built-in
            set (`digits`, `cifar10`) brings its own.
        kind: image or text.
        features: Feature spaces, the usual ones if not given.
        seed: Of samples drawn, and of cells.
        output: Folder for report.html, report.json and TensorBoard events; nothing is written
            without one.
        num_samples: Drawn from a generator: 10,000 images or 100 texts if not given.
        follow: Wait for files that are written into the folder `samples`, until nothing has changed
            for so many seconds, `_SUCCESS` is there, or `num_samples` files are whole.
        classifier: A classifier's checkpoint, for the separability of a generator's styles.
        calibrate_by: Another checkpoint of the generator, an earlier one or a twin's, whose losses
            of training and held-out items are taken off.
        groups: Images that are held out together: a CSV of image and group, or a pattern of names.
        image_column: Of tables and archives; found if not given.
        text_column: Of tables of texts; found if not given.
        split: Of tables, the one to read.
        encoding: Of files of text; several, parted by commas, are tried in turn.
        on_bad_image: Stop at an image that cannot be read, or leave it out and count it.
        on_bad_text: Likewise.
        follow_links: Follow links that lead out of a folder.
        redacted: Hashes in the place of images, texts and their names.
        quick: Facts and one feature space alone, in which altered copies are not looked for: a
            first answer in a fraction of the time.

    Returns:
        The report: `finding`, `facts`, `quality`, `novelty`, `verdict.text`, `to_json()`,
        `assert_no_copying()`; in a notebook it shows its page.

    Raises:
        ValueError: In one line, for what cannot be judged as it is; FileNotFoundError for a place
            that does not exist.
    """
    with _in_words_of_code():
        return judge(
            Request(
                samples=samples,
                train=train,
                heldout=heldout,
                kind=kind,
                features=feature_list(features),
                seed=seed,
                output=_folder(output),
                num_samples=num_samples,
                follow=follow,
                classifier=_text(classifier),
                calibrate_by=_text(calibrate_by),
                groups=_text(groups),
                image_column=image_column,
                text_column=text_column,
                split=split,
                encoding=encoding,
                on_bad_image=on_bad_image,
                on_bad_text=on_bad_text,
                follow_links=follow_links,
                redacted=redacted,
                quick=quick,
                quiet=True,
            )
        )


def save_reference(request: Request) -> Report | None:
    """Write a reference bundle, and judge the samples if there are any."""
    from novum.evaluation.images import evaluate_images
    from novum.evaluation.save_reference import save_reference as save

    with process_group():
        sets = save(request)
        return None if request.samples is None else evaluate_images(request, sets)


def judge(request: Request) -> Report:
    """The report that a request asks for."""
    if request.kind == "text":
        from novum.evaluation.text import evaluate_texts as engine
    else:
        from novum.evaluation.images import evaluate_images as engine  # imports torch
    with process_group():
        return engine(at_hand(request))


def at_hand(request: Request) -> Request:
    """The request, once samples on a hub are fetched and those still written are there."""
    samples = request.samples
    if is_hub(samples) and not samples.startswith(DATASETS):
        from novum.datamodules.sources.hub import fetch_model

        request = replace(request, samples=str(fetch_model(samples)))
        request.say(f"samples: {samples} is at {request.samples}")
    elif request.follow is not None:
        from novum.datamodules.sources.suffixes import OTHERS, PACKED, UNREAD
        from novum.evaluation.arriving import wait_for_files

        others = OTHERS | PACKED | UNREAD if request.kind == "image" else ()
        found = wait_for_files(samples, request.follow, request.num_samples, others)
        request = replace(request, samples=found, num_samples=None, follow=None)
    return request


def _text(value: Any) -> Any:
    """A path as text; anything else as it is, for the request to check."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _folder(output: Any) -> Any:
    text = _text(output)
    return Path(text) if isinstance(text, str) and text.strip() else text


@contextlib.contextmanager
def _in_words_of_code() -> Iterator[None]:
    """Messages name arguments in the place of options."""
    try:
        yield
    except NovumError as error:
        error.args = tuple(for_code(arg) if isinstance(arg, str) else arg for arg in error.args)
        raise
