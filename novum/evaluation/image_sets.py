"""The images of an evaluation: samples, of a generator or a place, and their references."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from tqdm.auto import trange

from novum.core import distributed
from novum.core.checkpoints import load_module
from novum.core.devices import default_device
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.protocols import BLOCK, ImageGenerator, require_styles
from novum.core.security import Untrusted, arguments_of_run
from novum.core.seeds import derived_seed
from novum.datamodules.resolve_source import Opened, Reading, open_images, open_references
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.datamodules.sources.local_tables import holds_tables
from novum.evaluation.latent_figures import load_labeller

NUM_SAMPLES = 10_000  # drawn from a checkpoint


class Sets(NamedTuple):
    """The images that are judged and what they are held against."""

    samples: Opened
    train: Opened
    heldout: Opened | None
    generator: ImageGenerator | None = None  # the checkpoint that drew the samples
    groups: str | None = None  # of images that are held out together

    @property
    def images_seen(self) -> int:
        return int(getattr(self.generator, "images_seen", 0))

    def opened(self) -> dict[str, Opened]:
        sides = {"samples": self.samples, "train": self.train, "heldout": self.heldout}
        return {name: side for name, side in sides.items() if side}

    def images(self) -> dict[str, ImageSource]:
        return {name: side.images for name, side in self.opened().items()}


def open_sets(options: argparse.Namespace) -> Sets:
    """The samples first: the references are read at their size."""
    require_tables(options)
    if options.samples.endswith(".ckpt"):
        trained_on = data_of_run(options)
        places = reference_places(options, trained_on)
        module = (
            load_module(Path(options.samples), "sample", "generator").to(default_device()).eval()
        )
        if options.classifier:
            require_styles(module, "--classifier")
            load_labeller(options.classifier)  # fail early if it is missing
        generator = cast(ImageGenerator, module)
        images = draw_samples(generator, options.num_samples or NUM_SAMPLES, options.seed)
        samples = Opened(options.samples, ImageArray(images), None)
    else:
        trained_on, generator = None, None
        places = reference_places(options, trained_on)
        samples = open_images(options.samples, "samples", options=reading(options))
    follow = options.follow_links or bool(trained_on and trained_on.get("follow_links"))
    read_as = reading(options)._replace(follow_links=follow)
    channels, size, _ = samples.images.shape
    with distributed.local_rank_zero_first("training and held-out images"):
        references = open_references(*places, size, channels, trained_on, options=read_as)
    sets = Sets(samples, *references, generator, options.groups or groups_of(trained_on, places))
    for side in sets.opened().values():
        if len(side.images) < 2:
            raise InputError(f"{side.where} holds 1 image: give at least 2")
    return sets


def require_tables(options: argparse.Namespace) -> None:
    """Raise InputError for options of tables where no set is one."""
    given = {"--image-column": options.image_column, "--split": options.split}
    given = [name for name, value in given.items() if value]
    places = (options.samples, options.train, options.heldout)
    paths = [Path(place).expanduser() for place in places if place]
    if given and not any(holds_tables(path, True) for path in paths if path.exists()):
        raise InputError(f"{' and '.join(given)}: no set is a table or an archive; leave it out")


def reading(options: argparse.Namespace) -> Reading:
    """Options that all sets are read with."""
    return Reading(
        options.follow_links,
        options.image_column,
        options.split,
        options.on_bad_image == "skip",
        options.groups,
    )


def data_of_run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Arguments of the data that the checkpoint's run was trained on; None if unknown."""
    from novum.datamodules.images import ImageDataModule

    typed = [place for place in (options.train, options.heldout, options.groups) if place]
    try:
        return arguments_of_run(Path(options.samples), ImageDataModule, typed)
    except Untrusted as error:
        if not (options.train and options.heldout):
            raise
        rank_zero_warn(f"not used: {error}")
        return None


def reference_places(
    options: argparse.Namespace, trained_on: dict[str, Any] | None
) -> tuple[str, str | None]:
    """Places of training and held-out images: as given, else as the checkpoint's run says."""
    known = (trained_on.get("path") or trained_on.get("dataset")) if trained_on else None
    train, heldout = options.train or known, options.heldout or known
    if not train:
        raise InputError("--train is needed: the images that the generator was trained on")
    if not heldout:
        raise InputError(
            "--heldout is needed: images like those of --train, but never trained on; or none"
        )
    return train, None if heldout == "none" else heldout


def groups_of(trained_on: dict[str, Any] | None, places: tuple[str, str | None]) -> str | None:
    """Groups that the run's data was split by, if it is what samples are held against."""
    if trained_on is None:
        return None
    if {*places} - {trained_on.get("path"), trained_on.get("dataset"), None}:
        return None
    return trained_on.get("groups")


def draw_samples(generator: ImageGenerator, n: int, seed: int) -> torch.Tensor:
    """n samples of a generator; seed 0 draws those that training judged."""
    own = distributed.shard(-(-n // BLOCK))
    quiet = not distributed.is_rank_zero()
    blocks = trange(
        own.start, own.stop, desc="sampling", delay=2, leave=False, unit_scale=BLOCK, disable=quiet
    )
    # torch's CPU generator reads the low 32 bits of a seed alone, so others are hashed
    seeds = (derived_seed(seed, block) if seed else block for block in blocks)
    images = [generator.sample(BLOCK, seed=s).cpu() for s in seeds]
    drawn = torch.cat(images) if images else torch.empty(0)
    return distributed.all_gather_rows(drawn, "samples")[:n]
