"""Drawing text from a network (tokens (t, b), state) -> (logits (t, b, v), state)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from novum.core.errors import InputError

T = TypeVar("T")
State = tuple[Tensor, ...]  # each part (., b, ...)
ASKED_EVERY = 32  # tokens, whether a text is long enough: it waits for the device


@dataclass(frozen=True)
class Sampling:
    """Sampling of text.

    Args:
        temperature: Divides the logits; below 1 is more careful, 0 takes the likeliest token.
        prime: Text that is gone on with.
        top_k: Draw from this many likeliest tokens (Fan et al., 2018).
        top_p: Draw from the fewest likeliest tokens of at least this probability (Holtzman et al.,
            2020, arXiv:1904.09751).
        typical: Draw from the tokens whose surprisal is nearest to the expected one, of at least
            this probability (Meister et al., 2023, arXiv:2202.00666).
        beam: Nothing is drawn: the likeliest texts that a beam search of this width finds.
    """

    temperature: float = 1.0
    prime: str = ""
    top_k: int | None = None
    top_p: float | None = None
    typical: float | None = None
    beam: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}: it must be 0 or more")
        for name in ("top_k", "beam"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1")
        for name in ("top_p", "typical"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} is {value}: it must be above 0, and at most 1")
        drawing = [k for k in ("top_k", "top_p", "typical") if getattr(self, k) is not None]
        drawing += ["temperature"] * (self.temperature != 1)
        if self.beam is not None and drawing:
            raise InputError(
                f"beam is {self.beam} and {drawing[0]} is {getattr(self, drawing[0])}: a beam"
                f" search draws nothing, so leave out {drawing[0]}, or the beam"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (b, v) -> float64 (b, v) that the next token is drawn from, in proportion."""
        if self.temperature == 0:
            return torch.zeros_like(logits).double().scatter(-1, logits.argmax(-1, True), 1.0)
        p = torch.softmax(logits.double() / self.temperature, -1)
        if self.top_k is not None:
            p = _keep(p, p.argsort(-1, descending=True), self.top_k)
        if self.top_p is not None:
            p = _keep_mass(p, p.argsort(-1, descending=True), self.top_p)
        if self.typical is not None:
            surprisal = -torch.log(p)
            entropy = torch.special.entr(p).sum(-1, keepdim=True) / p.sum(-1, keepdim=True)
            p = _keep_mass(p, (surprisal - entropy).abs().argsort(-1), self.typical)
        return p


def _keep(p: Tensor, order: Tensor, k: int) -> Tensor:
    """p (b, v) with 0 for all but the first k of each row's order."""
    return p.scatter(-1, order[..., k:], 0.0)


def _keep_mass(p: Tensor, order: Tensor, share: float) -> Tensor:
    """p (b, v) with 0 for all but the fewest first ones that have this share of each row's sum."""
    p = p / p.sum(-1, keepdim=True)
    sorted_p = p.gather(-1, order)
    before = sorted_p.cumsum(-1) - sorted_p
    return p.scatter(-1, order, sorted_p.where(before < share, 0.0))


def draw(p: Tensor, u: Tensor) -> Tensor:
    """Token (b,) where uniform numbers u (b,) fall in the cumulated p (b, v), float64."""
    cumulated = p.cumsum(-1)
    # float32 numbers are at most 1 - 2^-24, so that their product stays below the last sum
    target = u.double()[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, target, right=True).squeeze(-1)


def _with_bar(steps: Iterable[T], bar: bool) -> Iterable[T]:
    """Steps behind a progress bar, once they take longer than a second, on a terminal alone."""
    if not bar:
        return steps
    return tqdm(steps, unit=" characters", delay=1, leave=False, disable=None)


