"""The bar of training in narrow terminals: losses and speed are what it is for."""

import pytest
from tqdm import tqdm

from novum.callbacks import ProgressBar
from novum.callbacks.progress import on_bar

POSTFIX = "discriminator=0.361, generator=2.240, images/s=258"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_losses_are_seen(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = tqdm.format_meter(
        200, 2000, 30, columns, "Epoch 0", bar_format=ProgressBar().BAR_FORMAT, postfix=POSTFIX
    )
    assert len(shown) <= columns
    assert "discriminator=0.361, generator=2.2" in shown


def test_losses_of_training_and_of_held_out_items_differ():
    names = ["loss/train", "val/loss", "val/train_loss", "val/accuracy", "loss/generator"]
    shown = ["loss", "val/loss", "val/train_loss", "val/accuracy", "generator"]
    assert [on_bar(name) for name in names] == shown
