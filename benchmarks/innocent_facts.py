"""Facts about fresh images, which are no copies: natural near-duplicates in real data.

    python benchmarks/innocent_facts.py cifar10/train.parquet [--splits 137] [--alignment]

Images of one data set are cut at random into training, held-out and fresh ones, at four sizes in
turn, and the fresh ones are judged as samples in pixels, pixels at a quarter of the size and
EfficientNet features; with --alignment by the detector of altered copies, without held-out images.
"""

import argparse
from functools import partial

import numpy as np
import torch
from _views import pixels, pixels_at_a_quarter
from torch import Tensor
from tqdm import tqdm

from novum.datamodules.resolve_source import open_images
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.audit import row_digests
from novum.evaluation.gate import NEAR_ERROR, pool_of_digests
from novum.metrics.features import extract_features, load_extractor
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.combined import combine_matches
from novum.metrics.novelty.facts import NearIdentical, find_identical, near_identical
from novum.metrics.novelty.nearest_matches import Matches, match_pool
from novum.metrics.novelty.negative_control import PoolMatches, match_within_pool

SIZES = ((3000, 1000, 1000), (1000, 1000, 1000), (8000, 1000, 2000), (2000, 4000, 1000))
ALIGNED = (2000, 400)  # training images and samples: a search takes half a minute
MOST = 24_000  # images that splits are drawn from


def by_features(views: list[Tensor], digests: Tensor, split: int) -> NearIdentical:
    """Facts about one split in several feature spaces."""
    sizes = list(SIZES[split % len(SIZES)])
    generator = torch.Generator().manual_seed(100 + split)
    rows = torch.randperm(len(digests), generator=generator)[: sum(sizes)]
    train, heldout, fake = rows.split(sizes)
    pool = pool_of_digests(digests[train].numpy(), digests[heldout].numpy(), split)
    found, usual = [], []
    for view in views:
        items = pool.table(view[train], view[heldout])
        found.append(match_pool(view[fake], pool, items))
        usual.append(match_within_pool(pool, items))
    return facts(found, usual, digests[fake], digests[train])


def by_alignment(images: Tensor, digests: Tensor, split: int) -> NearIdentical:
    """Facts about one split by the detector of altered copies, without held-out images."""
    generator = torch.Generator().manual_seed(900 + split)
    rows = torch.randperm(len(images), generator=generator)[: sum(ALIGNED)]
    train, fake = rows.split(list(ALIGNED))
    pool = pool_of_digests(digests[train].numpy(), None, split)
    detector = AlteredCopyDetector(images[train], pool=pool, progress=False)
    found, usual = detector.match(images[fake]), detector.match_within(1000)
    return facts([found], [usual], digests[fake], digests[train])


def facts(
    found: list[Matches], usual: list[PoolMatches], of_samples: Tensor, of_train: Tensor
) -> NearIdentical:
    """Samples that are nearly identical, but for the identical ones."""
    known = find_identical(of_samples.numpy(), of_train.numpy(), None).samples
    return near_identical(combine_matches(found, usual), usual, NEAR_ERROR, known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", help="of one data set, 11,000 or more")
    parser.add_argument("--splits", type=int, default=137)
    parser.add_argument("--alignment", action="store_true")
    options = parser.parse_args()
    source = open_images(options.images).images
    if len(source) < (least := max(map(sum, SIZES))):
        parser.error(f"{options.images} has {len(source):,} images: give {least:,} or more")
    rows = torch.randperm(len(source), generator=torch.Generator().manual_seed(1))[:MOST]
    images = source[rows.sort().values]
    digests = row_digests(ImageArray(images))[0]
    numbers = torch.from_numpy(np.unique(digests, return_inverse=True)[1])
    if options.alignment:
        judge = partial(by_alignment, images, numbers)
    else:
        lite0 = extract_features(load_extractor("efficientnet_lite0"), ImageArray(images))
        judge = partial(by_features, [pixels(images), pixels_at_a_quarter(images), lite0], numbers)
    listed = convicted = 0
    for split in tqdm(range(options.splits)):
        found = judge(split)
        listed += bool(len(found.samples))
        convicted += bool(len(found.samples)) and found.p <= NEAR_ERROR and not found.heldout
    print(f"{options.splits} splits: {listed} list nearly identical samples, {convicted} convict")


if __name__ == "__main__":
    main()
