"""What callbacks find in a text and in a model that reads it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from novum.callbacks import InterpretableUnits, LossByPosition, SurprisalText, TextSamples
from novum.callbacks.health import TrainingHealth
from novum.callbacks.text_health import ngram_nats, repetition, text_figures
from novum.callbacks.text_samples import as_rows, in_log_bins, spread, verbatim
from novum.callbacks.units import (
    at_ends,
    bracket_depth,
    correlations,
    indentation,
    line_position,
    quote,
)
from novum.core.byte_pairs import BytePairs
from novum.datamodules.sources.byte_pair_text import in_byte_pairs
from novum.datamodules.sources.corpus import TextSource


class Reader:
    """Knows the line position by heart in unit 1; writes what it is given."""

    tokens_seen = 100

    def __init__(self, source: TextSource) -> None:
        self.source, self.logged = source, {}

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        return [f"{temperature} ``` x\n"[:length]] * n

    def surprisal(self, tokens):
        return torch.full((len(tokens), tokens.shape[1] - 1), 2.0)

    def activations(self, tokens):
        texts = [self.source.vocabulary.decode(row.numpy()) for row in tokens]
        known = torch.tensor(np.stack([line_position(text) for text in texts]))
        noise = torch.randn(*known.shape, 3, generator=torch.Generator().manual_seed(0))
        return torch.cat([noise[..., :1], -known[..., None], noise[..., 1:]], -1)

    def log_dict(self, values, **_):
        self.logged |= values


class PairReader(Reader):
    """The same of tokens of several characters."""

    def activations(self, tokens):
        texts = [[self.source.vocabulary.decode([t]) for t in row.tolist()] for row in tokens]
        known = torch.tensor(np.stack([at_ends(line_position, text) for text in texts]))
        noise = torch.randn(*known.shape, 3, generator=torch.Generator().manual_seed(0))
        return torch.cat([noise[..., :1], -known[..., None], noise[..., 1:]], -1)


class Data:
    def __init__(self, text: str) -> None:
        self.source = TextSource.of(text, "a.txt")

    def train_reference(self):
        return self.source

    heldout_reference = train_reference


@pytest.fixture
def trainer():
    text = "".join("x" * (i % 37) + "\n" for i in range(400))
    return SimpleNamespace(is_global_zero=True, loggers=[], datamodule=Data(text))


@pytest.fixture
def drawn(monkeypatch):
    """Pictures and texts by their tags, the pictures drawn."""
    found = {}
    for module in ("text_samples", "units"):
        monkeypatch.setattr(f"novum.callbacks.{module}.log_picture",
                            lambda t, tag, draw, step: found.update({tag: draw()}))  # fmt: skip
    monkeypatch.setattr("novum.callbacks.text_samples.log_text",
                        lambda t, tag, text, step: found.update({tag: text}))  # fmt: skip
    return found


def test_properties_of_text():
    text = '  f("a",\n\n    b)'
    assert line_position(text).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 2, 3, 4, 5, 6]
    assert indentation(text).tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 0, 0, 1, 2, 3, 4, 4, 4]
    assert quote(text).tolist() == [0, 0, 0, 0, 1, 1] + [0] * 10
    assert bracket_depth(text).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0] + [0] * 6
    assert bracket_depth("((a)))b(").tolist() == [1, 2, 2, 1, 0, 0, 0, 1]


def test_correlations_are_pearsons():
    rng = np.random.default_rng(0)
    held, values = rng.normal(size=(3, 50, 4)), rng.normal(size=(3, 50))
    held[..., 3] = 7.0  # constant
    expected = [np.corrcoef(held[..., i].ravel(), values.ravel())[0, 1] for i in range(3)]
    assert correlations(held, values) == pytest.approx([*expected, 0.0])


def test_planted_unit_is_found(trainer, drawn):
    reader = Reader(trainer.datamodule.source)
    InterpretableUnits(windows=8, length=500).evaluate(trainer, reader)
    assert reader.logged["units/line_position"] == pytest.approx(1.0)
    assert set(drawn) == {"units/line_position"}  # the others never change in this text
    assert drawn["units/line_position"][:4] == b"\x89PNG"


def test_tokens_of_several_characters(trainer, drawn):
    text = trainer.datamodule.source
    source = in_byte_pairs(text, BytePairs.of_texts([text.text()], 270))
    assert len(source) < len(text) / 2
    trainer.datamodule.source = source
    reader = PairReader(source)
    InterpretableUnits(windows=8, length=200).evaluate(trainer, reader)
    assert reader.logged["units/line_position"] == pytest.approx(1.0)
    SurprisalText(length=50).evaluate(trainer, reader)
    LossByPosition(windows=5, length=20).evaluate(trainer, reader)
    TextSamples(temperatures=[1.0]).evaluate(trainer, reader)
    assert len(drawn) == 4


def test_surprisal_and_loss_by_position(trainer, drawn):
    reader = Reader(trainer.datamodule.source)
    SurprisalText(length=50).evaluate(trainer, reader)
    LossByPosition(windows=5, length=20).evaluate(trainer, reader)
    assert all(picture[:4] == b"\x89PNG" for picture in drawn.values())
    assert set(drawn) == {"samples/surprisal", "val/loss_by_position"}


def test_samples_are_shown_as_they_are(trainer, drawn):
    TextSamples(temperatures=[0.5, 1.0]).evaluate(trainer, Reader(trainer.datamodule.source))
    assert drawn["samples/text"].count("#### Temperature") == 2
    assert "    0.5 ``` x" in drawn["samples/text"]
    assert verbatim("a\n\nb") == "    a\n    \n    b"


@pytest.mark.parametrize("callback", [SurprisalText, LossByPosition, InterpretableUnits])
def test_what_a_module_lacks_is_told(trainer, callback):
    with pytest.raises(ValueError, match=f"{callback.__name__} needs a module with"):
        callback().evaluate(trainer, object())


def test_bins_keep_the_mean():
    positions, values = in_log_bins(np.arange(1.0, 201))
    assert positions[:4].tolist() == [1, 2, 3, 4]
    assert values == pytest.approx(positions)
    assert len(positions) <= 30 and positions[-1] > 180


def test_windows_are_spread_over_the_text():
    rows = spread(TextSource.of("abcdefghij"), 4, 4)
    assert as_rows(rows).shape == (4, 4)
    assert len(spread(TextSource.of("abc"), 4, 9)) == 1


def test_repetition():
    assert repetition(["over and over and over again"]) == pytest.approx(2 / 4)
    assert repetition(["every word stands here once", ""]) == 0
    assert repetition(["a b"]) == 0


def test_health_of_a_text(trainer):
    figures = text_figures(trainer, Reader(trainer.datamodule.source))
    assert figures.pop("gain_over_triples") < 0  # it knows less than a table
    assert figures == {"repetition": 0.0, "heldout_gap": 0.0}
    trainer.callback_metrics = {}
    verdict = TrainingHealth()._judge(trainer, trainer, {"gain_over_triples": -0.11})
    assert "undertrained, or diverged: held-out text costs 0.11 nats" in verdict


def test_a_table_costs_what_its_counts_say():
    train = np.array([0, 1] * 500 + [0, 2])

    def cost(*row: int, order: int) -> float:
        return float(ngram_nats(train, np.array([row]), order)[0, -1])

    pair = (500 + 2 * 501 / 1005) / (501 + 2)  # 0 is followed by 1 in 500 of 501 places
    assert cost(0, 1, order=2) == pytest.approx(-np.log(pair))
    triple = (499 + 2 * pair) / (500 + 2)  # and 1, 0 by 1 in 499 of 500
    assert cost(1, 0, 1, order=3) == pytest.approx(-np.log(triple))
    assert cost(2, 2, 2, order=3) == pytest.approx(-np.log(2 / 1005))  # nothing follows a 2
    assert cost(1, 0, 1, order=3) < cost(1, 0, 2, order=3) < np.inf
    assert ngram_nats(train, np.zeros((4, 9), int)).shape == (4, 7)
