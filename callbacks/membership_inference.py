"""Memorisation from inside: losses of training items beside those of held-out ones."""

from typing import Any, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import Evaluation, EvaluationCallback, lacks, reference
from novum.callbacks.logging import log_metrics, log_picture, log_text
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.lightning_compat import fast_dev_run
from novum.core.protocols import ImageGenerator, ItemScorer, seen, unit
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.inside import (
    BATCH,
    NUM_ITEMS,
    ItemSets,
    SideLosses,
    image_items,
    judge_inside,
    known_losses,
    loss_name,
    measure,
    text_items,
)
from novum.report.known_items import Known, known_markdown, known_picture, losses_picture
from novum.report.model import Report
from novum.report.pictures import encode
from novum.report.table import scalars


class MembershipInference(EvaluationCallback):
    """novelty/losses, novelty/items_known, and scalars of how well the model knows its data.

    The same training and held-out items at every evaluation. From the second on, losses are also
    compared after those of the first are taken off, which were high where an item is hard. The
    scalars are novelty/membership_auc/losses with its interval, novelty/membership_p/losses and
    novelty/items_known/losses: see docs/novelty.md. They are memory, and no proof of copying.

    Args:
        num_items: Items of each side, at most.
        train: Training images, uint8 (n, c, h, w); null for the data's own.
        heldout: Held-out images, likewise.
        seed: Of the choice of items.
    """

    requires, needs = ("item_losses",), ("train", "heldout")

    def __init__(
        self,
        num_items: int = NUM_ITEMS,
        train: Tensor | None = None,
        heldout: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        if num_items < 2:
            raise InputError(f"num_items is {num_items}: give at least 2 of each side")
        self.num_items, self.seed = num_items, seed
        self._refer_to(train, heldout)
        self.found: Report | None = None  # membership and figures of the last evaluation
        self.known: Known | None = None  # its losses and pictures
        self._sets: ItemSets | None = None
        self._key = ""  # of these items
        self._first: dict[str, Any] = {}  # losses of the first evaluation, in checkpoints

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, ItemScorer):
            raise lacks(self, pl_module, "item_losses")
        self.found = self.known = None
        try:
            sets = self._drawn(trainer, pl_module)
            losses, report = measure(pl_module, sets), Report()
            earlier = self._earlier(pl_module)
            judge_inside(report, sets, losses, loss_name(pl_module), earlier, self.seed)
        except InputError as error:  # such as losses that are not finite
            rank_zero_warn(f"MembershipInference: not computed: {error}")
            return
        self._keep(losses, pl_module)
        self.found, self.known = report, known_losses(report, sets, losses)
        log_metrics(trainer, pl_module, scalars(report.features))
        self._show(trainer, seen(pl_module))

    def _drawn(self, trainer: Trainer, pl_module: LightningModule) -> ItemSets:
        """The items, drawn once."""
        if self._sets is None:
            n = min(self.num_items, BATCH) if fast_dev_run(trainer) else self.num_items
            sources = {side: reference(trainer, side) for side in self.needs}
            if isinstance(sources["train"], TextSource):
                vocabulary = getattr(pl_module, "vocabulary", None)
                if vocabulary is None:
                    raise lacks(self, pl_module, "a vocabulary")
                self._sets = text_items(sources, vocabulary, n, self.seed)
            else:
                evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
                self._sets = image_items(sources, evaluation.group_numbers(), n, self.seed)
            self._key = self._sets.key()
        return self._sets

    def _earlier(self, pl_module: LightningModule) -> tuple[str, SideLosses] | None:
        """The first evaluation's losses of these items, if it was earlier, and when that was."""
        first = self._first
        if first.get("key") != self._key or first["seen"] >= seen(pl_module):
            return None
        name = f"this run after {first['seen']:,} {unit(pl_module)}"
        return name, SideLosses(first["train"].numpy(), first["heldout"].numpy())

    def _keep(self, losses: SideLosses, pl_module: LightningModule) -> None:
        """Losses of the first evaluation of these items."""
        done, first = seen(pl_module), self._first
        if first.get("key") != self._key or first["seen"] > done:
            train, heldout = map(torch.from_numpy, losses)
            self._first = {"key": self._key, "seen": done, "train": train, "heldout": heldout}

    def _show(self, trainer: Trainer, step: int) -> None:
        assert self.found is not None and self.found.membership is not None
        membership, known = self.found.membership, self.known
        assert known is not None
        log_picture(trainer, "novelty/losses", lambda: losses_picture(membership, known), step)
        if known.images is not None:
            log_picture(
                trainer,
                "novelty/items_known",
                lambda: encode(known_picture(membership, known)),
                step,
            )
        if known.passages:
            log_text(trainer, "novelty/items_known", known_markdown(membership, known), step)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._first)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first = dict(state_dict)
