"""Drawing tokens: closed forms, and a fake network whose next token is known."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from novum.lightning_modules import text_sampling
from novum.lightning_modules.networks import CharRNN
from novum.lightning_modules.text_sampling import Sampling, beam_search, draw, generate

LOGITS = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()


def kept(p: torch.Tensor) -> list[int]:
    return p[0].nonzero().flatten().tolist()


def test_temperature_is_its_closed_form():
    p = Sampling(temperature=0.5).probabilities(LOGITS)
    squares = torch.tensor([[0.25, 0.04, 0.04, 0.01]], dtype=torch.float64)
    torch.testing.assert_close(p, squares / squares.sum(), atol=1e-6, rtol=1e-6)
    assert kept(Sampling(temperature=0).probabilities(LOGITS)) == [0]


def test_top_k_and_top_p_keep_the_likeliest():
    assert len(kept(Sampling(top_k=2).probabilities(LOGITS))) == 2
    assert kept(Sampling(top_k=99).probabilities(LOGITS)) == [0, 1, 2, 3]
    assert kept(Sampling(top_p=0.5).probabilities(LOGITS)) == [0]
    assert len(kept(Sampling(top_p=0.51).probabilities(LOGITS))) == 2
    assert kept(Sampling(top_p=1.0).probabilities(LOGITS)) == [0, 1, 2, 3]


def test_typical_prefers_expected_surprisal():
    """Entropy 1.22 nats; surprisals .69, 1.61, 1.61, 2.30: the two of .2 are nearest."""
    assert kept(Sampling(typical=0.39).probabilities(LOGITS)) == [1, 2]
    assert kept(Sampling(typical=0.41).probabilities(LOGITS)) == [0, 1, 2]


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.floats(0.01, 1))
def test_filters_always_leave_a_token(logits, share):
    logits = torch.tensor([logits])
    for how in (Sampling(top_p=share), Sampling(typical=share), Sampling(top_k=1)):
        p = how.probabilities(logits)
        assert p.sum() > 0 and p.isfinite().all()
        assert p[0, int(draw(p, torch.tensor([0.999])))] > 0


def test_draws_have_the_probabilities():
    p = Sampling().probabilities(LOGITS).expand(1000, -1)
    u = (torch.arange(1000) + 0.5) / 1000  # evenly through [0, 1)
    assert draw(p, u).bincount().tolist() == [500, 200, 200, 100]
    zero = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    last = torch.tensor([1 - 2**-24])
    assert draw(zero, torch.zeros(1)).item() == draw(zero, last).item() == 1


class Successor(torch.nn.Module):
    """After token k comes k + 1, but for a chance that grows with the state."""

    def forward(self, tokens, state=None):
        t, b = tokens.shape
        count = torch.zeros(1, b, 1) if state is None else state[0]
        logits = torch.full((t, b, 6), -30.0)
        logits.scatter_(-1, ((tokens + 1) % 6)[..., None], 0.0)
        return logits, (count + t,)


def test_texts_go_on_from_the_prime():
    u = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    out = generate(Successor(), torch.tensor([1, 2]), u, Sampling(), torch.tensor([], dtype=int))
    assert out.tolist() == [[3, 4, 5, 0, 1]] * 3


def test_forbidden_tokens_are_never_drawn():
    u = torch.rand(50, 30, generator=torch.Generator().manual_seed(0))
    net = CharRNN(6, hidden_size=4).eval()
    out = generate(net, torch.tensor([1]), u, Sampling(temperature=5.0), torch.tensor([0]))
    assert out.min() == 1 and out.max() == 5


def test_streams_do_not_touch_each_other():
    u = torch.rand(8, 20, generator=torch.Generator().manual_seed(1))
    net = CharRNN(6, hidden_size=4).double().eval()
    args = Sampling(), torch.tensor([0])
    together = generate(net, torch.tensor([2]), u, *args)
    alone = [generate(net, torch.tensor([2]), row[None], *args)[0] for row in u]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("how", [Sampling(), Sampling(0.7, top_k=3), Sampling(0)])
def test_steps_as_they_are_captured_draw_the_same(how, monkeypatch):
    """A graph's replay is its step; here the step itself stands for it."""
    seen = []

    def captured(step, kept):
        before = [x.clone() for x in kept]
        step()
        seen.extend(not torch.equal(x, was) for x, was in zip(kept, before, strict=True))
        for x, was in zip(kept, before, strict=True):
            x.copy_(was)
        return step

    monkeypatch.setattr(text_sampling, "_captured", captured)
    net, u = CharRNN(6, hidden_size=4).eval(), torch.rand(3, 20)
    logits, state = net(torch.full((1, 3), 2))
    arguments = logits[0], state, u, how, torch.tensor([0])
    with torch.inference_mode():
        plain = list(text_sampling._grown(net, *arguments))
        graphed = list(text_sampling._grown_by_graph(net, *arguments))
    assert all(seen)  # the logits and all of the state are where a replay finds them
    assert torch.equal(torch.stack(graphed), torch.stack(plain))


def test_wide_beam_finds_what_trying_all_finds():
    net = CharRNN(4, hidden_size=5, layers=1).double().eval()
    prime, length, never = torch.tensor([1]), 4, torch.tensor([0])
    with torch.inference_mode():
        scores = {}
        for text in itertools.product([1, 2, 3], repeat=length):
            logits, _ = net(torch.tensor([1, *text[:-1]])[:, None])
            logits[..., 0] = -math.inf
            steps = logits.log_softmax(-1)[range(length), 0, text]
            scores[text] = float(steps.sum())
    best = sorted(scores, key=scores.get, reverse=True)
    found = beam_search(net, prime, length, beam=81, never=never)
    assert [tuple(row) for row in found[:10].tolist()] == best[:10]
    narrow = beam_search(net, prime, length, beam=2, never=never)
    assert narrow.shape == (2, length)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1},
        {"top_k": 0},
        {"top_p": 0.0},
        {"typical": 1.5},
        {"beam": 0},
        {"beam": 2, "temperature": 0.5},
        {"beam": 2, "top_k": 3},
    ],
)
def test_bad_settings_are_told(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        Sampling(**settings)
