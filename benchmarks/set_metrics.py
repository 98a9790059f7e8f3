"""Seconds of the set metrics: ours against the code that others quote.

    pip install prdc
    python benchmarks/set_metrics.py [--width 2048] [--rows 10000] [--output FILE.json]

pytorch-fid and clean-fid take scipy's square root of the product of the covariances, torch-fidelity
the eigenvalues of that product. --clock cpu counts the process's own seconds, for a machine that
others use; run it with OMP_NUM_THREADS=1. Relative differences are of the values that both compute.
"""

import argparse
import time
import warnings

import numpy as np
import scipy
import torch
from _tables import in_turn, median_ratio, show
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from novum.metrics.functional import (
    Moments,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)

OPTIONS = {"verbose": False, "kid_subsets": 100, "kid_subset_size": 1000, "prc_neighborhood": 3}


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    """Variances that decay as those of network features do, in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) / torch.arange(1, d + 1).sqrt()
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(9))).Q
    return 0.5 + x @ basis


def scipys_frechet_distance(a: Moments, b: Moments) -> float:
    """As pytorch-fid and clean-fid compute it."""
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy()).real
    shift = (a.mean - b.mean).numpy()
    return float(shift @ shift + a.cov.trace() + b.cov.trace() - 2 * np.trace(root))


def fidelitys_frechet_distance(a: Moments, b: Moments) -> float:
    sides = ({"mu": m.mean.numpy(), "sigma": m.cov.numpy()} for m in (a, b))
    return fid_statistics_to_metric(*sides, False)["frechet_inception_distance"]


def prdc(real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
    from prdc import compute_prdc

    return compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    warnings.filterwarnings("ignore")
    real, fake = (draw(args.rows, args.width, seed) for seed in (1, 2))
    a, b = Moments().update(real), Moments().update(fake)

    def precision(k: int) -> dict[str, float]:
        return precision_recall(real, fake, k)._asdict()

    races = {
        "Fréchet distance, scipy's sqrtm": (
            lambda: frechet_distance(a.mean, a.cov, b.mean, b.cov),
            lambda: scipys_frechet_distance(a, b),
        ),
        "Fréchet distance, torch-fidelity": (
            lambda: frechet_distance(a.mean, a.cov, b.mean, b.cov),
            lambda: fidelitys_frechet_distance(a, b),
        ),
        "kernel distance of 100 subsets, torch-fidelity": (
            lambda: kernel_distance(real, fake, subsets=100, seed=2020),
            lambda: kid_features_to_metric(fake, real, **OPTIONS)["kernel_inception_distance_mean"],
        ),
        "exact kernel distance, torch-fidelity's of 100 subsets": (
            lambda: kernel_distance(real, fake),
            lambda: kid_features_to_metric(fake, real, **OPTIONS)["kernel_inception_distance_mean"],
        ),
        "precision and recall k = 3, torch-fidelity": (
            lambda: precision(3)["precision"],
            lambda: prc_features_to_metric(fake, real, **OPTIONS)["precision"],
        ),
        "precision, recall, density, coverage k = 5, prdc": (
            lambda: (precision(5) | density_coverage(real, fake, 5)._asdict())["density"],
            lambda: prdc(real, fake)["density"],
        ),
    }
    rows = []
    for name, (ours, theirs) in races.items():
        seconds = in_turn({"ours": ours, "theirs": theirs}, args.rounds, 0, now)
        us, them = ours(), theirs()
        rows.append(
            {
                "metric": name,
                "ours, s": min(seconds["ours"]),
                "theirs, s": min(seconds["theirs"]),
                "times": median_ratio(seconds["ours"], seconds["theirs"]),
                "our value": us,
                "relative difference": abs(us - them) / abs(them),
            }
        )
    show(f"{args.rows:,} against {args.rows:,} features of {args.width}", rows, args.output)


if __name__ == "__main__":
    main()
