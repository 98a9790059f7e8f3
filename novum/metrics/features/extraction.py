"""The pass over images that extracts features, and the images it takes."""

import hashlib
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from novum.core import distributed
from novum.core.bars import progress as show_progress
from novum.core.devices import place, to_device
from novum.core.errors import InputError
from novum.core.memory import free_bytes, require_memory
from novum.core.precision import full_precision
from novum.core.resampling import resize_antialiased

# images per forward whatever the batch size: kernels order sums by the shape
MICRO_BATCH = 32
DEVICE_MICRO_BATCH = 256  # on a GPU, which fewer would not fill
COPIES = 4  # of the images in float32 that resizing and what follows hold at a time
LARGE = 2**28  # bytes; asking takes longer than resizing to less


class Images(Protocol):
    """uint8 images by slice; a tensor is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...  # uint8 (k, c, h, w)


def extract_features(
    extractor: nn.Module,
    source: Images,
    batch_size: int = 256,
    *,
    progress: bool = True,
    device: torch.device | str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """float32 (n, d) on the CPU, the same for every batch size; a bar appears after five seconds.

    `device` moves the extractor there; `out` is an (n, d) tensor to fill, such as a mapped file.
    """
    if not len(source):
        raise InputError("there are no images to extract features from")
    device = module_device(extractor if device is None else place(extractor, device))
    name = getattr(extractor, "name", type(extractor).__name__)
    with show_progress(
        total=len(source), doing=f"{name} features", unit="img", delay=5, disable=not progress
    ) as bar:
        at_once = micro_batch(device)
        step = -(-batch_size // at_once) * at_once  # only the last one needs padding
        for start in range(0, len(source), step):
            images = as_uint8(source[start : min(start + step, len(source))])
            features = batch_features(extractor, to_device(images, device))
            if out is None:
                out = _empty(len(source), features.shape[1], name)
            out[start : start + len(images)] = features
            bar.update(len(images))
    assert out is not None  # there is an image
    return out


def _empty(n: int, width: int, name: str) -> Tensor:
    """Rows (n, width) to fill, where memory has room for them."""
    what = f"a table of the {name} features of {n:,} images, {width:,} of each,"
    require_memory(4 * n * width, what, "judge fewer images, or by a space with fewer features")
    return torch.empty(n, width)


class _Part:
    """Some consecutive images of a source."""

    def __init__(self, source: Images, rows: slice) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def __getitem__(self, rows: slice) -> Tensor:
        return self.source[self.rows.start + rows.start : self.rows.start + rows.stop]


def extract_features_together(extractor: nn.Module, source: Images) -> Tensor:
    """`extract_features` by all ranks at once, each of a part: the same bits for any number."""
    device = module_device(extractor)
    part = _Part(source, distributed.shard(len(source), micro_batch(device)))
    if len(part):
        mine = extract_features(extractor, part, progress=distributed.is_rank_zero())
    else:
        mine = torch.empty(0)
    return distributed.all_gather_rows(mine, f"features of {len(source):,} images")


def as_uint8(images: Tensor) -> Tensor:
    """uint8 as it is; floats in [0, 1] to the nearest level (truncation would darken them)."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(f"images must be uint8 or floats in [0, 1], got {images.dtype}")
    low, high = (float(x) for x in images.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InputError(f"float images lie in [{low:.3g}, {high:.3g}]: rescale them to [0, 1]")
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def rgb(images: Tensor) -> Tensor:
    """Check uint8 (b, 1 or 3, h, w); a gray channel is repeated three times."""
    check_images(images)
    return images.expand(-1, 3, -1, -1)


def check_images(images: Tensor) -> None:
    """Raise ValueError unless the images are uint8 (b, 1 or 3, h, w)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        kind = str(images.dtype).removeprefix("torch.")
        shape = tuple(images.shape)
        raise InputError(f"extractors take uint8 images (n, 1 or 3, h, w), got {kind} {shape}")


def resize(images: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """Antialiased resize of float images to size x size, within [0, 255]."""
    if images.shape[-2:] == (size, size):
        return images
    needed = COPIES * 4 * images.shape[0] * images.shape[1] * size**2
    if needed > LARGE:
        free = partial(free_bytes, images.device)
        fits = int(size * min(1.0, free() / needed) ** 0.5)
        require_memory(needed, f"resizing {len(images)} images to {size} px",
                       f"give NAME@{fits} or less", free)  # fmt: skip
    return resize_antialiased(images, (size, size), mode).clamp(0, 255)


def fingerprint(source: Any) -> str:
    """Identify the contents of a set of images: its own `fingerprint`, or a sha256.

    Those of a reference bundle have a `cache_name` that tells them from the images themselves.
    """
    known = getattr(source, "cache_name", None) or getattr(source, "fingerprint", None)
    if known is not None:
        return str(known)
    digest = hashlib.sha256()
    for start in range(0, len(source), 1024):
        block = torch.as_tensor(source[start : min(start + 1024, len(source))]).cpu().contiguous()
        if not start:
            digest.update(f"{len(source)} {tuple(block.shape[1:])} {block.dtype}".encode())
        digest.update(block.numpy().data)
    return digest.hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Twelve hex digits of the sha256 of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def module_device(module: nn.Module) -> torch.device:
    """Device of a module's tensors; a module without any runs on the CPU."""
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


def micro_batch(device: torch.device) -> int:
    """Images per forward on a device."""
    return MICRO_BATCH if device.type == "cpu" else DEVICE_MICRO_BATCH


@torch.inference_mode()
def batch_features(extractor: nn.Module, images: Tensor) -> Tensor:
    """float32 features (b, d) of uint8 images (b, c, h, w), on their device.

    By forwards of one shape, the last one padded with copies of its first image, and in float32
    whatever the caller allows (TF32, autocast).
    """
    parts, at_once = [], micro_batch(images.device)
    with full_precision(images.device):
        for part in images.split(at_once):
            missing = at_once - len(part)
            padded = torch.cat([part, part[:1].expand(missing, -1, -1, -1)]) if missing else part
            found = extractor(padded)
            found = found[0] if isinstance(found, tuple) else found  # any module will do
            parts.append(found[: len(part)])
        return torch.cat(parts).float()
