"""CharLSTM against a bare loop, and what a run must not get wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from novum.lightning_modules import CharLSTM, schedules
from tests.tiny import states_equal, tiny_trainer
from tests.tiny_text import small_text, text_data, tiny_char_lstm

pytestmark = pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")


def bare_loop(net: nn.Module, data, steps: int, clip: float) -> None:
    """Truncated backpropagation through time, written out."""
    tokens = torch.from_numpy(data.train.tokens.astype("int64"))
    apart = len(tokens) // 4
    length = min(apart, len(tokens) - 1 - 3 * apart)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    state = None
    for step in range(steps):
        at = step % (length // 8)
        if at == 0:
            state = None
        rows = [tokens[b * apart + 8 * at :][:9] for b in range(4)]
        x = torch.stack(rows, 1)
        logits, state = net(x[:-1], state)
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), x[1:].flatten()).backward()
        nn.utils.clip_grad_value_(net.parameters(), clip)
        optimizer.step()


def train(tmp_path, model, data, ckpt_path=None, **settings) -> CharLSTM:
    trainer = tiny_trainer(tmp_path, **settings)
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return model


def validate(tmp_path, model, data) -> dict[str, float]:
    trainer = tiny_trainer(tmp_path, limit_val_batches=1.0)
    trainer.validate(model, data, verbose=False)
    return {tag: float(value) for tag, value in trainer.callback_metrics.items()}


def test_same_weights_as_a_bare_loop(tmp_path):
    """Over more than one pass of the text, so that the state is carried and reset."""
    data = text_data(tmp_path, small_text(60))
    per_epoch = (len(data.train) - 1) // 4 // 8
    steps = 2 * per_epoch + 1
    assert per_epoch > 1
    ours, reference = tiny_char_lstm(data), tiny_char_lstm(data)
    train(tmp_path, ours, data, max_steps=steps,
          gradient_clip_val=0.05, gradient_clip_algorithm="value")  # fmt: skip
    bare_loop(reference.network, data, steps, clip=0.05)
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert ours.tokens_seen == steps * 4 * 8


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_resume_in_mid_epoch_is_bit_for_bit(tmp_path, cell):
    data = text_data(tmp_path)
    network = {"dropout": 0.3, "cell": cell}

    def saves() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / "saved", every_n_train_steps=5, save_top_k=-1,
                               filename="{step}")  # fmt: skip

    whole = tiny_char_lstm(data, network, schedule=schedules.cosine)
    train(tmp_path, whole, data, max_steps=12, callbacks=[saves()], enable_checkpointing=True)
    checkpoint = str(tmp_path / "saved" / "step=5.ckpt")
    assert torch.load(checkpoint, weights_only=True)["tokens_seen"] == 5 * 32
    resumed = tiny_char_lstm(data, network, schedule=schedules.cosine)
    train(tmp_path, resumed, data, max_steps=12, ckpt_path=checkpoint, callbacks=[saves()],
          enable_checkpointing=True)  # fmt: skip
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(whole.state, resumed.state, strict=True))
    assert whole.tokens_seen == resumed.tokens_seen == 12 * 32


def test_resume_without_the_state_would_differ(tmp_path):
    """The test above can fail: the carried state matters."""
    data = text_data(tmp_path)
    whole, broken = tiny_char_lstm(data), tiny_char_lstm(data)
    train(tmp_path, whole, data, max_steps=4)

    class Forgets(CharLSTM):
        def on_train_batch_start(self, *_):
            self.state = None

    broken.__class__ = Forgets
    train(tmp_path, broken, data, max_steps=4)
    assert not states_equal(whole.state_dict(), broken.state_dict())


def reference_loss(model, data, streams: int) -> float:
    """Nats a token of held-out streams read in one go, float64."""
    net = model.network.double().eval()
    tokens = torch.from_numpy(data.heldout.tokens.astype("int64"))
    apart = len(tokens) // streams
    length = min(apart, len(tokens) - 1 - (streams - 1) * apart)
    rows = torch.stack([tokens[b * apart :][: length + 1] for b in range(streams)], 1)
    with torch.no_grad():
        logits, _ = net(rows[:-1])
    return float(F.cross_entropy(logits.flatten(0, 1), rows[1:].flatten()))


def test_stateful_validation_is_one_long_read(tmp_path):
    data = text_data(tmp_path, small_text(3000))
    model = tiny_char_lstm(data)
    streams = min(50, (len(data.heldout) - 1) // 8)
    found = validate(tmp_path, model, data)
    expected = reference_loss(model, data, streams)
    assert found["val/nats_per_char"] == pytest.approx(expected, rel=1e-5)
    assert found["val/bits_per_char"] == pytest.approx(expected / math.log(2), rel=1e-5)


def test_windowed_validation_starts_each_window_empty(tmp_path):
    data = text_data(tmp_path, validation="windowed", window=10)
    model = tiny_char_lstm(data)
    found = validate(tmp_path, model, data)
    net = model.network.double().eval()
    tokens = torch.from_numpy(data.heldout.tokens.astype("int64"))
    nats = 0.0
    for start in range(0, len(tokens) - 1, 10):  # the last is shorter
        row = tokens[start : start + 11, None]
        with torch.no_grad():
            logits = net(row[:-1])[0][:, 0]
            nats += float(F.cross_entropy(logits, row[1:, 0], reduction="sum"))
    assert found["val/nats_per_char"] == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)


def test_loss_of_bytes_is_counted_by_character(tmp_path):
    data = text_data(tmp_path, "éü" * 20_000, vocabulary="bytes")
    model = tiny_char_lstm(data)
    found = validate(tmp_path, model, data)
    per_byte = reference_loss(model, data, min(50, (len(data.heldout) - 1) // 8))
    assert found["val/nats_per_char"] == pytest.approx(
        2 * per_byte, rel=0.02
    )  # a stream may start inside one


def test_training_state_survives_a_validation(tmp_path):
    data = text_data(tmp_path)
    alone, validated = tiny_char_lstm(data), tiny_char_lstm(data)
    train(tmp_path, alone, data, max_steps=4)
    train(tmp_path, validated, data, max_steps=4, val_check_interval=1, limit_val_batches=1.0,
          check_val_every_n_epoch=None, callbacks=[])  # fmt: skip
    assert states_equal(alone.state_dict(), validated.state_dict())


def test_schedule_sets_the_rate(tmp_path):
    data = text_data(tmp_path)
    seen = []

    class Recorder(CharLSTM):
        def on_before_optimizer_step(self, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    model = tiny_char_lstm(data, lr=0.5, schedule=schedules.cosine)
    model.__class__ = Recorder
    train(tmp_path, model, data, max_steps=4)
    assert seen == pytest.approx([0.5 * 0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)])


def test_published_schedules():
    rates = [schedules.char_rnn_decay(epoch, 0) for epoch in (0, 9.9, 10, 11.5, 49)]
    assert rates == pytest.approx([1, 1, 0.97, 0.97**2, 0.97**40])
    assert [schedules.torch_rnn_decay(e, 0) for e in (3.9, 4, 8.9, 9)] == [1, 0.5, 0.5, 0.25]
    assert schedules.constant(99, 1) == 1


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, torch.optim.AdamW])
def test_other_optimizers(tmp_path, optimizer):
    data = text_data(tmp_path)
    model = tiny_char_lstm(data, optimizer=lambda p: optimizer(p, lr=1e-2))
    before = model.network.output.weight.detach().clone()
    train(tmp_path, model, data)
    assert not torch.equal(before, model.network.output.weight)


def test_bf16(tmp_path):
    data = text_data(tmp_path)
    full, half = tiny_char_lstm(data, lr=0.02), tiny_char_lstm(data, lr=0.02)
    start = full.network.output.weight.detach().clone()
    train(tmp_path, full, data, max_steps=6)
    train(tmp_path, half, data, max_steps=6, precision="bf16-mixed")
    steps = [(m.network.output.weight - start).flatten() for m in (full, half)]
    assert torch.cosine_similarity(*steps, dim=0) > 0.9
    assert half.network.output.weight.dtype == torch.float32


def test_it_learns(tmp_path):
    data = text_data(tmp_path, "abcd" * 500)
    model = tiny_char_lstm(data, lr=0.05)
    train(tmp_path, model, data, max_steps=60)
    found = validate(tmp_path, model, data)
    assert found["val/nats_per_char"] < 0.05
    assert model.sample_text(2, 8, prime="ab", seed=0) == ["cdabcdab"] * 2


def test_a_broken_state_is_never_saved(tmp_path):
    data = text_data(tmp_path)
    model = tiny_char_lstm(data)
    model.network.output.weight.data[0] = math.nan
    trainer = tiny_trainer(tmp_path, max_steps=2, log_every_n_steps=10)
    with pytest.raises(FloatingPointError, match="loss/nats_per_token is nan at step 0"):
        trainer.fit(model, data)  # losses are logged at its end
    with pytest.raises(FloatingPointError, match="loss/nats_per_token is nan at step 0"):
        trainer.save_checkpoint(tmp_path / "x.ckpt")


class TestSampling:
    def test_the_same_for_the_same_seed(self, tmp_path):
        model = tiny_char_lstm(text_data(tmp_path))
        texts = model.sample_text(5, 30, seed=3)
        assert texts == model.sample_text(5, 30, seed=3)
        assert texts[:2] == model.sample_text(2, 30, seed=3)
        assert texts != model.sample_text(5, 30, seed=4)
        assert [len(text) for text in texts] == [30] * 5
        assert len(set(texts)) == 5

    def test_training_mode_and_state_are_left_alone(self, tmp_path):
        model = tiny_char_lstm(text_data(tmp_path), {"dropout": 0.5}).train()
        assert model.sample_text(1, 20, seed=0) == model.sample_text(1, 20, seed=0)
        assert model.network.training and model.state is None

    def test_unknown_characters_of_a_prime_are_told(self, tmp_path):
        model = tiny_char_lstm(text_data(tmp_path))
        with pytest.warns(UserWarning, match="never seen 'xy' of the prime: read as U"):
            (text,) = model.sample_text(1, 5, prime="laxy", seed=0)
        assert (text,) == tuple(model.sample_text(1, 5, prime="la\ufffd\ufffd", seed=0))

    def test_bytes_cut_in_two_are_no_crash(self, tmp_path):
        model = tiny_char_lstm(text_data(tmp_path, vocabulary="bytes"))
        assert isinstance(model.sample_text(3, 50, prime="né", seed=0)[0], str)

    def test_beam_gives_no_more_than_its_width(self, tmp_path):
        model = tiny_char_lstm(text_data(tmp_path))
        assert len(model.sample_text(2, 5, beam=3)) == 2
        with pytest.raises(ValueError, match="beam is 3: 4 texts need"):
            model.sample_text(4, 5, beam=3)


class TestAnalysis:
    def test_surprisal_is_the_loss(self, tmp_path):
        data = text_data(tmp_path)
        model = tiny_char_lstm(data)
        rows = torch.from_numpy(data.heldout.tokens[:40].astype("int64")).view(2, 20)
        nats = model.surprisal(rows)
        assert nats.shape == (2, 19)
        logits, _ = model.network(rows.T[:-1])
        expected = F.cross_entropy(logits.flatten(0, 1), rows.T[1:].flatten())
        assert float(nats.mean()) == pytest.approx(float(expected.detach()), rel=1e-5)

    def test_activations_are_memory_of_all_layers(self, tmp_path):
        data = text_data(tmp_path)
        model = tiny_char_lstm(data)
        rows = torch.from_numpy(data.heldout.tokens[:20].astype("int64")).view(2, 10)
        held = model.activations(rows)
        assert held.shape == (2, 10, 16)
        _, (_, c) = model.network(rows.T)
        torch.testing.assert_close(held[:, -1, 8:], torch.tanh(c[1]).detach())


def test_checkpoint_of_other_characters_is_refused(tmp_path):
    data = text_data(tmp_path, "abc" * 400)
    trainer = tiny_trainer(tmp_path)
    trainer.fit(tiny_char_lstm(data), data)
    trainer.save_checkpoint(tmp_path / "abc.ckpt")
    other = text_data(tmp_path, "xyz" * 400)
    with pytest.raises(ValueError, match="a text of other characters"):
        train(tmp_path, tiny_char_lstm(other), other, ckpt_path=str(tmp_path / "abc.ckpt"))
