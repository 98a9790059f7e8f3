"""The LightningModule that all techniques are."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, cast

from pytorch_lightning import LightningModule
from torch import Tensor

from novum.core.checkpoints import build_module, read_checkpoint
from novum.core.errors import InputError
from novum.core.lightning_compat import require_whole_model


class Module(LightningModule):
    """A LightningModule whose checkpoints are data, in programs and from code alike."""

    def setup(self, stage: str) -> None:
        require_whole_model(self.trainer)

    def averages(self) -> Iterable[Tensor]:
        """Running averages, which stay in float32 at least: half precision loses small moves."""
        return ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = [x.data for x in self.averages()]
        super()._apply(fn, recurse)
        for average, value in zip(self.averages(), kept, strict=True):
            if average.dtype.itemsize < value.dtype.itemsize:
                average.data = value.to(average.device)
        return self

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **given: Any,
    ) -> Self:
        """The module in a checkpoint; `given` arguments replace those saved in it.

        Lightning's own would build whatever classes the file names. `hparams_file`, `strict` and
        `weights_only` are Lightning's; nothing is ever unpickled.

        Raises:
            InputError: If the file is damaged, or its arguments name what is not on the list of
                `novum.core.security.allowed`; `novum.trusting` lifts that for your own.
        """
        if hparams_file is not None or strict is False or weights_only is False:
            raise InputError(
                "hparams_file, strict=False and weights_only=False are not taken: give arguments by"
                " name, or load the state_dict of novum.core.checkpoints.read_checkpoint"
            )
        module = build_module(cls, read_checkpoint(checkpoint_path), checkpoint_path, **given)
        return cast(Self, module.to(map_location or "cpu"))
