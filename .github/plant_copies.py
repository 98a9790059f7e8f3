"""Digits for the gate: new samples, and the same with 12 noisy training images among them."""

import numpy as np
from sklearn.datasets import load_digits

COPIES = 12

images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
random = np.random.default_rng(0)
images = images[random.permutation(len(images))]
fresh, train, heldout = images[:400], images[400:1200], images[1200:]
noisy = (train[:COPIES] + random.normal(0, 4, train[:COPIES].shape)).clip(0, 255).astype(np.uint8)
copies = np.concatenate([fresh[COPIES:], noisy])
for name, part in {"fresh": fresh, "copies": copies, "train": train, "heldout": heldout}.items():
    np.save(f"{name}.npy", part)
