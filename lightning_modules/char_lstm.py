"""Character models trained by truncated backpropagation through time (Karpathy's char-rnn)."""

from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.byte_pairs import new_vocabulary
from novum.core.lightning_compat import attached_trainer
from novum.lightning_modules.networks.char_rnn import CharRNN
from novum.lightning_modules.schedules import constant
from novum.lightning_modules.text_model import TextModel, evaluating
from novum.lightning_modules.text_sampling import Sampling
from novum.lightning_modules.training_utils import save_plain_hyperparameters


class CharLSTM(TextModel):
    """Predicts the next token of many streams of text, and carries each stream's state along.

    The state goes on from one chunk to the next, without its gradient, and starts from zero where
    the data says that all streams restart. It is part of every checkpoint, so a run resumed in the
    middle of an epoch continues bit for bit (on the CPU).

    Args:
        network: (tokens (t, b), state) -> (logits (t, b, v), state), such as networks.CharRNN.
        alphabet: The characters of the tokens, as the data gives them; null for bytes.
        merges: Of bytes to tokens, as the data gives them; null for none.
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
        merges: str | None = None,
        lr: float = 2e-3,
        optimizer: OptimizerCallable | None = None,
        schedule: Callable[[float, float], float] = constant,
        predict_samples: int = 8,
        predict_length: int = 2000,
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        seed: int = 0,
        transfer: str | None = None,
    ) -> None:
        super().__init__(
            network, new_vocabulary(alphabet, merges), lr, optimizer, schedule, predict_samples,
            predict_length, sampling, seed, transfer,
        )  # fmt: skip
        save_plain_hyperparameters(self)
        self.state: tuple[Tensor, ...] | None = None  # of this rank's training streams

    def default_optimizer(self) -> Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.lr, fused=self.takes_fused())

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.state is not None:  # out of a checkpoint
            self.state = tuple(part.to(self.device) for part in self.state)

    def training_logits(self, tokens: Tensor, restart: bool) -> Tensor:
        logits, state = self.network(tokens, None if restart else self.state)
        self.state = tuple(part.detach() for part in state)
        return logits

    @torch.inference_mode()
    def activations(self, tokens: Tensor) -> Tensor:
        """Activation of each unit (n, t, layers * hidden) after each of tokens (n, t).

        An LSTM's memory, through tanh; the hidden units of other cells.
        """
        state, steps = None, []
        hidden = cast(CharRNN, self.network).hidden
        with evaluating(self.network):
            for row in tokens.to(self.device).T:
                _, state = hidden(row[None], state)
                held = torch.tanh(state[1]) if len(state) == 2 else state[0]  # (layers, n, hidden)
                steps.append(held.transpose(0, 1).flatten(1))
        return torch.stack(steps, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.state is not None:  # of every rank: (ranks, layers, b, hidden)
            checkpoint["stream_state"] = [
                cast(Tensor, self.all_gather(part)).view(self.trainer.world_size, *part.shape).cpu()
                for part in self.state
            ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        parts = checkpoint.get("stream_state")
        attached = attached_trainer(self) is not None
        if parts is not None and attached and len(parts[0]) == self.trainer.world_size:
            self.state = tuple(part[self.global_rank] for part in parts)
