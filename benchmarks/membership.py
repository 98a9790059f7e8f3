"""Memorisation from inside against the number of training images, and copies beside it.

python benchmarks/membership.py

Digits: a small U-Net by flow matching at 8 px, and a DCGAN without augmentation at 16 px,
each trained on 64, 256 and 1,024 images and on all of them.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from _tables import show
from pytorch_lightning import Callback, LightningModule, Trainer

from novum.callbacks import MembershipInference, NearestNeighbours
from novum.core.protocols import seen
from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN, FlowMatching, Heun
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator, UNet
from novum.report.model import Estimate

SIZES = (64, 256, 1024, None)
STEPS = {"flow": (1200, 300), "gan": (1000, 250)}  # and between evaluations
SAMPLES = 500


def flow() -> FlowMatching:
    network = UNet(8, 1, 10, width=16, multipliers=(1, 2), blocks=1, attention=(4,))
    return FlowMatching(network, sampler=Heun(8), lr=2e-3, likelihood_images=0)


def gan() -> GAN:
    return GAN(DCGANGenerator(16, 1, latent_dim=128, width=32), DCGANDiscriminator(16, 1, width=32))


TECHNIQUES = {"flow": (flow, 8), "gan": (gan, 16)}


class Rows(Callback):
    """A row for each evaluation."""

    def __init__(
        self,
        technique: str,
        size: int | None,
        inside: MembershipInference,
        judge: NearestNeighbours,
    ) -> None:
        self.inside, self.judge = inside, judge
        self.start = {"technique": technique, "images": size or "all"}
        self.rows: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        inside, judged = self.inside.found, self.judge.found
        assert inside is not None and inside.membership is not None and judged is not None
        found = inside.membership
        self.rows.append(
            self.start
            | {"seen": seen(pl_module), "AUC": _percent(found.auc)}
            | {"less the first's": _percent(found.calibrated_auc), "p": found.p}
            | {"stand out": f"{len(found.known)} of {found.train_items}"}
            | {"copies": f"{len(judged.copies or ())} of {SAMPLES}"}
            | {"finding": judged.verdict.finding.value}
        )


def _percent(auc: Estimate | None) -> str:
    return "" if auc is None else f"{auc.value:.1%} ({auc.low:.1%} to {auc.high:.1%})"


def trained(technique: str, size: int | None) -> Iterator[dict[str, Any]]:
    """Train, and yield the rows of all evaluations."""
    build, pixels = TECHNIQUES[technique]
    steps, every = STEPS[technique]
    inside = MembershipInference()
    judge = NearestNeighbours(features=("pixels",), num_samples=SAMPLES)
    rows = Rows(technique, size, inside, judge)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, max_steps=steps, default_root_dir=folder,
            val_check_interval=every, check_val_every_n_epoch=None, limit_val_batches=1,
            num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            gradient_clip_val=1.0 if technique == "flow" else None,
            callbacks=[judge, inside, rows],
        )  # fmt: skip
        trainer.fit(build(), ImageDataModule("digits", image_size=pixels, subset=size))
    yield from rows.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--techniques", nargs="+", default=list(TECHNIQUES), choices=TECHNIQUES)
    parser.add_argument("--output", default="membership.json")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    rows = []
    for technique in options.techniques:
        for size in SIZES:
            for row in trained(technique, size):
                print(*row.values(), sep="  ", flush=True)
                rows.append(row)
    show("Memorisation from inside", rows, options.output)


if __name__ == "__main__":
    main()
