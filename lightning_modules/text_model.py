"""Next-token prediction of text: the training, validation and sampling that all networks share."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

import torch
import torch.nn.functional as F
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from novum.core.byte_pairs import BytePairs, vocabulary_of
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.lightning_compat import (
    datamodule,
    log_figures,
    logs_at,
    mixed_precision,
    raw_optimizer,
)
from novum.core.precision import full_precision, widened
from novum.core.seeds import derived_seed, random_generator
from novum.core.vocabulary import Vocabulary
from novum.lightning_modules.module import Module
from novum.lightning_modules.step_memory import require_batch_memory
from novum.lightning_modules.text_sampling import Sampling, beam_search, generate
from novum.lightning_modules.training_utils import (
    LossWindow,
    keep_freed_memory,
    log_losses,
    require_finite,
    require_same_model,
)
from novum.lightning_modules.weight_transfer import transfer_text_model

LOGITS_AT_ONCE = 2**24  # of surprisal
SCORED_AT_ONCE = 256  # tokens of a stream, at most
STREAMS_AT_ONCE = 256  # texts that are drawn side by side
PREDICT_CHUNK = 64  # texts that `predict` makes at once


class TextModel(Module):
    """A network (tokens (t, b), state) -> (logits (t, b, v), state) that predicts the next token.

    Figures are logged against `tokens_seen`. A technique adds its constructor, `training_logits`,
    `default_optimizer` and `activations`.
    """

    item_loss = "nats a token"

    def __init__(
        self,
        network: nn.Module,
        vocabulary: Vocabulary,
        lr: float,
        optimizer: OptimizerCallable | None,
        schedule: Callable[[float, float], float],
        predict_samples: int,
        predict_length: int,
        sampling: Sampling,
        seed: int,
        transfer: str | None,
    ) -> None:
        super().__init__()
        self.network, self.vocabulary = network, vocabulary
        self.lr, self.optimizer, self.schedule = lr, optimizer, schedule
        self.predict_samples, self.predict_length = predict_samples, predict_length
        self.sampling, self.seed, self.transfer = sampling, seed, transfer
        self.tokens_seen = 0
        self.losses = LossWindow()
        self.rates: list[float] = []  # of the optimizer's groups, before the schedule
        self.steps = math.nan  # of the whole run, where its end is known

    # -- training ------------------------------------------------------------------------------

    @abstractmethod
    def training_logits(self, tokens: Tensor, restart: bool) -> Tensor:
        """Logits (t, b, v) of what comes after each of tokens (t, b); `restart`: of new streams."""

    @abstractmethod
    def default_optimizer(self) -> Optimizer:
        """The optimizer where none is given."""

    def configure_optimizers(self) -> Optimizer:
        given = self.optimizer
        optimizer = given(list(self.network.parameters())) if given else self.default_optimizer()
        self.rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def takes_fused(self) -> bool:
        """Return False where a fused optimizer, which unscales gradients, is too late to do so."""
        return not (mixed_precision(self.trainer) and self.trainer.gradient_clip_val)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data = datamodule(self.trainer)
        batch, length = (getattr(data, x, None) for x in ("batch_size", "chunk_length"))
        if isinstance(batch, int) and isinstance(length, int):
            require_batch_memory(lambda n: self._forward_few(n, length), batch, self, "streams")
        if self.transfer is not None and self.tokens_seen == 0:
            transfer_text_model(self, self.vocabulary, self.transfer)

    def _forward_few(self, n: int, length: int) -> Tensor:
        """Loss of n streams, as in training."""
        self.network.train()
        tokens = torch.zeros(length, n, dtype=torch.int64, device=self.device)
        logits = self.network(tokens)[0]
        return F.cross_entropy(widened(logits.flatten(0, 1)), tokens.flatten())

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.device.type == "cpu":
            keep_freed_memory()
        steps = float(self.trainer.estimated_stepping_batches)
        self.steps = steps if math.isfinite(steps) else math.nan

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        step = self.global_step
        torch.manual_seed(derived_seed(self.seed, step, self.global_rank))  # of dropout
        self._set_rates(batch["epoch"], step / self.steps)
        inputs, targets = inputs_and_targets(batch["tokens"])
        logits = self.training_logits(inputs, batch["restart"])
        loss = F.cross_entropy(widened(logits.flatten(0, 1)), targets.flatten())
        self.losses.add(step, nats_per_token=loss)
        self.tokens_seen += targets.numel() * self.trainer.world_size
        if logs_at(self.trainer, step + 1):
            log_losses(self, self.losses, self.tokens_seen)
        return loss

    def _set_rates(self, epochs: float, progress: float) -> None:
        factor = self.schedule(epochs, progress)
        if math.isnan(factor):
            name = getattr(self.schedule, "__name__", "the schedule")
            raise InputError(
                f"the schedule {name} needs to know where the run ends: give trainer.max_steps or"
                " max_epochs, or --model.schedule novum.lightning_modules.schedules.constant"
            )
        optimizer = raw_optimizer(self)
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.heldout_state: tuple[Tensor, ...] | None = None
        self.token_sizes = torch.from_numpy(self.vocabulary.sizes()).to(self.device)
        # nats, characters, bytes
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if batch.get("idle"):
            return
        inputs, targets = inputs_and_targets(batch["tokens"])
        state = None if batch["restart"] else self.heldout_state
        logits, self.heldout_state = self.network(inputs, state)
        nats = F.cross_entropy(widened(logits.flatten(0, 1)), targets.flatten(), reduction="sum")
        sizes = self.token_sizes[targets].sum((0, 1))  # (2,)
        self.sums += torch.cat([nats.double()[None], sizes.double()])

    def on_validation_epoch_end(self) -> None:
        """Figures over all held-out text, the same on any number of ranks.

        Bits a byte of UTF-8 compare models of different vocabularies.
        """
        nats, *sizes = self.trainer.strategy.reduce(self.sums, reduce_op="sum").tolist()
        characters, size = (max(x, 1) for x in sizes)
        figures = {
            "val/nats_per_char": nats / characters,
            "val/bits_per_char": nats / characters / math.log(2),
            "val/bits_per_byte": nats / size / math.log(2),
        }
        log_figures(self, figures)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics(figures, step=self.tokens_seen)

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    # -- sampling ------------------------------------------------------------------------------

    def sample_text(
        self,
        n: int,
        length: int,
        *,
        temperature: float = 1.0,
        prime: str = "",
        seed: int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        typical: float | None = None,
        beam: int | None = None,
        bar: bool = False,
    ) -> list[str]:
        """n texts of `length` characters (or bytes) that go on after `prime`.

        They are the same for the same seed. Without a prime they start as after a line's end. `bar`
        shows progress on a terminal; `Sampling` explains the others.
        """
        how = Sampling(temperature, prime, top_k, top_p, typical, beam)
        return self._texts(n, length, how, seed, bar)

    def _texts(
        self, n: int, length: int, how: Sampling, seed: int | None, bar: bool = False
    ) -> list[str]:
        start = torch.from_numpy(self._prime(how.prime)).to(self.device)
        unknown = [] if self.vocabulary.alphabet is None else [0]
        never = torch.tensor(unknown, dtype=torch.int64, device=self.device)
        if how.beam is not None and n > how.beam:
            raise InputError(f"beam is {how.beam}: {n} texts need a beam of {n} or more")
        with evaluating(self.network):
            if how.beam is not None:
                parts = [beam_search(self.network, start, length, how.beam, never, bar)[:n]]
            else:
                uniforms = torch.rand(n, length, generator=random_generator(seed)).to(self.device)
                parts = [
                    generate(self.network, start, part, how, never, bar, self._until(length))
                    for part in uniforms.split(STREAMS_AT_ONCE)
                ]
        rows = (row for part in parts for row in part.cpu().numpy())
        return [self.vocabulary.decode(row)[:length] for row in rows]

    def _until(self, length: int) -> Callable[[Tensor], bool] | None:
        """Says when texts of byte pairs (n, t) have `length` characters, before `length` tokens."""
        if not isinstance(self.vocabulary, BytePairs):
            return None
        characters = torch.from_numpy(self.vocabulary.sizes())[:, 0].to(self.device)
        # one more, since a text may begin within a character
        return lambda tokens: int(characters[tokens].sum(1).min()) > length

    def _prime(self, prime: str) -> Any:
        """Tokens (p,) int64; of a line's end, or else of the first character, for an empty one."""
        if unknown := self.vocabulary.unknown(prime):
            rank_zero_warn(f"the model has never seen {unknown!r} of the prime: read as U+FFFD")
        empty = "\n" if not self.vocabulary.unknown("\n") else self.vocabulary.decode([1])
        return self.vocabulary.encode(prime or empty).astype("int64")

    def predict_dataloader(self) -> DataLoader:
        """(first, number) of each chunk of texts that `predict` makes, dealt to the ranks."""
        n = self.predict_samples
        chunks = [(i, min(PREDICT_CHUNK, n - i)) for i in range(0, n, PREDICT_CHUNK)]
        mine = chunks[self.global_rank :: self.trainer.world_size]
        return DataLoader(cast("Dataset[tuple[int, int]]", mine), batch_size=None)

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> list[str]:
        """Each with its prime."""
        first, n = batch
        seed, how = derived_seed(self.seed, first), asdict(self.sampling)
        texts = self.sample_text(n, self.predict_length, seed=seed, **how)
        return [self.sampling.prime + text for text in texts]

    # -- analysis ------------------------------------------------------------------------------

    @torch.inference_mode()
    def surprisal(self, tokens: Tensor) -> Tensor:
        """Nats (n, t - 1) of tokens (n, t) but the first, each given all before it in its row."""
        inputs, targets = inputs_and_targets(tokens.to(self.device))
        most = max(1, min(SCORED_AT_ONCE, LOGITS_AT_ONCE // (len(tokens) * len(self.vocabulary))))
        chunks = zip(inputs.split(most), targets.split(most), strict=True)
        state, parts = None, []
        with evaluating(self.network):
            for x, y in chunks:
                logits, state = self.network(x, state)
                nats = F.cross_entropy(widened(logits.flatten(0, 1)), y.flatten(), reduction="none")
                parts.append(nats.view_as(y))
        return torch.cat(parts).T

    @torch.inference_mode()
    def item_losses(self, tokens: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Nats a token (n,) of tokens (n, t), the first of which are given; texts have no label."""
        if tokens.ndim != 2 or tokens.shape[1] < 2:
            raise InputError(f"tokens are {tuple(tokens.shape)}: give rows of two tokens or more")
        with full_precision(self.device):
            return self.surprisal(tokens).mean(1)

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)
        checkpoint["tokens_seen"] = self.tokens_seen
        checkpoint["alphabet"] = self.vocabulary.alphabet
        checkpoint["merges"] = self.vocabulary.merges

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if vocabulary_of(checkpoint) not in (None, self.vocabulary):  # sizes depend on it
            raise InputError(
                "the checkpoint was trained on a text of other characters: give the same text, or"
                " --data.vocabulary_of CHECKPOINT to keep its vocabulary (to train on, with"
                " --model.transfer CHECKPOINT in place of --ckpt_path); generate.py needs no text"
            )
        require_same_model(self, checkpoint)
        self.tokens_seen = checkpoint["tokens_seen"]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, for a while."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def inputs_and_targets(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (b, t + 1) -> all but the last and all but the first, each (t, b)."""
    tokens = tokens.T.contiguous()
    return tokens[:-1], tokens[1:]
