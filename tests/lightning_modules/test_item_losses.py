"""Losses per item, of every technique that has them: one protocol, whatever the batch."""

import pytest
import torch
import torch.nn.functional as F

from novum.core.errors import InputError
from novum.core.pixels import uint8_to_signed
from novum.core.protocols import ItemScorer
from tests.tiny import awake, tiny_flow, tiny_gan, tiny_stylegan
from tests.tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

IMAGES = torch.randint(256, (10, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
TOKENS = torch.randint(8, (10, 9), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 3


def of_images(module):
    return lambda tmp_path: (awake(module).train(), IMAGES, LABELS)


def of_tokens(build):
    return lambda tmp_path: (awake(build(text_data(tmp_path))).train(), TOKENS, None)


TECHNIQUES = {
    "flow": of_images(tiny_flow(3)),
    "gan": of_images(tiny_gan(3)),
    "stylegan": of_images(tiny_stylegan(3)),
    "char_lstm": of_tokens(tiny_char_lstm),
    "char_transformer": of_tokens(tiny_char_transformer),
}


def some(labels, rows):
    return None if labels is None else labels[rows]


@pytest.mark.parametrize("name", TECHNIQUES)
def test_losses_are_of_the_item_alone(name, tmp_path):
    module, items, labels = TECHNIQUES[name](tmp_path)
    assert isinstance(module, ItemScorer) and module.item_loss
    whole = module.item_losses(items, labels=labels)
    assert whole.shape == (10,) and whole.dtype == torch.float32 and whole.unique().numel() == 10
    order = torch.randperm(10)
    for rows in [order[:3], order[3:4], order[4:]]:
        part = module.item_losses(items[rows], labels=some(labels, rows))
        torch.testing.assert_close(part, whole[rows], rtol=1e-4, atol=1e-5)
    assert torch.equal(module.item_losses(items, labels=labels), whole)
    assert getattr(module, "discriminator", getattr(module, "network", None)).training


def test_discriminators_compare_again_in_training():
    gan = awake(tiny_stylegan())
    gan.item_losses(IMAGES)
    assert gan.discriminator.group == 4


def test_a_gan_says_the_logit_negated():
    gan = awake(tiny_gan())
    torch.testing.assert_close(gan.item_losses(IMAGES), -gan.discriminate(IMAGES))
    logits = gan.discriminator.eval()(uint8_to_signed(IMAGES), None)
    torch.testing.assert_close(gan.item_losses(IMAGES), -logits.detach())


@pytest.mark.parametrize("build", [tiny_char_lstm, tiny_char_transformer])
def test_texts_say_the_mean_of_the_nats(build, tmp_path):
    model = awake(build(text_data(tmp_path)))
    logits = model.network.eval()(TOKENS.T[:-1])[0].detach()
    nats = F.cross_entropy(logits.flatten(0, 1), TOKENS.T[1:].flatten(), reduction="none")
    torch.testing.assert_close(model.item_losses(TOKENS), nats.view(8, 10).mean(0))


def test_bad_items_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="two tokens or more"):
        tiny_char_lstm(text_data(tmp_path)).item_losses(TOKENS[:, :1])
    with pytest.raises(InputError, match="labels are missing"):
        tiny_gan(3).item_losses(IMAGES)
