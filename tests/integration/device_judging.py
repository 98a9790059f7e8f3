"""Judges sets on the look-alike device and on the CPU; prints both figures and the waits, as JSON.

Run as a program by test_device.py.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from lookalike import DEVICE, OnDevice, Watch, pin
from torch import Tensor

from novum.core import memory
from novum.evaluation.space import judge, quality_floor
from novum.metrics import candidate_filter, record
from novum.metrics.classes import VendiScore
from novum.metrics.features import load_extractor
from novum.metrics.features.extraction import batch_features
from novum.metrics.functional import Moments, feature_likelihood_divergence
from novum.metrics.neighbours import knn, neighbour_distances
from novum.metrics.record import FeatureSets


def draw(n: int, seed: int) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


def sets() -> FeatureSets:
    train, heldout, fresh = draw(300, 0), draw(200, 1), draw(150, 2)
    fake = torch.cat([fresh, train[:20] + 1e-3, fresh[:5]])
    logits = draw(len(fake), 3)
    moments, near = Moments().update(train), neighbour_distances(train[: len(fake)], 5)
    moments.factor  # noqa: B018  as one from the cache has it
    return FeatureSets(train, heldout, fake, moments, near, logits)


def figures(of: FeatureSets, device: torch.device | None) -> dict:
    judged = judge(of, progress=False, device=device)
    assert not isinstance(judged.neighbours.train_distance, OnDevice)
    assert judged.copying is not None and not isinstance(judged.copying.matches.margin, OnDevice)
    found = {n: e.value for n, e in (judged.quality | judged.novelty).items()}
    floor = {f"floor {n}": e.value for n, e in quality_floor(of, device).items()}
    return found | floor


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.Tensor.pin_memory = pin
    record.free_device_bytes = memory.free_device_bytes = lambda device: 2**33
    of, images = sets(), torch.randint(0, 256, (40, 1, 8, 8)).to(torch.uint8)
    on_cpu = figures(of, None)
    neighbours = knn(of.fake, of.train, 5)
    fld = feature_likelihood_divergence(of.train, of.heldout, of.fake)
    extractor = load_extractor("efficientnet_lite0")
    features = batch_features(extractor, images)
    watch = Watch()
    with watch:
        on_device = figures(of, DEVICE)
        there = of.to(DEVICE)
        found = knn(there.fake, there.train, 5)
        exact = torch.equal(found.indices.held, neighbours.indices)
        exact &= torch.equal(found.distances.held, neighbours.distances)
        fld_there = feature_likelihood_divergence(there.train, there.heldout, there.fake)
        extractor.to(DEVICE)
        own = batch_features(extractor, images.to(DEVICE))
        metric = VendiScore(extractor).to(DEVICE)
        metric.update(images.to(DEVICE), real=False)
        kept = isinstance(metric.fake[0], OnDevice)
        q, r = (x.to(DEVICE) for x in (of.fake, of.train))
        watch.clear()
        candidate_filter.find_candidates(
            q, r, 3, dtype=torch.bfloat16, within=None, max_bytes=2**24
        )
        reads = dict(watch.reads)
    result = {
        "cpu": on_cpu,
        "device": on_device,
        "neighbours are equal": exact,
        "fld": [fld.value, fld_there.value],
        "features differ by": float((own.held - features).abs().max() / features.abs().max()),
        "features stay": kept and isinstance(own, OnDevice),
        "reads of a search for candidates": reads,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
