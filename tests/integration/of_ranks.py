"""Trains each technique on 1, 2 and 4 gloo ranks: `python of_ranks.py FOLDER`.

Ranks are forked, so that torch is imported once. Rank r of w writes FOLDER/w-r.pt.
"""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from pytorch_lightning import Callback

from novum.datamodules import ImageDataModule, TextDataModule
from novum.lightning_modules import GAN, CharLSTM, CharTransformer, Classifier, DiffAugment
from novum.lightning_modules.networks import CausalTransformer, CharRNN, DCGANDiscriminator

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, not by pytest
from tiny import tiny_flow, tiny_gan, tiny_stylegan, tiny_trainer  # noqa: E402

STEPS, BATCH = 4, 8  # of all ranks together
WORLDS = (1, 2, 4)
TEXT = ("char_lstm", "char_transformer")


class Network(torch.nn.Module):
    """Classifies 8 x 8 digits without batch norms."""

    num_classes, image_size, channels = 10, 8, 1

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def forward(self, images):
        return self.layers(images)


class Generator(torch.nn.Module):
    """8 x 8 images without batch norms, whose statistics would be those of a rank."""

    latent_dim, num_classes = 4, 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh())

    def forward(self, z, labels=None):
        return self.layers(z).view(-1, 1, 8, 8)


class Record(Callback):
    """The losses of each step, and the numbers that a rank draws."""

    def __init__(self) -> None:
        self.losses, self.latents, self.crops, self.images = [], [], [], []

    def on_train_start(self, trainer, module):
        add = module.losses.add

        def kept(step, **losses):
            self.losses.append({name: float(loss) for name, loss in losses.items()})
            add(step, **losses)

        module.losses.add = kept
        if hasattr(module, "_latents"):
            latents = module._latents
            module._latents = lambda n: self.latents.append(latents(n)) or self.latents[-1]
        if hasattr(module, "_draws"):
            draws = module._draws
            module._draws = lambda images: self._kept(draws(images))
        if isinstance(getattr(module, "augment", None), DiffAugment):
            module.augment.register_forward_hook(self._crop)

    def _kept(self, drawn):
        self.latents.append(drawn[-1].flatten(1).clone())
        return drawn

    def _crop(self, augment, inputs, output):
        self.images.append(inputs[0].detach().clone())
        self.crops.append(output.detach().clone())


def techniques(world: int):
    """Name -> module and data, the batch of all ranks being the same for any number of them."""
    digits = {"dataset": "digits", "image_size": 8, "batch_size": BATCH // world}
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(8, 1, width=8, batch_norm=False)
    yield "gan", GAN(Generator(), discriminator), ImageDataModule(**digits)
    augmented = tiny_gan(batch_norm=False, augment=DiffAugment(color=False, cutout=0.0))
    yield "gan_augmented", augmented, ImageDataModule(**digits)
    yield "stylegan", tiny_stylegan(r1_interval=2), ImageDataModule(**digits)
    torch.manual_seed(0)
    yield "classifier", Classifier(Network()), ImageDataModule(**digits)
    text = TextDataModule("files", __file__, batch_size=BATCH // world, chunk_length=20)
    torch.manual_seed(0)
    lstm = CharLSTM(CharRNN(text.vocab_size, hidden_size=8), text.alphabet)
    yield "char_lstm", lstm, text
    windows = TextDataModule(
        "files", __file__, batch_size=BATCH // world, chunk_length=20, order="random", window=20
    )
    torch.manual_seed(0)
    network = CausalTransformer(windows.vocab_size, width=8, layers=2, heads=2, context=20)
    yield "char_transformer", CharTransformer(network, windows.alphabet), windows
    yield "flow_matching", tiny_flow(10, likelihood_images=8), ImageDataModule(**digits)


def train(folder: str, world: int, rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
                   "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
                   "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "x"}  # fmt: skip
    found = {}
    for name, module, data in techniques(world):
        record = Record()
        trainer = tiny_trainer(
            folder, max_steps=STEPS, devices=world, strategy="ddp", callbacks=[record],
            # as many images: a batch has at least one of each rank
            limit_val_batches=8 if name in TEXT else 8 * BATCH // max(BATCH // world, world),
            val_check_interval=STEPS, check_val_every_n_epoch=None,
            gradient_clip_val=0.5 if name in TEXT else None,
            gradient_clip_algorithm="value" if name in TEXT else None,
        )  # fmt: skip
        trainer.fit(module, data)
        found[name] = {
            "losses": record.losses,
            "latents": record.latents,
            "crops": record.crops,
            "images": record.images,
            "state": module.state_dict(),
            "validation": {k: float(v) for k, v in trainer.callback_metrics.items() if "val" in k},
        }
    torch.save(found, f"{folder}/{world}-{rank}.pt")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    for world in WORLDS:
        port = free_port()
        ranks = [
            fork.Process(target=train, args=(sys.argv[1], world, r, port)) for r in range(world)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        if any(rank.exitcode for rank in ranks):
            sys.exit(1)
