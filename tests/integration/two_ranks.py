"""Run by test_training_ranks.py: a tiny StyleGAN on one rank or two, whose random numbers are those
of one rank, so that two differ from one in the order of sums alone.

    python two_ranks.py FOLDER DEVICES STEPS [CHECKPOINT]
"""

import os
import sys
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny import TinyImages

from novum.core.seeds import derived_seed
from novum.lightning_modules import AdaptiveAugment, StyleGAN
from novum.lightning_modules.networks import StyleGANDiscriminator, StyleGANGenerator

folder, devices, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rank = int(os.environ.get("LOCAL_RANK", 0))
draw = torch.randn


def own_rows(*shape, **options):
    """This rank's share of what one rank would draw for the whole batch."""
    if "generator" in options:  # latents, which are drawn for the whole batch
        return draw(*shape, **options)
    n, *rest = shape[0] if not isinstance(shape[0], int) else shape
    return draw(n * devices, *rest, **options)[rank::devices]


def as_one_rank(module):
    module._common = None
    torch.manual_seed(derived_seed(module.seed, module.global_step, 0))


class OwnImages(TinyImages):
    def _batches(self):
        for batch in super()._batches():
            yield {"image": batch["image"][rank::devices]}


torch.manual_seed(0)
shape = dict(image_size=8, channels=1, width=4, max_width=8)
gan = StyleGAN(
    StyleGANGenerator(**shape, latent_dim=4, w_dim=4, mapping_layers=2),
    StyleGANDiscriminator(**shape, group=0),  # a group's deviation is of one rank's images
    r1_interval=2,
    path_length_interval=2,
    augment=AdaptiveAugment(target=-2.0, interval=4, speed_kimg=0.1),
)
trainer = Trainer(
    accelerator="cpu",
    devices=devices,
    strategy="ddp" if devices > 1 else "auto",
    max_epochs=-1,
    max_steps=steps,
    logger=False,
    log_every_n_steps=0,  # the losses stay
    callbacks=[ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)],
    enable_progress_bar=False,
    enable_model_summary=False,
    default_root_dir=folder,
    use_distributed_sampler=False,
    limit_val_batches=0,
)
torch.randn = own_rows
torch.randn_like = lambda x, **options: own_rows(x.shape, dtype=x.dtype)
StyleGAN._seed_draws = as_one_rank
trainer.fit(gan, OwnImages(), ckpt_path=sys.argv[4] if len(sys.argv) > 4 else None)
losses = {
    name: torch.stack([loss for _, loss in values]) for name, values in gan.losses._losses.items()
}
torch.save({"state": gan.state_dict(), "losses": losses}, folder / f"rank{rank}.pt")
