"""Robustness of a classifier under attack, and one attacked image."""

from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import EvaluationCallback, lacks, reference
from novum.callbacks.logging import log_metrics, log_picture
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.lightning_compat import fast_dev_run
from novum.core.protocols import AttackedClassifier, AttackedImage, seen
from novum.metrics.functional.intervals import wilson_interval
from novum.report.attack_figures import attack_figure, draw_class_flow, draw_robustness
from novum.report.pictures import encode, to_rgb

BATCH = 100  # images attacked at once


class Robustness(EvaluationCallback):
    """robustness/accuracy and robustness/class_flow of held-out images under FGSM.

    Scalars robustness/error/EPSILON and robustness/confidence/EPSILON (of the wrong answers). A
    network that without attack is not right more often than the commonest class is there has no
    such figures, and is said to have none.

    Args:
        epsilons: Radii for pixels in [0, 1]; all of them cost one backward pass.
        num_images: Held-out images attacked, the first ones.
    """

    def __init__(
        self,
        epsilons: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25),
        num_images: int = 1000,
    ) -> None:
        if not epsilons or not all(0 <= epsilon <= 1 for epsilon in epsilons):
            raise InputError(
                f"epsilons are {list(epsilons)}: pixels are in [0, 1], so each must be from 0 to 1"
            )
        self.epsilons, self.num_images = tuple(epsilons), num_images

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, AttackedClassifier):
            raise lacks(self, pl_module, "under_attack")
        heldout = reference(trainer, "heldout")
        n = min(self.num_images, len(heldout)) if not fast_dev_run(trainer) else 8
        labels = heldout.labels[:n].cpu()
        why = "" if fast_dev_run(trainer) else _no_better_than_chance(pl_module, heldout, labels)
        if why:
            return rank_zero_warn(f"robustness is not measured: {why}")
        epsilons = torch.tensor(self.epsilons)
        parts = [
            pl_module.under_attack(heldout[i : min(i + BATCH, n)], labels[i : i + BATCH], epsilons)
            for i in range(0, n, BATCH)
        ]
        confidence, answers = torch.cat(parts, 1).cpu().softmax(2).max(2)  # (k, n)
        wrong = answers != labels
        error = wrong.double().mean(1)
        sure = (confidence * wrong).sum(1) / wrong.sum(1).clamp_min(1)
        log_metrics(trainer, pl_module, _scalars("error", self.epsilons, error.tolist()))
        log_metrics(trainer, pl_module, _scalars("confidence", self.epsilons, sure.tolist()))
        names = heldout.class_names or [str(i) for i in range(parts[0].shape[2])]
        # the flow at the smallest epsilon that turns half of the images, or at the largest
        shown = next((i for i, e in enumerate(error) if e >= 0.5), len(self.epsilons) - 1)
        flow = torch.zeros(len(names), len(names), dtype=torch.long)
        flow.index_put_((labels, answers[shown]), torch.tensor(1), accumulate=True)
        curve = (self.epsilons, (1 - error).tolist(), sure.tolist())
        matrix, epsilon, step = flow.numpy(), self.epsilons[shown], pl_module.images_seen
        log_picture(trainer, "robustness/accuracy", lambda: draw_robustness(*curve), step)
        log_picture(
            trainer,
            "robustness/class_flow",
            lambda: draw_class_flow(matrix, names, f"FGSM, epsilon {epsilon:g}"),
            step,
        )


class AttackFigure(EvaluationCallback):
    """samples/attack: the image | the change, enlarged | the attacked image, each as it is seen.

    The last caption is of the image in 8 bits, as its PNG will be. At the end of a run the figure
    is beside it.
    """

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        picture, _ = self._figure(cast(AttackedImage, pl_module))
        log_picture(trainer, "samples/attack", lambda: encode(picture), seen(pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        picture, captions = self._figure(cast(AttackedImage, pl_module))
        print("\n".join(captions))
        if not fast_dev_run(trainer) and trainer.is_global_zero:
            path = Path(trainer.log_dir or ".") / "attack.png"
            picture.save(path)
            print(f"Figure:      {path}")

    def _figure(self, module: AttackedImage) -> tuple[Image.Image, list[str]]:
        clean, attacked = module.clean[:1].cpu(), module.images().cpu()
        stored = (attacked * 255).round() / 255
        names, sure = module.classify(torch.cat([clean, attacked, stored]))
        change = attacked - clean
        most = float(change.abs().max())
        captions = [f"{n}, {c:.1%}" for n, c in zip(names, sure, strict=True)]
        captions[2] = f"in 8 bits: {captions[2]}"
        gain = 0.5 / max(most, 1e-9)
        shown = torch.cat([clean, change * gain + 0.5, attacked])
        pixels = to_rgb((shown * 255).round().clamp(0, 255).to(torch.uint8))
        headings = ["image", f"change x {gain:.0f}, at most {most:.4f}", "attacked"]
        below = [[captions[0]], [f"length {float(change.norm()):.3g}"], captions[1:]]
        return attack_figure(pixels, headings, below), captions


def _no_better_than_chance(model: AttackedClassifier, images: Any, labels: Tensor) -> str:
    """Return why a network's answers are worth no attack; '' if they are."""
    n = len(labels)
    parts = [model.classify(images[i : min(i + BATCH, n)]).argmax(1) for i in range(0, n, BATCH)]
    right = int((torch.cat(parts).cpu() == labels).sum())
    commonest = int(labels.bincount().max()) / n
    if commonest == 1 or wilson_interval(right, n).low > commonest:
        return ""
    return (
        f"of {n:,} held-out images {right / n:.0%} are named rightly without attack, and the"
        f" commonest class alone is {commonest:.0%} of them"
    )


def _scalars(name: str, epsilons: tuple[float, ...], values: list[float]) -> dict[str, float]:
    return {f"robustness/{name}/{e:g}": v for e, v in zip(epsilons, values, strict=True)}