@torch.inference_mode()
def generate(
    network: nn.Module,
    prime: Tensor,
    uniforms: Tensor,
    how: Sampling,
    never: Tensor,
    bar: bool = False,
    until: Callable[[Tensor], bool] | None = None,
) -> Tensor:
    """Tokens (n, length) that go on after `prime` (p,), p >= 1; fewer if `until` ends it.

    Args:
        network: In evaluation mode.
        prime: int64 on the network's device.
        uniforms: float32 (n, length) in [0, 1), which all chance comes from.
        how: The temperature and filters.
        never: Tokens (k,) that are not drawn.
        bar: Show progress on a terminal.
        until: Whether tokens (n, t) are enough; asked now and then.
    """
    n, length = uniforms.shape
    logits, state = network(prime[:, None])  # once for all streams
    logits = logits[-1].expand(n, -1)
    state = tuple(part.repeat_interleave(n, 1) for part in state)
    graph = prime.is_cuda and getattr(network, "state_keeps_its_shape", False)
    grow = _grown_by_graph if graph else _grown
    columns = []
    tokens = grow(network, logits, state, uniforms, how, never)
    for _, token in zip(_with_bar(range(length), bar), tokens, strict=True):
        columns.append(token)
        if until and len(columns) % ASKED_EVERY == 0 and until(torch.stack(columns, 1)):
            break
    return torch.stack(columns, 1)


def _grown(
    network: nn.Module, logits: Tensor, state: State, uniforms: Tensor, how: Sampling, never: Tensor
) -> Iterator[Tensor]:
    """Tokens (b,) one after another, each drawn by a column of the uniform numbers (b, length)."""
    *columns, last = uniforms.T.unbind()
    for u in columns:
        token = _next(logits, u, how, never)
        yield token
        logits, state = network(token[None], state)
        logits = logits[0]
    yield _next(logits, last, how, never)


def _next(logits: Tensor, u: Tensor, how: Sampling, never: Tensor) -> Tensor:
    """Tokens (b,) by uniform numbers (b,), after logits (b, v)."""
    return draw(how.probabilities(logits.index_fill(-1, never, -torch.inf)), u)


def _grown_by_graph(
    network: nn.Module, logits: Tensor, state: State, uniforms: Tensor, how: Sampling, never: Tensor
) -> Iterator[Tensor]:
    """The same on a GPU, a token's dozens of short kernels launched as one CUDA graph."""
    kept = [logits.clone(memory_format=torch.contiguous_format), *(part.clone() for part in state)]
    u, token = uniforms[:, 0].clone(), logits.argmax(-1)

    def step() -> None:
        token.copy_(_next(kept[0], u, how, never))
        new, after = network(token[None], tuple(kept[1:]))
        for old, x in zip(kept, (new[0], *after), strict=True):
            old.copy_(x)

    replay = _captured(step, kept)
    for column in uniforms.T.unbind():
        u.copy_(column)
        replay()
        yield token.clone()


def _captured(step: Callable[[], None], kept: Sequence[Tensor]) -> Callable[[], None]:
    """The step as a CUDA graph; the tensors that it changes are as they were."""
    before = [x.clone() for x in kept]
    with torch.cuda.device(kept[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()  # what libraries set up at their first call cannot be captured
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads may pin memory meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
    for x, was in zip(kept, before, strict=True):
        x.copy_(was)
    return graph.replay


@torch.inference_mode()
def beam_search(
    network: nn.Module, prime: Tensor, length: int, beam: int, never: Tensor, bar: bool = False
) -> Tensor:
    """The `beam` likeliest continuations (beam, length) of `prime` (p,) found, the best first."""
    logits, state = network(prime[:, None])
    scores = torch.zeros(1, dtype=torch.float64, device=prime.device)  # log-probability of each
    texts = prime.new_empty(1, 0)
    for _ in _with_bar(range(length), bar):
        logits = logits[-1].double().index_fill(-1, never, -torch.inf)
        total = (scores[:, None] + logits.log_softmax(-1)).flatten()
        vocabulary = logits.shape[-1]
        possible = min(beam, int(total.isfinite().sum()))
        scores, best = total.topk(possible)
        parent, token = best // vocabulary, best % vocabulary
        texts = torch.cat([texts[parent], token[:, None]], 1)
        logits, state = network(token[None], tuple(part[:, parent] for part in state))
    return texts
