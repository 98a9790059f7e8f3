"""The network against the equations it is named after."""

import pytest
import torch
from torch import nn

from novum.lightning_modules.networks import CharRNN


def tokens(t: int, b: int, vocab: int = 5) -> torch.Tensor:
    return torch.randint(0, vocab, (t, b), generator=torch.Generator().manual_seed(0))


def test_lstm_is_its_equations():
    """Hochreiter & Schmidhuber (1997) with a forget gate (Gers et al., 2000), in float64."""
    net = CharRNN(5, hidden_size=3, layers=1, embedding_size=2).double()
    x = tokens(4, 2)
    logits, (h_n, c_n) = net(x)
    w = {name: p.detach() for name, p in net.recurrent.named_parameters()}
    h = c = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(4):
        gates = net.embedding(x[t]) @ w["weight_ih_l0"].T + h @ w["weight_hh_l0"].T
        i, f, g, o = (gates + w["bias_ih_l0"] + w["bias_hh_l0"]).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(logits[t], net.output(h))
    torch.testing.assert_close(h_n[0], h)
    torch.testing.assert_close(c_n[0], c)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("layers", [1, 4])
def test_chunks_with_their_state_are_the_whole(cell, layers):
    net = CharRNN(5, hidden_size=4, layers=layers, cell=cell).double()
    x = tokens(10, 3)
    whole, state = net(x)
    first, carried = net(x[:7])
    second, last = net(x[7:], carried)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(state, last, strict=True):
        torch.testing.assert_close(a, b)
    assert len(state) == (2 if cell is nn.LSTM else 1)


def test_forget_gates_start_open():
    net = CharRNN(hidden_size=4, layers=3, forget_bias=1.0)
    for layer in range(3):
        biases = [getattr(net.recurrent, f"bias_{kind}_l{layer}") for kind in ("ih", "hh")]
        assert torch.equal(sum(b.detach()[4:8] for b in biases), torch.ones(4))
        assert not torch.equal(biases[0][:4], torch.ones(4))


def test_tied_output_is_the_embedding():
    net = CharRNN(7, hidden_size=4, tied=True)
    assert net.output.weight is net.embedding.weight
    assert len(list(net.parameters())) == len(list(CharRNN(7, hidden_size=4).parameters())) - 1


def test_dropout_works_in_training_only():
    net = CharRNN(5, hidden_size=64, layers=2, dropout=0.5)
    x = tokens(3, 2)
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    one = CharRNN(5, hidden_size=64, layers=1, dropout=0.5)  # before the output alone
    assert one.recurrent.dropout == 0
    assert not torch.equal(one(x)[0], one(x)[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layers": 5}, "1 to 4 layers"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"tied": True, "embedding_size": 9}, "tied needs embedding_size"),
    ],
)
def test_bad_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        CharRNN(**settings)
