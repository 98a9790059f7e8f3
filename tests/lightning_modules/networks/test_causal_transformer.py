"""The network against its equations, and its window against reading anew."""

import math

import pytest
import torch
import torch.nn.functional as F

from novum.lightning_modules.networks import CausalTransformer

CONTEXT = 6


def tokens(t: int, b: int, vocab: int = 7) -> torch.Tensor:
    return torch.randint(0, vocab, (t, b), generator=torch.Generator().manual_seed(0))


def small(**settings) -> CausalTransformer:
    torch.manual_seed(0)
    shape = dict(vocab_size=7, width=8, layers=2, heads=2, context=CONTEXT)
    network = CausalTransformer(**{**shape, **settings}).double().eval()
    for parameter in network.parameters():  # at the start a network hardly attends
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)
    return network


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def rotary(x: torch.Tensor) -> torch.Tensor:
    """Each pair of channels as a complex number, turned by its place (Su et al., 2021, eq. 34)."""
    t, c = x.shape[-2:]
    theta = 10_000.0 ** (-2 * torch.arange(c // 2) / c)
    turn = torch.exp(1j * torch.arange(t)[:, None] * theta)
    turned = torch.complex(x[..., : c // 2], x[..., c // 2 :]) * turn
    return torch.cat([turned.real, turned.imag], -1)


def by_equations(network: CausalTransformer, row: torch.Tensor) -> torch.Tensor:
    """Logits (t, v) of one window of tokens (t,), head by head."""
    w = {name: p.detach() for name, p in network.named_parameters()}
    x = w["embedding.weight"][row]
    later = torch.ones(len(row), len(row)).triu(1).bool()
    for i in range(2):
        block = f"blocks.{i}."
        h = norm(x, w[f"{block}attention_norm.weight"])
        q, k, v = (h @ w[f"{block}attention.qkv.weight"].T).view(len(row), 3, 2, 4).unbind(1)
        heads = []
        for head in range(2):
            scores = rotary(q[:, head]) @ rotary(k[:, head]).T / 2  # root of 4 channels
            heads.append(scores.masked_fill(later, -math.inf).softmax(-1) @ v[:, head])
        x = x + torch.cat(heads, -1) @ w[f"{block}attention.output.weight"].T
        gate, up = (
            norm(x, w[f"{block}mlp_norm.weight"]) @ w[f"{block}mlp.gate_up.weight"].T
        ).chunk(2, -1)
        x = x + (gate * gate.sigmoid() * up) @ w[f"{block}mlp.output.weight"].T
    return norm(x, w["norm.weight"]) @ w["embedding.weight"].T


@pytest.mark.parametrize("training", [False, True])
def test_it_is_its_equations(training):
    network, x = small().train(training), tokens(CONTEXT, 3)
    logits, _ = network(x)
    for b in range(3):
        torch.testing.assert_close(logits[:, b], by_equations(network, x[:, b]), rtol=1e-5, atol=0)


def window(place: int) -> slice:
    """The tokens up to a place that are in view."""
    start = 0
    while place + 1 - start > CONTEXT:
        start += CONTEXT // 2
    return slice(start, place + 1)


@pytest.mark.parametrize("sizes", [[1] * 20, [20], [2, 5, 1, 6, 6], [7, 13]])
def test_reading_on_is_reading_the_window_anew(sizes):
    """The cache is exact, whatever chunks the text comes in, and beyond the context too."""
    network, x = small(), tokens(20, 3)
    state, parts = None, []
    with torch.no_grad():
        for chunk in x.split(sizes):
            logits, state = network(chunk, state)
            parts.append(logits)
        found = torch.cat(parts)
        network.train()  # where nothing is cached
        for place in range(20):
            anew = network(x[window(place)])[0][-1]
            torch.testing.assert_close(found[place], anew, rtol=1e-9, atol=1e-12)


def test_a_token_sees_nothing_after_it_and_nothing_before_its_window():
    network, x = small(), tokens(20, 1)
    with torch.no_grad():
        logits = network(x)[0]
        for changed in (3, 10, 19):
            other = x.clone()
            other[changed] = (other[changed] + 1) % 7
            differs = (network(other)[0] != logits).any(-1)[:, 0].tolist()
            in_view = [window(place).start <= changed <= place for place in range(20)]
            assert differs == in_view


def test_weights_start_as_gpt_2s():
    network = CausalTransformer(500, 256, 8, 4)
    std = {name: float(p.detach().std()) for name, p in network.named_parameters() if p.ndim == 2}
    for name, value in std.items():
        added = "blocks" in name and name.endswith("output.weight")
        assert value == pytest.approx(0.02 / 4 if added else 0.02, rel=0.03), name
    x = tokens(16, 4, 500)
    others = (x + 7) % 500  # tied weights expect a token to come again
    nats = F.cross_entropy(network(x)[0].flatten(0, 1), others.flatten())
    assert float(nats.detach()) == pytest.approx(math.log(500), abs=0.2)


def test_tied_output_is_the_embedding():
    tied, free = small(), small(tied=False)
    assert tied.output.weight is tied.embedding.weight
    assert len(list(free.parameters())) == len(list(tied.parameters())) + 1


def test_dropout_works_in_training_only():
    network, x = small(dropout=0.5).train(), tokens(4, 2)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"width": 9}, "width is 9, heads 4"),
        ({"width": 12}, "an even number of channels"),
        ({"layers": 0}, "layers 0"),
        ({"context": 1}, "context is 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        CausalTransformer(**settings)


def test_attention_drops_weights_in_training_alone():
    """Of equal values, each 1, the mean is 1; with dropout it is the kept share, scaled up."""
    attention = small(dropout=0.5).blocks[0].attention
    attention.qkv.weight.data.zero_()
    attention.output.weight.data.copy_(torch.eye(8))
    values = attention.qkv.weight.data.view(6, 4, 8)[4:]  # 3 x heads: queries, keys, values
    values[..., 0] = 1.0
    x, turns = torch.ones(CONTEXT, 500, 8, dtype=torch.float64), torch.zeros(2, 1, 1, 1, 2)
    turns = turns.double()
    torch.testing.assert_close(attention(x, turns, None, 0), torch.ones_like(x))
    attention.train()
    torch.manual_seed(0)
    last = attention(x, turns, None, 0)[
        -1
    ].detach()  # attends to six alike: 2 x Binomial(6, 1/2) / 6
    assert abs(float(last.mean()) - 1) < 0.05
    assert abs(float(last.var()) - 1 / 6) < 0.03
