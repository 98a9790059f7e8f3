"""A small text with some order in it, and character models of 8 units."""

import random

import torch

from novum.datamodules import TextDataModule
from novum.lightning_modules import CharLSTM, CharTransformer
from novum.lightning_modules.networks import CausalTransformer, CharRNN


def small_text(words: int = 800, seed: int = 0) -> str:
    rng = random.Random(seed)
    bits = ["la", "mi", "so", "ré", "do", "\n", " ", ' "fa" ', "(ti)"]
    return "".join(rng.choice(bits) for _ in range(words))


def text_data(tmp_path, text: str | None = None, **settings) -> TextDataModule:
    path = tmp_path / "text.txt"
    path.write_text(small_text() if text is None else text, encoding="utf-8")
    defaults = {"batch_size": 4, "chunk_length": 8, "validation": "stateful"}
    return TextDataModule("files", files=str(path), **{**defaults, **settings})


def tiny_char_lstm(data: TextDataModule, network: dict | None = None, **settings) -> CharLSTM:
    torch.manual_seed(0)
    net = CharRNN(data.vocab_size, hidden_size=8, layers=2, **(network or {}))
    return CharLSTM(net, data.alphabet, **settings)


def tiny_char_transformer(
    data: TextDataModule, network: dict | None = None, **settings
) -> CharTransformer:
    torch.manual_seed(0)
    shape = dict(width=8, layers=2, heads=2, context=8)
    net = CausalTransformer(data.vocab_size, **{**shape, **(network or {})})
    return CharTransformer(net, data.alphabet, **settings)
