"""Sampling from latents, for every module that keeps an averaged generator."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from novum.core.pixels import signed_to_uint8
from novum.core.seeds import derived_seed, random_generator
from novum.lightning_modules.module import Module
from novum.lightning_modules.training_utils import require_labels

SAMPLE_CHUNK = 64  # images the generator makes at once


class UInt8Images(nn.Module):
    """A generator as one graph: z (n, latent_dim)[, labels (n,)] -> uint8 images (n, c, h, w).

    Args:
        images: (z[, labels]) -> images in [-1, 1].
    """

    def __init__(self, images: nn.Module) -> None:
        super().__init__()
        self.images = images

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return signed_to_uint8(self.images(z) if labels is None else self.images(z, labels))


class LatentSampling(Module):
    """Samples and predictions of `ema`: a network (z[, labels]) -> images in [-1, 1]."""

    ema: nn.Module  # has latent_dim and num_classes
    predict_samples: int
    seed: int

    @property
    def latent_dim(self) -> int:
        return cast(int, self.ema.latent_dim)

    @property
    def num_classes(self) -> int:
        return cast(int, self.ema.num_classes)

    @property
    def ema_dtype(self) -> torch.dtype:
        return next(self.ema.parameters()).dtype

    def averages(self) -> Iterable[Tensor]:
        return (*self.ema.parameters(), *self.ema.buffers())

    def sample_latents(self, n: int, *, seed: int | None = None) -> Tensor:
        """n latents (n, latent_dim), a function of the seed alone; fresh ones without a seed."""
        shape, generator = (n, self.latent_dim), random_generator(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Latents (n, latent_dim) -> uint8 images (n, c, h, w).

        Without labels a class-conditional generator goes through the classes in turn.
        """
        self.ema.eval()  # its batch norms use running statistics, always
        labels = self._labels_of(len(latents), labels)
        return self._in_chunks(lambda z, y: signed_to_uint8(self.ema(z, y)), latents, labels)

    def _labels_of(self, n: int, labels: Tensor | None) -> Tensor | None:
        if not self.num_classes:
            return None
        if labels is None:
            return torch.arange(n) % self.num_classes
        require_labels(labels, self.num_classes)
        return labels.long()

    def _in_chunks(
        self, function: Callable[..., Tensor], first: Tensor, *others: Tensor | None
    ) -> Tensor:
        """function(*rows) in chunks of one size, as the last bit varies with the batch size."""
        n = len(first)
        missing = -n % SAMPLE_CHUNK

        def chunks(x: Tensor | None) -> Sequence[Tensor | None]:
            if x is None:
                return [None] * ((n + missing) // SAMPLE_CHUNK)
            padded = F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing))
            dtype = self.ema_dtype if x.is_floating_point() else x.dtype
            return padded.to(self.device, dtype).split(SAMPLE_CHUNK)

        return torch.cat([function(*c) for c in zip(*map(chunks, (first, *others)), strict=True)])[
            :n
        ]

    def sample(self, n: int, *, seed: int | None = None, labels: Tensor | None = None) -> Tensor:
        """n uint8 images (n, c, h, w) on the module's device; the same for the same seed."""
        return self.decode(self.sample_latents(n, seed=seed), labels=labels)

    def image_network(self) -> nn.Module:
        """A network (z[, labels]) -> images in [-1, 1], all that `sample` does with latents."""
        return self.ema

    def predict_dataloader(self) -> DataLoader:
        """(first, number) of each chunk of samples that `predict` makes, dealt to the ranks."""
        n = self.predict_samples
        chunks = [(i, min(SAMPLE_CHUNK, n - i)) for i in range(0, n, SAMPLE_CHUNK)]
        mine = chunks[self.global_rank :: self.trainer.world_size]
        return DataLoader(cast("Dataset[tuple[int, int]]", mine), batch_size=None)

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> Tensor:
        first, n = batch
        return self.sample(n, seed=derived_seed(self.seed, first))
