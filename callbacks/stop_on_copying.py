"""Stop or mark a run at the onset of copying."""

from typing import Any, Literal

from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningModule, Trainer

from novum.callbacks.logging import log_text, novelty_folder
from novum.callbacks.nearest_neighbours import last_judgement
from novum.core.errors import InputError
from novum.core.protocols import AXES, axis, seen
from novum.report.events import literal
from novum.report.model import Finding
from novum.report.novelty_record import add_line

BOUND = "novelty/drawn_to_training/"  # of each feature space, by NearestNeighbours or TextNovelty


class StopOnCopying(Callback):
    """Ends or marks the run at the first evaluation that shows copying.

    That is one whose verdict is "copying" by the rules of evaluate.py, facts included, or at which
    the 95% lower bound of the share of copies, novelty/drawn_to_training of NearestNeighbours or
    TextNovelty, exceeds the limit in any feature space, unless the verdict is that held-out images
    allow no judgement. `onset` is the images or characters seen by then; the Text tab has it too.

    Args:
        limit: Share of samples that may provably be copies. Each look at it errs with 5%, so that 0
            would stop some long runs without reason.
        action: Stop training, or go on and only mark it.
    """

    def __init__(self, limit: float = 0.01, action: Literal["stop", "mark"] = "stop") -> None:
        if not 0 <= limit < 1:
            raise InputError(f"limit is {limit}: it is a share of the samples, 0 or more, below 1")
        self.limit, self.action = limit, action
        self.onset: int | None = None  # images or tokens
        self.reason = ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        bounds = {
            tag.removeprefix(BOUND): float(value)
            for tag, value in trainer.callback_metrics.items()
            if tag.startswith(BOUND)
        }
        if not bounds:
            raise InputError(
                "StopOnCopying needs NearestNeighbours, or TextNovelty, among the callbacks: add it"
            )
        evidence = self._evidence(trainer, bounds)
        if self.onset is None and evidence:
            self.onset = seen(pl_module)
            self.reason = f"By {self.onset:,} {AXES[axis(pl_module)]} {evidence}"
            rank_zero_info(self.reason)
            log_text(trainer, "novelty/onset", literal(self.reason), self.onset)
            if (run := novelty_folder(trainer)) is not None:
                add_line(run, {"step": self.onset, "onset": self.reason})
        trainer.should_stop |= self.onset is not None and self.action == "stop"

    def _evidence(self, trainer: Trainer, bounds: dict[str, float]) -> str:
        """The rest of a sentence that says what shows copying; '' if nothing does."""
        judged, name = last_judgement(trainer), max(bounds, key=bounds.__getitem__)
        finding = judged and judged.verdict.finding
        if judged and finding is Finding.COPYING:
            return f"copying was found: {judged.verdict.details[0]}"
        if finding is Finding.CANNOT_JUDGE or bounds[name] <= self.limit:
            return ""
        return (
            f"at least {bounds[name]:.2%} of the samples owed their likeness to training data, with"
            f" 95% confidence, in {name}."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"onset": self.onset, "reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.onset, self.reason = state_dict["onset"], state_dict["reason"]
