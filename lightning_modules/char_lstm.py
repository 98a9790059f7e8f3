"""Character models trained by truncated backpropagation through time (Karpathy's char-rnn)."""

import math
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

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.lightning_compat import (
    attached_trainer,
    log_figures,
    logs_at,
    mixed_precision,
    raw_optimizer,
)
from novum.core.precision import widened
from novum.core.seeds import derived_seed, random_generator
from novum.core.vocabulary import Vocabulary
from novum.lightning_modules.module import Module
from novum.lightning_modules.networks.char_rnn import CharRNN
from novum.lightning_modules.schedules import constant
from novum.lightning_modules.text_sampling import Sampling, beam_search, generate
from novum.lightning_modules.training_utils import (
    LossWindow,
    keep_freed_memory,
    log_losses,
    require_finite,
    require_same_model,
    save_plain_hyperparameters,
)
from novum.lightning_modules.weight_transfer import transfer_text_model

SCORED_AT_ONCE = 256  # tokens of a stream
PREDICT_CHUNK = 64  # texts that `predict` makes at once


class CharLSTM(Module):
    """Predicts the next token of many streams of text, and carries each stream's state along.

    The state goes on from one chunk to the next, without its gradient, and starts from zero where
    the data says that all streams restart. It is part of every checkpoint, so a run resumed in the
    middle of an epoch continues bit for bit (on the CPU).

    Args:
        network: (tokens (t, b), state) -> (logits (t, b, v), state), such as networks.CharRNN.
        alphabet: The characters of the tokens, as the data gives them; null for bytes.
        lr: Learning rate of Adam, unless an optimizer is given.
        optimizer: Another optimizer, by class_path: torch.optim.RMSprop, torch.optim.AdamW.
        schedule: A function of novum.lightning_modules.schedules that the learning rate is
            multiplied by.
        predict_samples: Texts that `predict` writes.
        predict_length: Characters of each.
        sampling: How they are drawn.
        seed: Of dropout, and of what `predict` writes.
        transfer: A checkpoint whose weights to begin with; `vocabulary_of` of the data keeps its
            vocabulary.
    """

    def __init__(
        self,
        network: nn.Module,
        alphabet: str | None = None,
        lr: float = 2e-3,
        optimizer: OptimizerCallable | None = None,
        schedule: Callable[[float, float], float] = constant,
        predict_samples: int = 8,
        predict_length: int = 2000,
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        seed: int = 0,
        transfer: str | None = None,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        self.network = network
        self.vocabulary = Vocabulary(alphabet)
        self.lr, self.optimizer, self.schedule = lr, optimizer, schedule
        self.predict_samples, self.predict_length = predict_samples, predict_length
        self.sampling, self.seed, self.transfer = sampling, seed, transfer
        self.tokens_seen = 0
        self.state: tuple[Tensor, ...] | None = None  # of this rank's training streams
        self.heldout_state: tuple[Tensor, ...] | None = None
        self.losses = LossWindow()
        self.rates: list[float] = []  # of the optimizer's groups, before the schedule

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        def adam(parameters: Any) -> Optimizer:
            # the fused one unscales gradients itself, after Lightning has clipped them
            clipped = mixed_precision(self.trainer) and self.trainer.gradient_clip_val
            return torch.optim.Adam(parameters, lr=self.lr, fused=not clipped)

        optimizer = (self.optimizer or adam)(list(self.network.parameters()))
        self.rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.transfer is not None and self.tokens_seen == 0:
            transfer_text_model(self, self.vocabulary.alphabet, self.transfer)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.state is not None:  # out of a checkpoint
            self.state = tuple(part.to(self.device) for part in self.state)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        step = self.global_step
        torch.manual_seed(derived_seed(self.seed, step, self.global_rank))  # of dropout
        self._set_rates(batch["epoch"], step / max(self.trainer.max_steps, 1))
        inputs, targets = _inputs_and_targets(batch["tokens"])
        logits, state = self.network(inputs, None if batch["restart"] else self.state)
        self.state = tuple(part.detach() for part in state)
        loss = F.cross_entropy(widened(logits.flatten(0, 1)), targets.flatten())
        self.losses.add(step, nats_per_token=loss)
        self.tokens_seen += targets.numel() * self.trainer.world_size
        if logs_at(self.trainer, step + 1):
            log_losses(self, self.losses, self.tokens_seen)
        return loss

    def _set_rates(self, epochs: float, progress: float) -> None:
        factor = self.schedule(epochs, progress)
        optimizer = raw_optimizer(self)
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.nats = torch.zeros(2, dtype=torch.float64, device=self.device)  # sum, characters

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if batch.get("idle"):
            return
        inputs, targets = _inputs_and_targets(batch["tokens"])
        state = None if batch["restart"] else self.heldout_state
        logits, self.heldout_state = self.network(inputs, state)
        nats = F.cross_entropy(widened(logits.flatten(0, 1)), targets.flatten(), reduction="sum")
        characters = self.vocabulary.starts(targets.cpu().numpy()).sum()
        self.nats += torch.stack([nats.double(), nats.new_tensor(characters).double()])

    def on_validation_epoch_end(self) -> None:
        """Nats and bits a character over all held-out text, the same on any number of ranks."""
        nats, characters = self.trainer.strategy.reduce(self.nats, reduce_op="sum").tolist()
        per_character = nats / max(characters, 1)
        figures = {
            "val/nats_per_char": per_character,
            "val/bits_per_char": per_character / math.log(2),
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
        """n texts of `length` tokens that go on after `prime`; the same for the same seed.

        Without a prime they start as after a line's end. `bar` shows progress on a terminal;
        `Sampling` explains the others.
        """
        how = Sampling(temperature, prime, top_k, top_p, typical, beam)
        return [self.vocabulary.decode(text) for text in self._sample(n, length, how, seed, bar)]

    def _sample(
        self, n: int, length: int, how: Sampling, seed: int | None, bar: bool = False
    ) -> Any:
        """Tokens (n, length) as an array."""
        start = torch.from_numpy(self._prime(how.prime)).to(self.device)
        unknown = [] if self.vocabulary.is_bytes else [0]
        never = torch.tensor(unknown, dtype=torch.int64, device=self.device)
        if how.beam is not None and n > how.beam:
            raise InputError(f"beam is {how.beam}: {n} texts need a beam of {n} or more")
        with _evaluating(self.network):
            if how.beam is not None:
                tokens = beam_search(self.network, start, length, how.beam, never, bar)[:n]
            else:
                uniforms = torch.rand(n, length, generator=random_generator(seed))
                tokens = generate(self.network, start, uniforms.to(self.device), how, never, bar)
        return tokens.cpu().numpy()

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
        inputs, targets = _inputs_and_targets(tokens.to(self.device))
        chunks = zip(inputs.split(SCORED_AT_ONCE), targets.split(SCORED_AT_ONCE), strict=True)
        state, parts = None, []
        with _evaluating(self.network):
            for x, y in chunks:
                logits, state = self.network(x, state)
                nats = F.cross_entropy(widened(logits.flatten(0, 1)), y.flatten(), reduction="none")
                parts.append(nats.view_as(y))
        return torch.cat(parts).T

    @torch.inference_mode()
    def activations(self, tokens: Tensor) -> Tensor:
        """Activation of each unit (n, t, layers * hidden) after each of tokens (n, t).

        An LSTM's memory, through tanh; the hidden units of other cells.
        """
        state, steps = None, []
        hidden = cast(CharRNN, self.network).hidden
        with _evaluating(self.network):
            for row in tokens.to(self.device).T:
                _, state = hidden(row[None], state)
                held = torch.tanh(state[1]) if len(state) == 2 else state[0]  # (layers, n, hidden)
                steps.append(held.transpose(0, 1).flatten(1))
        return torch.stack(steps, 1)

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)
        checkpoint["tokens_seen"] = self.tokens_seen
        checkpoint["alphabet"] = self.vocabulary.alphabet
        if self.state is not None:  # of every rank: (ranks, layers, b, hidden)
            checkpoint["stream_state"] = [
                cast(Tensor, self.all_gather(part)).view(self.trainer.world_size, *part.shape).cpu()
                for part in self.state
            ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = self.vocabulary.alphabet
        if checkpoint.get("alphabet", own) != own:  # sizes depend on it
            raise InputError(
                "the checkpoint was trained on a text of other characters: give the same text, or"
                " --data.vocabulary_of CHECKPOINT to keep its vocabulary (to train on, with"
                " --model.transfer CHECKPOINT in place of --ckpt_path); generate.py needs no text"
            )
        require_same_model(self, checkpoint)
        self.tokens_seen = checkpoint["tokens_seen"]
        parts = checkpoint.get("stream_state")
        attached = attached_trainer(self) is not None
        if parts is not None and attached and len(parts[0]) == self.trainer.world_size:
            self.state = tuple(part[self.global_rank] for part in parts)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _inputs_and_targets(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (b, t + 1) -> all but the last and all but the first, each (t, b)."""
    tokens = tokens.T.contiguous()
    return tokens[:-1], tokens[1:]
