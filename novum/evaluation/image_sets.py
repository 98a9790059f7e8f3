"""The images of an evaluation: samples, of a generator or a place, and their references."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from novum.core import distributed
from novum.core.bars import progress
from novum.core.checkpoints import load_module
from novum.core.devices import default_device
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, NovumError
from novum.core.hub_places import is_hub
from novum.core.memory import require_memory
from novum.core.protocols import BLOCK, ImageGenerator, require_new_images, require_styles
from novum.core.run_record import read_record
from novum.core.security import Untrusted, arguments_of_run
from novum.core.seeds import derived_seed
from novum.datamodules.resolve_source import Opened, Reading, open_images, open_references
from novum.datamodules.sources.builtin_datasets import FIXED
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.datamodules.sources.local_tables import holds_tables
from novum.datamodules.sources.reference_bundle import BundledImages, is_bundle, open_bundle
from novum.evaluation.arriving import Arrived
from novum.evaluation.generators import (
    Draw,
    called,
    evaluating,
    function_name,
    is_function_name,
    named_function,
    require_method,
    require_no_file_name,
)
from novum.evaluation.latent_figures import load_labeller
from novum.evaluation.onnx_generator import SUFFIX, OnnxGenerator
from novum.evaluation.request import Request

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

    def pictures(self) -> dict[str, ImageSource]:
        """Images as a page can show them: a bundle of references may have thumbnails, or none."""
        return {
            name: images.pictures if isinstance(images, BundledImages) else images
            for name, images in self.images().items()
        }


def open_sets(request: Request) -> Sets:
    """The samples first: the references are read at their size."""
    require_tables(request)
    if callable(getattr(given := given_samples(request), "sample", None)):
        require_new_images(given, "--samples")  # before it asks for references
    trained_on = data_of_run(request) if request.is_checkpoint else None
    places = reference_places(request, trained_on)
    if request.samples is None:
        samples, generator = open_images(places[0], "train", options=reading(request)), None
    else:
        samples, generator = open_samples(request, given)
    follow = request.follow_links or bool(trained_on and trained_on.get("follow_links"))
    read_as = reading(request)._replace(follow_links=follow)
    channels, size, _ = samples.images.shape
    with distributed.local_rank_zero_first("training and held-out images"):
        references = open_references(*places, size, channels, trained_on, options=read_as)
    require_data_of_run(request, references[0])
    sets = Sets(samples, *references, generator, request.groups or groups_of(trained_on, places))
    for side in sets.opened().values():
        if len(side.images) < 2:
            raise InputError(f"{side.where} holds 1 image: give at least 2")
    return sets


def given_samples(request: Request) -> Any:
    """The samples, or what makes them; of a checkpoint the module that it holds."""
    given = request.samples
    if request.is_checkpoint:
        given = load_module(Path(given), ("sample", "sample_text"), "generator")
        given = given.to(default_device()).eval()
    if isinstance(given, str):
        require_no_file_name(given)
    if callable(getattr(given, "sample_text", None)) and not hasattr(given, "sample"):
        raise InputError(f"--samples is a {type(given).__name__}, which writes: give --kind text")
    return given


def open_samples(request: Request, given: Any) -> tuple[Opened, ImageGenerator | None]:
    """Samples read, or drawn from a generator; and that generator, if it is a module."""
    n, seed = request.num_samples or NUM_SAMPLES, request.seed
    if callable(getattr(given, "sample", None)):
        require_method(given, "sample", 1)
        if request.classifier:
            require_styles(given, "--classifier")
            load_labeller(request.classifier)  # fail early if it is missing
        generator = cast(ImageGenerator, given)
        where = request.samples if request.is_checkpoint else type(given).__name__
        with evaluating(given):
            images = draw_samples(generator, n, seed)
        if images.shape[2] != images.shape[3]:  # cut to a square, as samples that are read
            images = open_images(images.numpy(), "samples").images[:]
        return Opened(where, ImageArray(images), None), generator
    if isinstance(given, str) and given.endswith(SUFFIX):
        model = OnnxGenerator(given)
        return Opened(given, ImageArray(draw_samples(model, n, seed)), None, is_array=True), model
    if is_function_name(given) or is_function(given):
        where = given if isinstance(given, str) else function_name(given)
        function = named_function(given) if isinstance(given, str) else given
        images = draw_samples(_Function(function, where), n, seed, BLOCK if n > BLOCK else n)
        return Opened(where, ImageArray(images), None, is_array=True), None
    if request.num_samples is not None:
        raise InputError("--num-samples is of generators: leave it out, all samples are judged")
    if isinstance(given, Arrived):
        opened = open_images(given.files, "samples", options=reading(request))
        return opened._replace(where=given.folder), None
    return open_images(given, "samples", options=reading(request)), None


def is_function(data: Any) -> bool:
    """True of what makes samples when it is called, and holds none."""
    is_data = hasattr(data, "__getitem__") or hasattr(data, "__iter__")
    return callable(data) and not isinstance(data, nn.Module) and not is_data


class _Function:
    """A function of n and seed as a generator."""

    def __init__(self, function: Draw, name: str) -> None:
        self.function, self.name = function, name

    def sample(
        self, n: int, *, seed: int | None = None, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        made = called(self.function, n, seed or 0, self.name)
        try:
            images = open_images(made, "samples").images[:]
        except NovumError as error:
            raise InputError(f"--samples {self.name}: {error}") from error
        if len(images) != n:
            raise InputError(
                f"--samples {self.name}: asked for {n} images it returned {len(images)}"
            )
        return images


def require_tables(options: Request) -> None:
    """Raise InputError for options of tables where no set is one."""
    given = {"--image-column": options.image_column, "--split": options.split}
    given = [name for name, value in given.items() if value]
    places = (options.samples, options.train, options.heldout)
    if not given or not all(isinstance(place, str | None) for place in places):
        return
    if any(map(is_hub, places)):
        return
    paths = [Path(place).expanduser() for place in places if place]
    if not any(holds_tables(path, True) for path in paths if path.exists()):
        raise InputError(f"{' and '.join(given)}: no set is a table or an archive; leave it out")


def reading(options: Request) -> Reading:
    """Options that all sets are read with."""
    return Reading(
        options.follow_links,
        options.image_column,
        options.split,
        options.on_bad_image == "skip",
        options.groups,
    )


def data_of_run(options: Request) -> dict[str, Any] | None:
    """Arguments of the data that the checkpoint's run was trained on; None if unknown."""
    from novum.datamodules.images import ImageDataModule

    given = (options.train, options.heldout, options.groups)
    typed = [place for place in given if isinstance(place, str)]
    try:
        return arguments_of_run(Path(options.samples), ImageDataModule, typed)
    except Untrusted as error:
        if options.train is None or options.heldout is None:
            raise
        rank_zero_warn(f"not used: {error}")
        return None


