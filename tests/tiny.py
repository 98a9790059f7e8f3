"""Tiny data and networks: 8x8 images, width 8."""

import itertools

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor

from novum.lightning_modules import GAN, FlowMatching, StyleGAN
from novum.lightning_modules.adversarial_training import AlternatingTraining
from novum.lightning_modules.networks import (
    Backbone,
    DCGANDiscriminator,
    DCGANGenerator,
    StyleGANDiscriminator,
    StyleGANGenerator,
    UNet,
)


class TinyImages(LightningDataModule):
    """Random 8x8 gray images in an order that is a function of the step."""

    def __init__(self, batch_size: int = 8, num_classes: int = 0) -> None:
        super().__init__()
        self.batch_size, self.num_classes = batch_size, num_classes

    def _batches(self):
        done = (
            self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0
        )
        for step in itertools.count(done):
            generator = torch.Generator().manual_seed(step)
            shape = (self.batch_size, 1, 8, 8)
            batch = {"image": torch.rand(shape, generator=generator) * 2 - 1}
            if self.num_classes:
                batch["label"] = torch.arange(self.batch_size) % self.num_classes
            yield batch

    def train_dataloader(self):
        return _Endless(self._batches)

    def val_dataloader(self):
        return [next(self._batches())]


class _Endless:
    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self._make()


def tiny_gan(num_classes: int = 0, batch_norm: bool = True, **settings) -> GAN:
    torch.manual_seed(0)
    return GAN(
        DCGANGenerator(8, 1, latent_dim=4, width=8, num_classes=num_classes),
        DCGANDiscriminator(8, 1, width=8, num_classes=num_classes, batch_norm=batch_norm),
        **settings,
    )


def tiny_stylegan(num_classes: int = 0, **settings) -> StyleGAN:
    torch.manual_seed(0)
    shape = dict(image_size=8, channels=1, width=4, max_width=8, num_classes=num_classes)
    return StyleGAN(
        StyleGANGenerator(**shape, latent_dim=4, w_dim=4, mapping_layers=2),
        StyleGANDiscriminator(**shape),
        **settings,
    )


def tiny_flow(num_classes: int = 0, **settings) -> FlowMatching:
    torch.manual_seed(0)
    network = UNet(8, 1, num_classes, width=8, multipliers=(1, 2), blocks=1, attention=(4,))
    return FlowMatching(network, **settings)


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """The network with weights moved at random, so that what begins at zero is not."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def small_backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("efficientnet_lite0", "none")


def tiny_trainer(tmp_path, **settings) -> Trainer:
    defaults = dict(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        max_steps=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
        use_distributed_sampler=False,
        log_every_n_steps=1,
        limit_val_batches=0,
    )
    return Trainer(**{**defaults, **settings})


def train_tiny(
    tmp_path, gan: AlternatingTraining | None = None, ckpt_path: str | None = None, **settings
) -> AlternatingTraining:
    gan = gan if gan is not None else tiny_gan()
    trainer = tiny_trainer(tmp_path, **settings)
    trainer.fit(gan, TinyImages(num_classes=gan.num_classes), ckpt_path=ckpt_path)
    return gan


def states_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
