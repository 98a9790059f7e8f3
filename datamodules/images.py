"""Images for training, and the held-out ones that novelty is measured against."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from novum.core import memory
from novum.core.errors import InputError
from novum.core.lightning_compat import batches_done, counts_epochs, overfits, overfitted
from novum.datamodules.dataloaders import Batch, Batches, CountedBatches, cut, transferred
from novum.datamodules.groups import cut_groups, read_groups
from novum.datamodules.halves import Deal, Half, check_half, deal, image_units
from novum.datamodules.sampler import InfiniteSampler
from novum.datamodules.sources import builtin_datasets as loaders
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.decode_all import decode_all, drop_bad, fits
from novum.datamodules.sources.image_sources import ImageArray, ImageSource, LazyImages
from novum.datamodules.sources.raw_images import RawSet
from novum.datamodules.sources.survey import Survey, Surveyed, survey
from novum.datamodules.streaming.image_stream import ImageStream


class Surveys(NamedTuple):
    """Surveys of the two sides; `heldout` is None if it is cut from `train`."""

    train: Surveyed
    heldout: Surveyed | None = None


class ImageDataModule(LightningDataModule):
    """Images of one size as uint8 batches, in an endless order that any batch can be entered at.

    Args:
        dataset: digits, mnist, fashion_mnist, cifar10, celeba, folder or huggingface.
        path: Where the files are; for huggingface a hub name (`name` or `name:config`) or a local
            file or folder. Not needed for sets that are embedded, installed or downloaded.
        image_size: Height and width; other sizes are cropped to a square and resized.
        channels: 1 for gray, 3 for RGB; null for RGB if any image is in colour.
        batch_size: Images per process and step.
        heldout_fraction: Share of images kept from training where the data has no test split.
        split_seed: Decides which images are held out, and which are in the subset.
        subset: Train on this many images only; null for all.
        horizontal_flip: Mirror every other training image, at random.
        memory_budget_gb: A set that fits is decoded once and stays in memory.
        num_workers: Processes that read a set that does not fit.
        on_bad_image: Stop at an image that cannot be read, or skip all such images.
        image_column: For huggingface; null finds it.
        label_column: For huggingface (null finds it), or the attribute of celeba.
        split: For huggingface: the split to train on.
        streaming: For huggingface: read parquet and tar shards where they lie, a part at a time.
        seed: Decides the order of the training images, and the flips.
        follow_links: Follow links that lead out of the folder of the data; else they are left out.
        predict_path: Images that `predict` of a classifier labels, a folder or tables; null for the
            held-out ones.
        groups: Images that are held out together: a CSV file of image and group, or a pattern that
            is searched for in the names of images.
        half: Train on one half of the training images, a or b, and hold out the other, as the two
            runs of `fit --twin` do; groups and equal images are in one half; null for all.
    """

    def __init__(
        self,
        dataset: str = "digits",
        path: str | None = None,
        image_size: int = 32,
        channels: int | None = None,
        batch_size: int = 64,
        heldout_fraction: float = 0.2,
        split_seed: int = 0,
        subset: int | None = None,
        horizontal_flip: bool = False,
        memory_budget_gb: float = 4.0,
        num_workers: int = 0,
        on_bad_image: Literal["error", "skip"] = "error",
        image_column: str | None = None,
        label_column: str | None = None,
        split: str | None = None,
        streaming: bool = False,
        seed: int = 0,
        follow_links: bool = False,
        groups: str | None = None,
        predict_path: str | None = None,
        half: Half | None = None,
    ) -> None:
        super().__init__()
        loaders.check_name(dataset)
        _check_least(1, image_size=image_size, batch_size=batch_size, subset=subset)
        _check_least(0, memory_budget_gb=memory_budget_gb, num_workers=num_workers)
        _check_choice("channels", channels, (1, 3, None))
        _check_choice("on_bad_image", on_bad_image, ("error", "skip"))
        if not 0 < heldout_fraction < 1:
            raise InputError(f"heldout_fraction is {heldout_fraction}: it must lie between 0 and 1")
        if dataset != "huggingface" and (image_column or split or streaming):
            raise InputError("image_column, split and streaming are for dataset: huggingface")
        if label_column and dataset not in ("huggingface", "celeba"):
            raise InputError("label_column is for dataset: huggingface or celeba")
        if streaming and (subset or not path):
            raise InputError("streaming needs a path, and takes no subset")
        check_half(half)
        if streaming and half:
            raise InputError("half is not for streaming: twins need data that is dealt by item")
        if streaming and groups:
            raise InputError("groups are not for streaming, which holds out image by image")
        self.dataset, self.path = dataset, path
        self.image_size, self.batch_size = image_size, batch_size
        self.heldout_fraction, self.split_seed, self.subset = heldout_fraction, split_seed, subset
        self.horizontal_flip, self.num_workers, self.seed = horizontal_flip, num_workers, seed
        self.memory_budget, self.skip_bad = memory_budget_gb * 1e9, on_bad_image == "skip"
        self.columns, self.follow_links = (image_column, label_column, split), follow_links
        self.groups, self.predict_path, self.half = groups, predict_path, half
        self._dealt: Deal | None = None
        self._units: dict[int | str, int] = {}  # unit of each dealt image
        self._surveys: Surveys | None = None
        self.surveys: dict[str, Survey] = {}  # of the rows of each side; none of a stream
        self._train: ImageSource | None = None
        self._heldout: ImageSource | None = None
        self._asked: ImageSource | None = None  # images of predict_path
        self._stream = self._open_stream(channels) if streaming else None
        self.channels = channels or self._native_channels()
        self.num_classes = self._count_classes()

    def __str__(self) -> str:
        return type(self).__name__  # Lightning's opens every loader; jsonargparse asks for it

    def _open_stream(self, channels: int | None) -> ImageStream:
        return ImageStream(
            str(self.path),  # checked: a stream has one
            *self.columns,
            self.image_size,
            channels,
            self.heldout_fraction,
            self.split_seed,
            self.skip_bad,
            self.follow_links,
        )

    def _native_channels(self) -> int:
        """Known before anything is downloaded, for the sets that are downloaded."""
        if self._stream:
            return self._stream.transform.channels
        if self.dataset in loaders.FIXED:
            return loaders.FIXED[self.dataset][0]
        return max(side.pages.channels for side in self._open() if side)

    def _count_classes(self) -> int:
        if self._stream:
            return self._stream.num_classes
        if self.dataset == "celeba":
            return 2 if self.columns[1] else 0
        if self.dataset in loaders.FIXED:
            return loaders.FIXED[self.dataset][1]
        return max(side.raw.num_classes for side in self._open() if side)

    def _open(self) -> Surveys:
        if self._surveys is None:
            raw = loaders.load(self.dataset, self.path, *self.columns, self.follow_links)
            self._surveys = Surveys(*(survey(side, self.skip_bad) for side in raw if side))
        return self._surveys

    def native_shape(self) -> tuple[int, int, int] | None:
        """(c, h, w) of the training images as they are stored, of the commonest size; None for a
        stream."""
        if self._stream:
            return None
        known = self.surveys.get("train") or self._open().train
        return known.pages.shape

    def prepare_data(self) -> None:
        """Downloads, on one process of each machine."""
        if not self._stream and not self._train:
            self._open()

    def setup(self, stage: str | None = None) -> None:
        """Reads what fits in memory; a stream is read when it is asked for."""
        if stage == "predict" and self.predict_path:
            self.predict_reference()
            return
        if self._stream or self._train:
            return
        opened = self._open()
        train, heldout = self._cut_splits(opened)
        if fits((len(train) + len(heldout)) * self._image_bytes(), self.memory_budget):
            self._train, self._heldout = (decode_all(s, self.skip_bad) for s in (train, heldout))
        elif self.skip_bad:
            self._train, self._heldout = drop_bad(train), drop_bad(heldout)
        else:
            self._train, self._heldout = train, heldout
        unseen = opened.train if self.half else opened.heldout or opened.train
        self.surveys["train"] = opened.train.of(train, self._train)
        self.surveys["heldout"] = unseen.of(heldout, self._heldout)
        self._surveys = None  # frees the undecoded images of what is now in memory

    def _image_bytes(self) -> int:
        return self.channels * self.image_size**2

    def _cut_splits(self, opened: Surveys) -> tuple[LazyImages, LazyImages]:
        train, heldout = self._cut_sets(opened)
        if self.half is None:
            return train, heldout
        unit, kind, together = image_units(train, self.groups)
        self._dealt = deal(unit, np.bincount(unit), self.split_seed, kind, together)
        self._units = dict(zip(train.ids, unit.tolist(), strict=True))
        mine = torch.from_numpy(self._dealt.item_in_a == (self.half == "a"))
        return train.select(mine.nonzero()[:, 0]), train.select((~mine).nonzero()[:, 0])

    def dealt(self) -> Deal:
        """The units of `half`, of the images that can be read."""
        self.setup()
        if self._dealt is None:
            raise InputError("half is null: no halves are dealt")
        sides = [self.train_reference(), self.heldout_reference()]
        first, second = sides if self.half == "a" else sides[::-1]
        unit = np.array([self._units[name] for name in [*first.ids, *second.ids]])
        return self._dealt._replace(unit=unit)

    def _cut_sets(self, opened: Surveys) -> tuple[LazyImages, LazyImages]:
        """Training images and those held out of both halves."""
        train = self._lazy(opened.train.raw)
        if opened.heldout is None:
            train, heldout = self._cut_heldout(train)
        else:
            heldout = self._lazy(opened.heldout.raw)
            if self.groups:  # fail early if one is on both sides
                read_groups(self.groups, {"train": train, "heldout": heldout})
        if self.subset is None:
            return train, heldout
        if self.subset > len(train):
            raise InputError(f"subset is {self.subset}, but there are {len(train)} training images")
        chosen = _shuffled(len(train), self.split_seed)[: self.subset]
        return train.select(chosen.sort()[0]), heldout

    def _lazy(self, raw: RawSet) -> LazyImages:
        transform = ImageTransform(self.image_size, self.channels)
        return LazyImages(raw.rows, transform, raw.labels, raw.class_names)

    def _cut_heldout(self, images: LazyImages) -> tuple[LazyImages, LazyImages]:
        count = max(1, round(len(images) * self.heldout_fraction))
        if count >= len(images):
            raise InputError(f"{len(images)} images are too few to hold out {count} of them")
        if self.groups:
            held = cut_groups(self.groups, images.ids, count, self.split_seed)
            return images.select((~held).nonzero()[:, 0]), images.select(held.nonzero()[:, 0])
        order = _shuffled(len(images), self.split_seed)
        return images.select(order[count:].sort()[0]), images.select(order[:count].sort()[0])

    def train_reference(self) -> ImageSource:
        """The training images, not shuffled and not flipped (of a stream, the first that fit)."""
        self.setup()
        if self._train is None:
            assert self._stream is not None  # else setup has read the images
            self._train = self._stream.reference(False, self._fitting(1 - self.heldout_fraction))
        return self._train

    def heldout_reference(self) -> ImageSource:
        """Images that are never trained on (of a stream, the first that fit)."""
        self.setup()
        if self._heldout is None:
            assert self._stream is not None
            self._heldout = self._stream.reference(True, self._fitting(self.heldout_fraction))
        return self._heldout

    def predict_reference(self) -> ImageSource:
        """Images that `predict` labels."""
        if self.predict_path is None:
            return self.heldout_reference()
        if self._asked is None:
            from novum.datamodules.resolve_source import Reading, open_images

            how = Reading(self.follow_links, self.columns[0], skip_bad=self.skip_bad)
            size, channels = self.image_size, self.channels
            asked = open_images(self.predict_path, "samples", size, channels, options=how)
            self._asked = asked.images
        return self._asked

    def group_numbers(self) -> Tensor | None:
        """Number of the group of each training image, then of each held-out one; None without."""
        if not self.groups:
            return None
        sides = {"train": self.train_reference(), "heldout": self.heldout_reference()}
        return read_groups(self.groups, sides)

    def fingerprints(self) -> dict[str, str]:
        """Digest of either side: of the pixels in memory, else of names and sizes of what is read.

        A stream is read as it is trained on: it has the digest of its shards.
        """
        self.setup()
        if self._stream:
            return {"train": self._stream.identity()}
        sides = {"train": self.train_reference(), "heldout": self.heldout_reference()}
        return {
            k: v.fingerprint if isinstance(v, ImageArray) else f"names {cast(LazyImages, v).names}"
            for k, v in sides.items()
        }

    def _fitting(self, share: float) -> int:
        budget = min(self.memory_budget, memory.memory_bytes() / 2)
        return max(1, int(budget * share / self._image_bytes()))

    def train_dataloader(self) -> Batches:
        """Endless; of an epoch's length where the trainer's arguments are about epochs."""
        if not counts_epochs(self.trainer):
            return Batches(self._train_batches)
        return CountedBatches(self._train_batches, self._epoch_length())

    def _epoch_length(self) -> int:
        """Batches in which every training image is drawn."""
        size = len(self._stream.train) if self._stream else len(self.train_reference())
        world_size = self.trainer.world_size if self.trainer else 1
        return -(-size // (self.batch_size * world_size))

    def _train_batches(self) -> Iterator[Batch]:
        """Starts at the batch that the trainer has reached, which is the whole of exact resume."""
        rank, world_size, start = self._position()
        order = self.batch_size, self.seed, rank, world_size, start
        if self._stream:
            batches = self._stream.batches(*order, self.num_workers)
        else:
            source = self._on_device(self.train_reference())
            batches = cut(source, InfiniteSampler(len(source), *order), self.num_workers)
        for number, batch in enumerate(batches, start):
            if self.horizontal_flip:
                mirrored = self._flips(number, world_size)[rank::world_size]
                batch["flip"] = mirrored.nonzero().flatten()  # rows, counted before the device
            yield batch

    def _flips(self, batch: int, world_size: int) -> Tensor:
        """Mask of mirrored images of a global batch, a function of the seed and its number."""
        # a product, no shift: torch's CPU generator keeps the low 32 bits of a seed alone
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + batch)
        return torch.rand(self.batch_size * world_size, generator=generator) < 0.5

    def _position(self) -> tuple[int, int, int]:
        """Rank, number of ranks, and batches done (a checkpoint's loops know it on resume)."""
        if self.trainer is None:
            return 0, 1, 0
        done = batches_done(self.trainer)
        if overfits(self.trainer):
            done %= overfitted(self.trainer, self._epoch_length())
        return self.trainer.global_rank, self.trainer.world_size, done

    def _on_device(self, source: ImageSource) -> ImageSource:
        """Moves images to the GPU when they take at most half of its free memory."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cpu" or not isinstance(source, ImageArray):
            return source
        if source.images.numel() > memory.free_device_bytes(device) / 2:
            return source
        labels = None if source.labels is None else source.labels.to(device)
        return ImageArray(source.images.to(device), labels)

    def val_dataloader(self) -> CountedBatches:
        """Held-out images in their own order, each batch shared out by the ranks, each image once.

        So as many batches are the same images on any number of ranks, but for batches of fewer
        images than there are ranks: these have an image a rank.
        """
        world_size = self._position()[1]
        heldout = self.heldout_reference()
        if len(heldout) < world_size:
            raise InputError(
                f"{len(heldout)} held-out images are too few for {world_size} processes: each"
                " needs one, so hold out more or take fewer"
            )
        indices = self._shares(len(heldout))
        return CountedBatches(lambda: cut(heldout, indices, self.num_workers), len(indices))

    def _shares(self, size: int) -> list[Tensor]:
        """Rows of the batches of this rank, in order."""
        rank, world_size, _ = self._position()
        batches = torch.arange(size).split(max(self.batch_size, world_size))
        shares = [batch[batch % world_size == rank] for batch in batches]
        return [share for share in shares if len(share)]

    def test_dataloader(self) -> CountedBatches:
        return self.val_dataloader()

    def predict_dataloader(self) -> CountedBatches:
        """Images that `predict` labels, each once, with their rows."""
        asked = self.predict_reference()
        indices = self._shares(len(asked))

        def batches() -> Iterator[Batch]:
            for batch, rows in zip(cut(asked, indices, self.num_workers), indices, strict=True):
                yield batch | {"row": rows}

        return CountedBatches(batches, len(indices))

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return transferred(batch, device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """To float32 in [-1, 1], and mirrored where the batch says so (training only)."""
        image, flip = batch["image"], batch.get("flip")
        if flip is not None:
            image = image.index_put((flip,), image.index_select(0, flip).flip(-1))
        rest = {key: value for key, value in batch.items() if key not in ("image", "flip")}
        return {"image": (image / 127.5).sub_(1), **rest}


def _shuffled(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def _check_choice(name: str, value: object, choices: tuple) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value}: choose from {', '.join(map(str, choices))}")


def _check_least(least: int, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise InputError(f"{name} is {value}: it must be at least {least}")
