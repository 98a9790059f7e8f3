"""Seconds a step in the steady state: no start of a trainer, a library or a cache is counted."""

import statistics
import time
from collections.abc import Callable, Mapping

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from novum.callbacks import ProgressBar

SKIPPED = 3  # first steps of a run, which build what the others reuse

Run = Callable[["Clock"], object]


class Clock:
    """Told the end of each step."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.times: list[float] = []

    def tick(self) -> None:
        self.times.append(self.now())

    def seconds_per_step(self) -> float:
        return (self.times[-1] - self.times[SKIPPED]) / (len(self.times) - 1 - SKIPPED)


class Ticking(ProgressBar):
    """The bar that a user sees, which also shows the time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.clock.tick()


def bare_trainer(**settings) -> Trainer:
    """Trainer that takes steps and does nothing else; settings come on top."""
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return Trainer(**defaults | settings)


def fit(
    module: LightningModule, data: LightningDataModule, clock: Clock | None = None, **settings
) -> None:
    """As train.py does, but for checkpoints and evaluations."""
    callbacks = [] if clock is None else [Ticking(clock)]
    trainer = bare_trainer(
        callbacks=callbacks + settings.pop("callbacks", []),
        enable_progress_bar=bool(callbacks),
        **{"log_every_n_steps": 10, **settings},
    )
    trainer.fit(module, data)


def steps_in_turn(
    contestants: Mapping[str, Run],
    rounds: int,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a step of each run, the contestants in turn; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            clock = Clock(now)
            run(clock)
            seconds[name].append(clock.seconds_per_step())
    return {name: times[1:] for name, times in seconds.items()}


def rows(seconds: Mapping[str, list[float]], first: str) -> list[dict]:
    """Medians over rounds, and how many times as fast the first is (median, quartiles)."""
    table = []
    for name, times in seconds.items():
        ratios = sorted(t / o for o, t in zip(seconds[first], times, strict=True))
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        table.append(
            {
                "contestant": name,
                "ms/step": 1000 * statistics.median(times),
                "steps/s": 1 / statistics.median(times),
                f"speed of {first} to it": statistics.median(ratios),
                "quartiles": f"{quartiles[0]:.3g} to {quartiles[2]:.3g}",
            }
        )
    return table
