"""Linear separability: how well hyperplanes separate attributes in latent space?"""

import math
from typing import Any

import torch
from torch import Tensor

from novum.core.errors import InputError, NotComputable
from novum.metrics.record import Measure, Metric


def linear_separability(latents: Tensor, probabilities: Tensor, *, keep: float = 0.5) -> float:
    """2^(sum over attributes of H(Y | X)), 1 at best (Karras et al., 2019, section 4.2).

    Each class against the rest is an attribute: the images whose label is surest are kept, a linear
    SVM learns that label from their latents, and H is the entropy in bits of the label given the
    SVM's side. Any labeller will do, such as our Classifier's `classify`.

    Args:
        latents: Of the images (n, d), in whatever space is judged.
        probabilities: Of the classes (n, k) of the same images.
        keep: Share of the images kept for each attribute.

    Raises:
        InputError: If the shapes do not fit, or there is no second class among the labels.
    """
    if latents.ndim != 2 or probabilities.ndim != 2 or len(latents) != len(probabilities):
        raise InputError(
            f"separability takes latents (n, d) and probabilities (n, k), got"
            f" {tuple(latents.shape)} and {tuple(probabilities.shape)}"
        )
    classes = range(probabilities.shape[1] if probabilities.shape[1] > 2 else 1)
    entropies = [_conditional_entropy(latents, probabilities[:, i], keep) for i in classes]
    found = [entropy for entropy in entropies if entropy is not None]
    if not found:
        raise NotComputable(
            "separability: all images have the same label; is the labeller trained?"
        )
    return 2.0 ** sum(found)


def _conditional_entropy(latents: Tensor, probability: Tensor, keep: float) -> float | None:
    """H(class | side of the best hyperplane) in bits; None if all have one label."""
    from sklearn.svm import LinearSVC

    surest = (probability - 0.5).abs().argsort(descending=True, stable=True)
    surest = surest[: max(2, round(len(surest) * keep))]
    x = latents[surest].double().cpu().numpy()
    y = (probability[surest] > 0.5).cpu()
    if bool(y.all()) or not bool(y.any()):
        return None
    svm: Any = LinearSVC().set_params(dual=False)
    side = torch.from_numpy(svm.fit(x, y.numpy()).predict(x))
    return sum(_entropy(y[side == s]) * float((side == s).double().mean()) for s in (False, True))


def _entropy(labels: Tensor) -> float:
    """Entropy of booleans in bits; 0 if there are none."""
    p = float(labels.double().mean()) if len(labels) else 0.0
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


MEANING = "How hard it is to tell labels apart by a hyperplane of the latent space; 1 at best."
MEASURES = (
    Measure(
        (
            Metric(
                "separability_z",
                "Separability in z",
                MEANING,
                better="lower; 1 at best",
                direction="lower",
            ),
            Metric(
                "separability_w",
                "Separability in w",
                MEANING,
                better="lower; in w than in z",
                direction="lower",
            ),
        ),
        position=120,
    ),
)