def reference_places(options: Request, trained_on: dict[str, Any] | None) -> tuple[Any, Any]:
    """Places of training and held-out images: as given, else as the checkpoint's run says.

    A built-in set that is given alone brings its own held-out images.
    """
    known = (trained_on.get("path") or trained_on.get("dataset")) if trained_on else None
    train = known if options.train is None else options.train
    heldout = options.heldout
    for side, place in (("train", train), ("heldout", heldout)):
        if is_function_name(place):
            raise InputError(f"--{side} {place} is a function, which --samples alone may be")
    if heldout is None and is_bundle(train):
        heldout = train if "heldout" in open_bundle(train).sides else None
    elif heldout is None:
        heldout = known
    if train is None:
        raise InputError("--train is needed: the images that the generator was trained on")
    if heldout is None and options.ask_heldout:
        raise InputError(
            "--heldout is needed: images like those of --train, but never trained on; or none"
        )
    if heldout is None and isinstance(train, str) and train in FIXED:
        heldout = train
    return train, None if isinstance(heldout, str) and heldout == "none" else heldout


def require_data_of_run(request: Request, train: Opened) -> None:
    """Raise InputError for a bundle of another set than the checkpoint's run was trained on."""
    images = train.images
    if not request.is_checkpoint or not isinstance(images, BundledImages):
        return
    data = read_record(Path(request.samples).parent.parent).get("data")
    known = data.get("train") if isinstance(data, dict) else None
    if not isinstance(known, str) or known.startswith("names"):
        return
    if images.described.get("of_pixels") and known != images.fingerprint:
        raise InputError(
            f"{train.where} is of another set ({images.fingerprint[:12]}) than the run of"
            f" {request.samples} was trained on ({known[:12]}): give the bundle of that set"
        )


def groups_of(trained_on: dict[str, Any] | None, places: tuple[Any, Any]) -> str | None:
    """Groups that the run's data was split by, if it is what samples are held against."""
    if trained_on is None:
        return None
    known = (trained_on.get("path"), trained_on.get("dataset"), None)
    if not all(isinstance(place, str | None) and place in known for place in places):
        return None
    return trained_on.get("groups")


def draw_samples(
    generator: ImageGenerator, n: int, seed: int, block_size: int = BLOCK
) -> torch.Tensor:
    """n samples of a generator; seed 0 draws those that training judged."""
    own = distributed.shard(-(-n // block_size))
    blocks = progress(range(own.start, own.stop), "sampling", unit_scale=block_size, leave=False)
    # torch's CPU generator reads the low 32 bits of a seed alone, so others are hashed
    seeds = (derived_seed(seed, block) if seed else block for block in blocks)
    images: list[torch.Tensor] = []
    for s in seeds:
        images.append(generator.sample(block_size, seed=s).cpu())
        if len(images) == 1:  # with the copy that joins the blocks
            size = 2 * n * images[0].nbytes / max(1, len(images[0]))
            require_memory(size, f"drawing {n:,} samples", "give a smaller --num-samples")
    drawn = torch.cat(images) if images else torch.empty(0)
    return distributed.all_gather_rows(drawn, "samples")[:n]
