"""Worlds of data that repeats itself, and generators that copy nothing, for null runs."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from novum.evaluation.gate import SpaceMatches, conclude, pool_of_digests
from novum.evaluation.image_verdict import image_verdict
from novum.metrics.novelty.facts import find_identical
from novum.metrics.novelty.nearest_matches import match_pool
from novum.metrics.novelty.negative_control import match_within_pool, negative_control
from novum.report.model import Report, SetSummary

WIDTH = 12
POPULAR = 0.3  # share of draws from few items
INNOCENT = (
    "fresh", "truncated", "underfit", "modes lost", "collapsed", "collapsed onto items",
    "duplicates", "near duplicates", "Zipf",
)  # fmt: skip


class World:
    """A mixture of Gaussians of which some items occur again, seen in three feature spaces."""

    def __init__(self, seed: int, kind: str) -> None:
        self.generator, self.kind = torch.Generator().manual_seed(seed), kind
        self.modes = self.normal(10, WIDTH)
        self.views = [self.normal(WIDTH, 8) / 4, self.normal(WIDTH, 16) / 4]
        self.popular = self.base(400)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def base(self, n: int, spread: float = 1.0, modes: int = 10) -> Tensor:
        mode = torch.randint(modes, (n,), generator=self.generator)
        return self.modes[mode] + 0.7 * spread * self.normal(n, WIDTH)

    def draw(self, n: int) -> Tensor:
        """n rows of the data."""
        x = self.base(n)
        again = torch.rand(n, generator=self.generator) < POPULAR
        k = int(again.sum())
        if self.kind == "Zipf":
            item = (len(self.popular) ** torch.rand(k, generator=self.generator)).long() - 1
        else:
            item = torch.randint(len(self.popular), (k,), generator=self.generator)
        if self.kind in ("duplicates", "Zipf", "collapsed onto items"):
            x[again] = self.popular[item]
        if self.kind == "near duplicates":
            x[again] = self.popular[item // 4] + 0.05 * self.normal(k, WIDTH)
        return x

    def samples(self, m: int) -> Tensor:
        """m samples of a generator that copies nothing."""
        spread = {"truncated": 0.4, "underfit": 1.6}
        if self.kind in spread:
            return self.base(m, spread[self.kind])
        if self.kind == "modes lost":
            return self.base(m, modes=2)
        if self.kind.startswith("collapsed"):
            few = self.draw(10)[torch.randint(10, (m,), generator=self.generator)]
            return few if self.kind.endswith("items") else few + 0.02 * self.normal(m, WIDTH)
        return self.draw(m)

    def spaces(self, x: Tensor) -> list[Tensor]:
        return [x, x @ self.views[0], torch.tanh(x @ self.views[1])]


def judge(
    seed: int, kind: str, t: int, h: int, m: int, *, copies: int = 0, spaces: int = 3
) -> SimpleNamespace:
    """The report on m samples, the first of them `copies` of training rows with a little noise."""
    world = World(seed, kind)
    train, heldout, fake = world.draw(t), world.draw(h), world.samples(m)
    fake[:copies] = train[torch.randperm(t, generator=world.generator)[:copies]]
    fake[:copies] += 0.03 * world.normal(copies, WIDTH)
    keys = [np.array([row.tobytes() for row in x.numpy()]) for x in (fake, train, heldout)]
    pool = pool_of_digests(keys[1], keys[2], seed)
    found = {}
    views = zip(*(world.spaces(x) for x in (train, heldout, fake)), strict=True)
    for name, (own, other, of_fake) in list(zip("abc", views, strict=True))[:spaces]:
        items = pool.table(own, other)
        within = match_within_pool(pool, items)
        control = negative_control(within, permutations=199, seed=seed)
        found[name] = SpaceMatches(match_pool(of_fake, pool, items), within, control)
    report = Report(SetSummary(n=m), SetSummary(n=t), SetSummary(n=h))
    ids = {"samples": SimpleNamespace(ids=range(m)), "train": SimpleNamespace(ids=range(t))}
    conclusion = conclude(report, find_identical(*keys), found, ids, seed)
    report.verdict = image_verdict(report)
    assert conclusion is not None and conclusion.test is not None
    return SimpleNamespace(report=report, test=conclusion.test, finding=report.verdict.finding)
