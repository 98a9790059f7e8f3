"""Units that a reader can name (Karpathy et al., 2015, arXiv:1506.02078), found by correlation."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback, lacks, reference
from novum.callbacks.logging import log_metrics, log_picture
from novum.callbacks.text_samples import as_rows, characters, spread
from novum.core.protocols import Introspective, seen
from novum.report.passages import passage_picture, shades
from novum.report.pictures import encode

BLUE_TO_RED = (60, 100, 235), (235, 60, 40)
WARM_UP = 100  # characters at a window's start that are read but not looked at
SHOWN = 1000  # characters of a picture

Values = NDArray[np.float64]  # (t,) one for each character, or token


def line_position(text: str) -> Values:
    """Characters since the line began."""
    values, at = np.empty(len(text)), 0
    for i, character in enumerate(text):
        at = 0 if character == "\n" else at + 1
        values[i] = at
    return values


def indentation(text: str) -> Values:
    """Blanks that the line began with, as far as it has been read."""
    values, depth, leading = np.empty(len(text)), 0, True
    for i, character in enumerate(text):
        if character == "\n":
            depth, leading = 0, True
        elif leading and character in " \t":
            depth += 1
        else:
            leading = False
        values[i] = depth
    return values


def quote(text: str) -> Values:
    """1 inside double quotes; a blank line ends them."""
    values, inside = np.empty(len(text)), False
    for i, character in enumerate(text):
        if character == '"':
            inside = not inside
        elif text[max(i - 1, 0) : i + 1] == "\n\n":
            inside = False
        values[i] = inside
    return values


def bracket_depth(text: str) -> Values:
    """Brackets that are open; a blank line closes them."""
    values, depth = np.empty(len(text)), 0
    for i, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(depth - 1, 0)
        elif text[max(i - 1, 0) : i + 1] == "\n\n":
            depth = 0
        values[i] = depth
    return values


PROPERTIES: dict[str, Callable[[str], Values]] = {
    "line_position": line_position,
    "indentation": indentation,
    "quote": quote,
    "bracket_depth": bracket_depth,
}


class InterpretableUnits(EvaluationCallback):
    """units/<property>: the unit that follows a property of the text best, shown on held-out text.

    A unit is chosen on one half of the windows by its correlation with the property; the figure and
    the picture (red: high, blue: low) are of the other half, so chance is not taken for a finding.
    A property that does not occur in the text is left out.

    Args:
        windows: Held-out windows.
        length: Characters of each.
    """

    def __init__(self, windows: int = 32, length: int = 1000) -> None:
        self.windows, self.length = windows, length

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Introspective):
            raise lacks(self, pl_module, "activations")
        source = reference(trainer, "heldout")
        rows = spread(source, self.windows, self.length)
        if len(rows) < 2 or len(rows[0]) <= WARM_UP:
            return
        texts = [characters(source, row) for row in rows]  # each token's
        held = pl_module.activations(as_rows(rows)).double().cpu().numpy()[:, WARM_UP:]
        for name, measure in PROPERTIES.items():
            values = np.stack([at_ends(measure, text) for text in texts])[:, WARM_UP:]
            if values[::2].std() == 0 or values[1::2].std() == 0:
                continue
            unit = int(np.abs(correlations(held[::2], values[::2])).argmax())
            r = float(correlations(held[1::2, :, unit : unit + 1], values[1::2])[0])
            log_metrics(trainer, pl_module, {f"units/{name}": abs(r)})
            self._show(trainer, pl_module, name, unit, r, texts[1::2], held[1::2], values[1::2])

    def _show(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        name: str,
        unit: int,
        r: float,
        texts: list[list[str]],
        held: NDArray[np.float64],
        values: NDArray[np.float64],
    ) -> None:
        """The window in which the property changes most."""
        best = int(values[:, :SHOWN].std(1).argmax())
        tokens = texts[best][WARM_UP:][:SHOWN]
        activation = held[best, : len(tokens), unit]
        lowest, highest = np.percentile(held[:, :, unit], [1, 99])
        centred = 2 * (activation - lowest) / max(highest - lowest, 1e-9) - 1
        by_character = np.repeat(centred, [len(token) for token in tokens])
        colours = shades(by_character * (1 if r > 0 else -1), *BLUE_TO_RED)
        title = f"unit {unit} and {name.replace('_', ' ')}: correlation {abs(r):.2f}"
        log_picture(
            trainer,
            f"units/{name}",
            lambda: encode(passage_picture("".join(tokens), colours, title)),
            seen(pl_module),
        )


def at_ends(measure: Callable[[str], Values], tokens: Sequence[str]) -> Values:
    """Values of a property at the last character of each token."""
    ends = np.cumsum([len(token) for token in tokens])
    return measure("".join(tokens))[ends - 1]


def correlations(held: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's r (units,) of activations (n, t, units) with values (n, t); 0 for a constant."""
    x = held.reshape(-1, held.shape[-1])
    x = x - x.mean(0)
    y = values.ravel() - values.mean()
    spread_of = np.sqrt((x * x).sum(0) * (y * y).sum())
    return (y @ x) / np.maximum(spread_of, 1e-12)
