"""A decoder-only transformer (Vaswani et al., 2017; Radford et al., 2019; Touvron et al., 2023)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least

State = tuple[Tensor, ...]  # tokens (n, b) of the window, then the cache of each block
INIT_STD = 0.02  # of GPT-2's weights
BASE = 10_000.0  # of the lengths of turns


class CausalTransformer(nn.Module):
    """Tokens (t, b) int64 and a state -> logits (t, b, vocab_size) of the next tokens, new state.

    A token is predicted from a window of the tokens before it. The window grows to `context`; then
    it goes on from its newer half, so a long text is read with context / 2 to `context` tokens in
    view, the same wherever it is cut into chunks. The state is the window with the keys and values
    of its tokens; reading writes into it, so each state is read on from once.

    Pre-norm blocks of attention with rotary positions (Su et al., 2021, arXiv:2104.09864) and a
    gated MLP (SwiGLU; Shazeer, 2020, arXiv:2002.05202), without biases.

    Args:
        vocab_size: Number of tokens.
        width: Channels of a token between the blocks.
        layers: Blocks.
        heads: Of attention, width / heads channels each.
        context: Tokens of a full window.
        dropout: Of the embedding, the weights of attention and what each half of a block adds.
        tied: The output layer uses the embedding's weights (Press & Wolf, 2017, arXiv:1608.05859).
    """

    def __init__(
        self,
        vocab_size: int = 256,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        context: int = 64,
        dropout: float = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        check_at_least(1, vocab_size=vocab_size)
        _check(width, layers, heads, context, dropout)
        self.vocab_size, self.width, self.heads, self.context = vocab_size, width, heads, context
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.output = nn.Linear(width, vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:  # what 2 x layers of them add up to keeps its size, as in GPT-2
                added = name.endswith(("attention.output.weight", "mlp.output.weight"))
                std = INIT_STD / math.sqrt(2 * layers) if added else INIT_STD
                nn.init.normal_(weight, std=std)
        if tied:
            self.output.weight = self.embedding.weight

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Read without what torch.compile made, which would be made anew for each length."""
        called = super().__call__ if self.training else self._call_impl
        return called(*args, **kwargs)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """In training tokens are a window, at most `context` of them, and there is no state."""
        if not self.training:
            return self._read(tokens, state)
        x = self.dropout(self.embedding(tokens))  # (t, b, width)
        turns = rotations(0, len(tokens), self.width // self.heads, x.device)
        for block in self.blocks:
            x = block(x, turns)
        return self.output(self.norm(x)), ()

    @torch.compiler.disable()  # the lengths of windows differ from call to call
    def _read(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        outputs, state = self.hidden(tokens, state)
        return self.output(self.norm(outputs[-1])), state

    def hidden(self, tokens: Tensor, state: State | None = None) -> tuple[list[Tensor], State]:
        """Each block's output (t, b, width), and the new state; in evaluation mode."""
        parts = []
        state = state or self._empty(tokens.shape[1])
        while len(tokens):
            if len(state[0]) == self.context:
                newer = state[0][(self.context + 1) // 2 :]
                _, state = self._extend(newer, self._empty(tokens.shape[1]))
            room = self.context - len(state[0])
            outputs, state = self._extend(tokens[:room], state)
            parts.append(outputs)
            tokens = tokens[room:]
        return [torch.cat(layer) for layer in zip(*parts, strict=True)], state

    def _empty(self, streams: int) -> State:
        weight = self.embedding.weight
        shape = (2, streams, self.heads, self.context, self.width // self.heads)  # keys, values
        caches = (weight.new_empty(shape) for _ in self.blocks)
        tokens = torch.empty(0, streams, dtype=torch.int64, device=weight.device)
        return (tokens, *caches)

    def _extend(self, tokens: Tensor, state: State) -> tuple[list[Tensor], State]:
        """Outputs of each block for tokens that fit into the window."""
        window, *caches = state
        x, outputs = self.embedding(tokens), []
        turns = rotations(len(window), len(tokens), self.width // self.heads, x.device)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, turns, cache, len(window))
            outputs.append(x)
        return outputs, (torch.cat([window, tokens]), *caches)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); x is (t, b, width)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads, dropout)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp = GatedMLP(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, turns: Tensor, cache: Tensor | None = None, read: int = 0
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), turns, cache, read))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Attention(nn.Module):
    """Causal attention: of each token to itself and to those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor, cache: Tensor | None, read: int) -> Tensor:
        """Attention of x (t, b, width) that follows `read` tokens, which the cache holds."""
        t, b, width = x.shape
        heads = self.qkv(x).view(t, b, 3 * self.heads, -1)
        qk, v = heads.split([2 * self.heads, self.heads], 2)
        q, k = rotate(qk, turns).split(self.heads, 2)
        q, k, v = (part.permute(1, 2, 0, 3) for part in (q, k, v))  # (b, heads, t, channels)
        if cache is not None:
            cache[0, :, :, read : read + t], cache[1, :, :, read : read + t] = k, v
            k, v = cache[:, :, :, : read + t].to(q.dtype)  # under autocast the cache is wider
        mask = None if read == 0 or t == 1 else x.new_ones(t, read + t, dtype=torch.bool).tril(read)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=read == 0)
        return self.output(y.permute(2, 0, 1, 3).reshape(t, b, width))


class GatedMLP(nn.Module):
    """output(silu(gate(x)) * up(x)), of about the size of an MLP four times as wide as x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 16 * round(8 / 3 * width / 16) or 1
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.output(F.silu(gate) * up)


def rotations(first: int, length: int, channels: int, device: torch.device) -> Tensor:
    """Cosine and sine (2, length, 1, 1, channels / 2) of the angles that places turn pairs by.

    Computed anew: a buffer would be sent to all ranks at every step, and rounded to half precision.
    """
    pairs = torch.arange(0, channels, 2, device=device) / channels
    places = torch.arange(first, first + length, device=device)
    angles = places[:, None, None, None] * BASE**-pairs
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of channels, c and c + channels / 2, of x (t, b, heads, channels)."""
    cos, sin = turns.to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def _check(width: int, layers: int, heads: int, context: int, dropout: float) -> None:
    if min(layers, heads) < 1 or width < 1 or width % (2 * heads):
        raise InputError(
            f"width is {width}, heads {heads}, layers {layers}: there must be 1 or more of each,"
            " and an even number of channels, width / heads, for each head"
        )
    if context < 2:
        raise InputError(f"context is {context}: it must be 2 tokens or more")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout}: it must be 0 or more, and less than 1")
