"""CharTransformer against a bare loop, and what a run must not get wrong."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from novum.lightning_modules import CharTransformer, schedules
from tests.tiny import states_equal, tiny_trainer
from tests.tiny_text import small_text, text_data, tiny_char_transformer

pytestmark = pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")


def windows(tmp_path, text: str | None = None, **settings):
    return text_data(tmp_path, text, **{"order": "random", **settings})


def train(tmp_path, model, data, ckpt_path=None, **settings) -> CharTransformer:
    tiny_trainer(tmp_path, **settings).fit(model, data, ckpt_path=ckpt_path)
    return model


def validate(tmp_path, model, data) -> dict[str, float]:
    trainer = tiny_trainer(tmp_path, limit_val_batches=1.0)
    trainer.validate(model, data, verbose=False)
    return {tag: float(value) for tag, value in trainer.callback_metrics.items()}


def test_same_weights_as_a_bare_loop(tmp_path):
    data, steps = windows(tmp_path), 50
    ours, reference = tiny_char_transformer(data), tiny_char_transformer(data)
    train(tmp_path, ours, data, max_steps=steps, gradient_clip_val=0.5)
    net = reference.network
    matrices = [p for p in net.parameters() if p.ndim == 2]
    gains = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}],
        betas=(0.9, 0.99),
    )
    text = torch.from_numpy(data.train.tokens.astype("int64"))
    for step in range(steps):
        progress = step / steps  # a line over 2%, then half a cosine
        rate = progress / 0.02
        if progress >= 0.02:
            rate = (1 + math.cos(math.pi * (progress - 0.02) / 0.98)) / 2
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * rate
        starts = np.random.default_rng([0, step]).integers(len(text) - 8, size=4)
        x = torch.stack([text[start : start + 9] for start in starts], 1)
        optimizer.zero_grad()
        F.cross_entropy(net(x[:-1])[0].flatten(0, 1), x[1:].flatten()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert ours.tokens_seen == steps * 4 * 8


def test_resume_in_mid_run_is_bit_for_bit(tmp_path):
    data = windows(tmp_path)

    def saves() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / "saved", every_n_train_steps=5, save_top_k=-1,
                               filename="{step}")  # fmt: skip

    arguments = dict(max_steps=12, enable_checkpointing=True)
    whole = tiny_char_transformer(data, {"dropout": 0.3})
    train(tmp_path, whole, data, callbacks=[saves()], **arguments)
    checkpoint = str(tmp_path / "saved" / "step=5.ckpt")
    assert torch.load(checkpoint, weights_only=True)["tokens_seen"] == 5 * 32
    resumed = tiny_char_transformer(data, {"dropout": 0.3})
    train(tmp_path, resumed, data, checkpoint, callbacks=[saves()], **arguments)
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert whole.tokens_seen == resumed.tokens_seen == 12 * 32


def test_windowed_validation_starts_each_window_empty(tmp_path):
    data = windows(tmp_path, validation="windowed", window=8)
    model = tiny_char_transformer(data)
    found = validate(tmp_path, model, data)
    net, text = (
        model.network.double().train(),
        torch.from_numpy(data.heldout.tokens.astype("int64")),
    )
    nats = 0.0
    for start in range(0, len(text) - 1, 8):  # the last is shorter
        row = text[start : start + 9, None]
        with torch.no_grad():
            nats += float(F.cross_entropy(net(row[:-1])[0][:, 0], row[1:, 0], reduction="sum"))
    assert found["val/nats_per_char"] == pytest.approx(nats / (len(text) - 1), rel=1e-5)
    assert found["val/bits_per_char"] == pytest.approx(nats / (len(text) - 1) / math.log(2))
    size = len(data.heldout.text(1).encode())
    assert found["val/bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-5)


def test_validation_reads_no_further_than_its_window_whatever_the_chunk(tmp_path):
    """A stateful read is the same in chunks of 8 as in chunks of 5, and in longer windows."""
    texts = small_text(3000)
    found = [
        validate(tmp_path, tiny_char_transformer(data), data)["val/nats_per_char"]
        for data in (windows(tmp_path, texts, chunk_length=n) for n in (5, 8))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    data = windows(tmp_path, texts, validation="windowed", window=100)  # the context is 8
    assert math.isfinite(validate(tmp_path, tiny_char_transformer(data), data)["val/nats_per_char"])


def test_a_chunk_beyond_the_context_is_refused(tmp_path):
    data = windows(tmp_path, chunk_length=9)
    with pytest.raises(ValueError, match="chunk_length is 9 and the network's context 8: give"):
        train(tmp_path, tiny_char_transformer(data), data)


def test_it_learns(tmp_path):
    data = windows(tmp_path, "abcd" * 500)
    model = tiny_char_transformer(data, lr=0.03)
    train(tmp_path, model, data, max_steps=100)
    assert validate(tmp_path, model, data)["val/nats_per_char"] < 0.05
    assert model.sample_text(2, 20, prime="ab", seed=0) == ["cdabcdabcdabcdabcdab"] * 2


def test_streams_are_taken_as_well(tmp_path):
    data = text_data(tmp_path)
    assert train(tmp_path, tiny_char_transformer(data), data).tokens_seen == 4 * 32


def test_compiled_in_training_alone(tmp_path, monkeypatch):
    from functools import partialmethod

    from torch._dynamo.utils import counters

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    data = windows(tmp_path)
    plain, model = (tiny_char_transformer(data, compile_network=x) for x in (False, True))
    train(tmp_path, plain, data, max_steps=8)
    train(tmp_path, model, data, max_steps=8)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 1
    assert model.sample_text(2, 30, seed=0) == plain.sample_text(2, 30, seed=0)
    assert states_equal(plain.state_dict(), model.state_dict())
    assert counters["stats"]["unique_graphs"] <= graphs + 1  # sampling is left as it is
    torch._dynamo.reset()


class TestSampling:
    def test_the_same_for_the_same_seed(self, tmp_path):
        model = tiny_char_transformer(windows(tmp_path))
        texts = model.sample_text(5, 30, seed=3)
        assert texts == model.sample_text(5, 30, seed=3)
        assert texts[:2] == model.sample_text(2, 30, seed=3)
        assert texts != model.sample_text(5, 30, seed=4)
        assert [len(text) for text in texts] == [30] * 5
        assert len(set(texts)) == 5

    def test_many_streams_are_drawn_in_parts(self, tmp_path, monkeypatch):
        model = tiny_char_transformer(windows(tmp_path))
        whole = model.sample_text(7, 20, seed=0)
        monkeypatch.setattr("novum.lightning_modules.text_model.STREAMS_AT_ONCE", 3)
        assert model.sample_text(7, 20, seed=0) == whole

    def test_the_likeliest_text_is_that_of_reading_anew_each_time(self, tmp_path):
        """Three times the context: the window moves on."""
        data = windows(tmp_path)
        model = train(tmp_path, tiny_char_transformer(data, lr=0.02), data, max_steps=30)
        (found,) = model.sample_text(1, 24, temperature=0, prime="la", seed=0)
        network, text = model.network.train(), data.train.vocabulary.encode("la").tolist()
        for _ in range(24):
            seen = text[:]
            while len(seen) > 8:
                seen = seen[4:]
            with torch.no_grad():
                logits = network(torch.tensor(seen)[:, None])[0][-1, 0]
            logits[0] = -math.inf  # the unknown character
            text.append(int(logits.argmax()))
        assert found == data.train.vocabulary.decode(text[2:])

    def test_a_wide_beam_is_no_worse_than_the_likeliest_steps(self, tmp_path):
        data = windows(tmp_path)
        model = train(tmp_path, tiny_char_transformer(data, lr=0.02), data, max_steps=30)

        def nats(text: str) -> float:
            rows = torch.from_numpy(data.train.vocabulary.encode("la" + text).astype("int64"))
            return float(model.surprisal(rows[None])[0, 1:].sum())

        (greedy,) = model.sample_text(1, 12, temperature=0, prime="la")
        found = model.sample_text(3, 12, beam=8, prime="la")
        assert nats(found[0]) <= nats(greedy) + 1e-4
        assert sorted(map(nats, found)) == pytest.approx(list(map(nats, found)), abs=1e-5)


class TestBytePairs:
    @pytest.fixture
    def data(self, tmp_path):
        return windows(tmp_path, vocabulary="bpe", bpe_tokens=280, validation="windowed", window=8)

    def model(self, data, **settings) -> CharTransformer:
        return tiny_char_transformer(data, merges=data.merges, **settings)

    def test_figures_are_by_character_and_byte_of_the_text(self, tmp_path, data):
        model = self.model(data)
        found = validate(tmp_path, model, data)
        net = model.network.double().train()
        text = torch.from_numpy(data.heldout.tokens.astype("int64"))
        nats = 0.0
        for start in range(0, len(text) - 1, 8):
            row = text[start : start + 9, None]
            with torch.no_grad():
                logits = net(row[:-1])[0][:, 0]
                nats += float(F.cross_entropy(logits, row[1:, 0], reduction="sum"))
        rest = data.heldout.text(1)
        assert found["val/nats_per_char"] == pytest.approx(nats / len(rest), rel=1e-5)
        bits = nats / len(rest.encode()) / math.log(2)
        assert found["val/bits_per_byte"] == pytest.approx(bits, rel=1e-5)

    def test_a_uniform_model_has_the_bits_of_its_vocabulary(self, tmp_path, data):
        model = self.model(data)
        model.network.output.weight.data.zero_()
        found = validate(tmp_path, model, data)
        tokens, size = len(data.heldout) - 1, len(data.heldout.text(1).encode())
        assert found["val/bits_per_byte"] == pytest.approx(math.log2(280) * tokens / size, rel=1e-5)

    def test_texts_have_the_length_asked_for_in_characters(self, tmp_path, data):
        model = train(tmp_path, self.model(data), data)
        texts = model.sample_text(5, 100, seed=0)
        assert [len(text) for text in texts] == [100] * 5
        assert texts[:2] == model.sample_text(2, 100, seed=0)
        assert texts == model.sample_text(5, 100, prime="\n", seed=0)
        assert len(model.sample_text(1, 7, beam=2)[0]) == 7

    def test_a_checkpoint_has_them(self, tmp_path, data):
        model = self.model(data)
        trainer = tiny_trainer(tmp_path)
        trainer.fit(model, data)
        trainer.save_checkpoint(tmp_path / "x.ckpt")
        network = tiny_char_transformer(data).network
        again = CharTransformer.load_from_checkpoint(tmp_path / "x.ckpt", network=network)
        assert again.sample_text(1, 50, seed=0) == model.sample_text(1, 50, seed=0)
        kept = windows(tmp_path, "other text " * 400, vocabulary="bpe",
                       vocabulary_of=str(tmp_path / "x.ckpt"))  # fmt: skip
        assert kept.merges == data.merges
        other = windows(tmp_path, "other text " * 400, vocabulary="bpe", bpe_tokens=262)
        with pytest.raises(ValueError, match="a text of other characters"):
            train(tmp_path, self.model(other), other, str(tmp_path / "x.ckpt"))
        with pytest.raises(ValueError, match="trained on bpe: give data.vocabulary bpe"):
            windows(tmp_path, vocabulary_of=str(tmp_path / "x.ckpt"))


class TestAnalysis:
    def test_surprisal_is_the_loss(self, tmp_path):
        data = windows(tmp_path)
        model = tiny_char_transformer(data)
        rows = torch.from_numpy(data.heldout.tokens[:18].astype("int64")).view(2, 9)
        nats = model.surprisal(rows)
        assert nats.shape == (2, 8)
        logits, _ = model.network.train()(rows.T[:-1])
        expected = F.cross_entropy(logits.flatten(0, 1), rows.T[1:].flatten())
        assert float(nats.mean()) == pytest.approx(float(expected.detach()), rel=1e-5)

    def test_activations_are_of_each_block(self, tmp_path):
        data = windows(tmp_path)
        model = tiny_char_transformer(data)
        rows = torch.from_numpy(data.heldout.tokens[:20].astype("int64")).view(2, 10)
        held = model.activations(rows)
        assert held.shape == (2, 10, 16)
        with torch.no_grad():
            logits = model.network.eval()(rows.T)[0]
            again = model.network.output(model.network.norm(held[..., 8:])).transpose(0, 1)
        torch.testing.assert_close(again, logits)


def test_schedule_knows_the_end_of_a_run_of_epochs(tmp_path):
    """From code a run may have no max_steps."""
    data = windows(tmp_path)
    seen = []

    class Recorder(CharTransformer):
        def on_before_optimizer_step(self, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    model = tiny_char_transformer(data, lr=1.0, schedule=schedules.cosine)
    model.__class__ = Recorder
    train(tmp_path, model, data, max_steps=-1, max_epochs=1, limit_train_batches=4)
    assert seen == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)])
    with pytest.raises(ValueError, match="warmup_cosine needs to know where the run ends: give"):
        train(tmp_path, tiny_char_transformer(data), data, max_steps=-1, max_time="00:00:00:20")
    endless = tiny_char_transformer(data, schedule=schedules.constant)
    train(tmp_path, endless, data, max_steps=-1, max_time="00:00:00:01")
    assert endless.tokens_seen > 0


def test_warmup_and_cosine():
    rates = [schedules.warmup_cosine(0, progress) for progress in (0, 0.01, 0.02, 0.51, 1, 2)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
