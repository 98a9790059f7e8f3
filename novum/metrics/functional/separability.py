"""Linear separability: how well hyperplanes separate attributes in latent space?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from novum.core.errors import InputError, NotComputable
from novum.metrics.functional.intervals import Interval
from novum.metrics.record import Measure, Metric

FOLDS = 5
RAREST = 10  # images of a label, for five parts that all have it
DRAWS = 1000  # of the bootstrap


def linear_separability(latents: Tensor, probabilities: Tensor, *, keep: float = 0.5) -> Interval:
    """2^(sum over attributes of H(Y | X)), 1 at best (Karras et al., 2019, section 4.2).

    Each class against the rest is an attribute: the images whose label is surest are kept, a linear
    SVM learns that label from their latents, and H is the entropy in bits of the label given the
    SVM's side. Any labeller will do, such as our Classifier's `classify`.

    Differs from the paper, whose SVM judges the images that it learnt from: as many images as there
    are dimensions are always separated so. Here it judges those that it did not, in five parts.

    Returns:
        The figure with its 95% interval, by a bootstrap of the images.

    Args:
        latents: Of the images (n, d), in whatever space is judged.
        probabilities: Of the classes (n, k) of the same images.
        keep: Share of the images kept for each attribute.

    Raises:
        InputError: If the shapes do not fit.
        NotComputable: If no attribute has 10 images with it and 10 without.
    """
    if latents.ndim != 2 or probabilities.ndim != 2 or len(latents) != len(probabilities):
        raise InputError(
            f"separability takes latents (n, d) and probabilities (n, k), got"
            f" {tuple(latents.shape)} and {tuple(probabilities.shape)}"
        )
    classes = range(probabilities.shape[1] if probabilities.shape[1] > 2 else 1)
    tables = [_sides_and_labels(latents, probabilities[:, i], keep) for i in classes]
    found = [table for table in tables if table is not None]
    if not found:
        raise NotComputable(
            f"separability: of {len(latents):,} images no label has {RAREST} with it and {RAREST}"
            " without; give more samples, or a trained labeller"
        )
    value = 2.0 ** sum(float(_conditional_entropy(table)) for table in found)
    random = np.random.default_rng(0)
    drawn = [random.multinomial(t.sum(), t.ravel() / t.sum(), DRAWS) for t in found]
    bits = sum(_conditional_entropy(x.reshape(-1, 2, 2)) for x in drawn)
    low, high = np.quantile(2.0**bits, (0.025, 0.975))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _sides_and_labels(
    latents: Tensor, probability: Tensor, keep: float
) -> NDArray[np.int64] | None:
    """Images (2, 2) by the side of hyperplanes learnt from others, and by label.

    None if too few have one of the labels.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.svm import LinearSVC

    surest = (probability - 0.5).abs().argsort(descending=True, stable=True)
    surest = surest[: max(2, round(len(surest) * keep))]
    x = latents[surest].double().cpu().numpy()
    y = (probability[surest] > 0.5).cpu().numpy()
    if min(y.sum(), (~y).sum()) < RAREST:
        return None
    svm: Any = LinearSVC().set_params(dual=False)
    parts = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    side = np.asarray(cross_val_predict(svm, x, y, cv=parts), dtype=bool)
    return np.array([[((side == s) & (y == label)).sum() for label in (0, 1)] for s in (0, 1)])


def _conditional_entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """H(label | side) in bits of counts (..., sides, labels)."""
    joint = counts / counts.sum((-2, -1), keepdims=True)
    side = joint.sum(-1, keepdims=True)
    given = np.divide(joint, side, out=np.ones_like(joint), where=side > 0)
    return -(joint * np.log2(np.where(given > 0, given, 1.0))).sum((-2, -1))


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
