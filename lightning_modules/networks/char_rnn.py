"""A character model: embedding, recurrent layers, softmax (Graves, 2013; Karpathy's char-rnn)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least
from novum.core.precision import multiplies_bfloat16

State = tuple[Tensor, ...]  # (h, c) of an LSTM, (h,) of others: each (layers, b, hidden)


class CharRNN(nn.Module):
    """Tokens (t, b) int64 and a state -> logits (t, b, vocab_size) of the next tokens, new state.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Units of each recurrent layer.
        layers: Recurrent layers.
        embedding_size: Of a token; null: as many as hidden units.
        cell: torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN.
        dropout: Between layers and before the output (Zaremba et al., 2014, arXiv:1409.2329).
        tied: The output layer uses the embedding's weights (Press & Wolf, 2017, arXiv:1608.05859).
        forget_bias: An LSTM's forget gate starts with this bias (Gers et al., 2000).
    """

    state_keeps_its_shape = True  # so that a GPU can read token by token without being told each

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 128,
        layers: int = 2,
        embedding_size: int | None = None,
        cell: type[nn.RNNBase] = nn.LSTM,
        dropout: float = 0.0,
        tied: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        check_at_least(1, vocab_size=vocab_size)
        embedding_size = hidden_size if embedding_size is None else embedding_size
        _check(hidden_size, layers, embedding_size, dropout, tied)
        self.vocab_size, self.hidden_size, self.dropout = vocab_size, hidden_size, dropout
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        between = dropout if layers > 1 else 0.0
        build = cast("Callable[..., nn.RNNBase]", cell)  # its subclasses take no mode
        self.recurrent = build(embedding_size, hidden_size, layers, dropout=between)
        self.output = nn.Linear(hidden_size, vocab_size)
        if tied:
            nn.init.normal_(self.embedding.weight, std=hidden_size**-0.5)  # logits of order 1
            self.output.weight = self.embedding.weight
        if isinstance(self.recurrent, nn.LSTM):
            for layer in range(layers):  # the other of the two biases of a gate starts at 0
                getattr(self.recurrent, f"bias_ih_l{layer}").data[_forget(hidden_size)] = (
                    forget_bias
                )
                getattr(self.recurrent, f"bias_hh_l{layer}").data[_forget(hidden_size)] = 0.0

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        hidden, state = self.hidden(tokens, state)
        return self.output(F.dropout(hidden, self.dropout, self.training)), state

    def hidden(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hidden units (t, b, hidden_size) of the last layer, and the new state of all."""
        embedded = self.embedding(tokens)  # (t, b, embedding_size)
        with _recurrence_precision(self.recurrent, embedded.device):
            if not isinstance(self.recurrent, nn.LSTM):
                hidden, new = self.recurrent(embedded, None if state is None else state[0])
                return hidden, (new,)
            hidden, new = self.recurrent(embedded, state)
            return hidden, tuple(part.to(embedded.dtype) for part in new)


class OneStep(nn.Module):
    """A recurrent network one token at a time: tokens (b,), state -> logits (b, v), new state.

    The state is h (layers, b, hidden), and c of an LSTM.
    """

    def __init__(self, network: CharRNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, h: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        logits, new = self.network(tokens[None], (h,) if c is None else (h, c))
        return logits[0], *new


def _recurrence_precision(cell: nn.Module, device: torch.device) -> AbstractContextManager:
    """Weights' own precision on CPUs, but where autocast has a fast kernel for the cell."""
    if device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return nullcontext()
    to_bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    fast = isinstance(cell, nn.LSTM) and to_bfloat16 and multiplies_bfloat16(device)
    return nullcontext() if fast else torch.autocast("cpu", enabled=False)


def _forget(hidden_size: int) -> slice:
    return slice(hidden_size, 2 * hidden_size)  # torch's order of the gates is i, f, g, o


def _check(hidden: int, layers: int, embedding: int, dropout: float, tied: bool) -> None:
    if not 1 <= layers <= 4 or hidden < 1 or embedding < 1:
        raise InputError(
            f"layers is {layers}, hidden_size {hidden}, embedding_size {embedding}: there can be 1"
            " to 4 layers, and sizes of 1 or more"
        )
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout}: it must be 0 or more, and less than 1")
    if tied and embedding != hidden:
        raise InputError(
            f"tied needs embedding_size ({embedding}) to be hidden_size ({hidden}): leave it out"
        )
