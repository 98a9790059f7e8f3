"""The bar of training in narrow terminals: losses and speed are what it is for."""

import pytest
from tqdm import tqdm

from novum.callbacks import ProgressBar

POSTFIX = "discriminator=0.361, generator=2.240, images/s=258"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_losses_are_seen(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = tqdm.format_meter(
        200, 2000, 30, columns, "Epoch 0", bar_format=ProgressBar().BAR_FORMAT, postfix=POSTFIX
    )
    assert len(shown) <= columns
    assert "discriminator=0.361, generator=2.2" in shown
