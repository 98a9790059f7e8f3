"""Ending a run on a signal from a scheduler, a cloud or Ctrl-C."""

import _thread
import signal
import threading
import time
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from novum.core.lightning_compat import cluster_environment, disable_sigterm_broadcast

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: run me again
EXIT_INTERRUPTED = 130
SIGNALS = [s for s in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, s)]
SECONDS = 1.0  # between the ranks' agreements


class Preempted(SIGTERMException):
    """Ends the process; `signal` names why."""

    def __init__(self, signum: int, code: int) -> None:
        super().__init__(code)
        self.signal = signal.Signals(signum).name


class Preemption(Callback):
    """Stops at SIGTERM, at SIGUSR1 (SLURM's notice) and at Ctrl-C, with a checkpoint.

    All ranks stop after the same step, whichever got the signal; in an evaluation each stops at
    once, since LastCheckpoint has saved the step before it, and the evaluation is done again when
    the run goes on. The exit code is 75 (130 after Ctrl-C): a script that sees 75 runs the same
    command again with `--ckpt_path last`.
    """

    def __init__(self) -> None:
        self._signal = 0  # that this rank was sent
        self._repeating = False  # the signal, once a second
        self._left = 1  # steps to the next agreement
        self._mark = (0.0, 0)  # time and step of the last one

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._repeating = False
        self._signal, self._left, self._mark = 0, 1, (time.monotonic(), trainer.global_step)
        disable_sigterm_broadcast(trainer)
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:  # Lightning puts back what was there before
                signal.signal(getattr(signal, name), partial(self._signalled, trainer))

    def _signalled(self, trainer: Trainer, signum: int, _: Any) -> None:
        first, self._signal = not self._signal, signum
        if first:  # no lock is taken by a handler, which another signal may interrupt
            self._repeating = True
            threading.Thread(target=self._repeat, args=[signum], daemon=True).start()
        elif not self._repeating:
            return  # the run is ending
        if trainer.validating and self._nothing_to_lose(trainer):
            raise self._preempted(trainer, signum)

    def _repeat(self, signum: int) -> None:
        """Signals come again: an evaluation may begin, or a library may swallow the exception."""
        time.sleep(SECONDS)
        while self._repeating:
            _thread.interrupt_main(signal.Signals(signum))
            time.sleep(SECONDS)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._repeating = False

    def _nothing_to_lose(self, trainer: Trainer) -> bool:
        keepers = [getattr(c, "holds", None) for c in trainer.checkpoint_callbacks]
        known = [holds for holds in keepers if holds is not None]
        return bool(known) and all(holds(trainer) for holds in known)

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        told = self._signal if trainer.world_size == 1 else self._agreed(trainer)
        if told:
            raise self._preempted(trainer, told)

    def _agreed(self, trainer: Trainer) -> int:
        """A signal that any rank was sent; asked about once a second, in steps of the slowest."""
        self._left -= 1
        if self._left > 0:
            return 0
        now, step = time.monotonic(), trainer.global_step
        pace = (now - self._mark[0]) / max(step - self._mark[1], 1)
        told = torch.tensor([float(self._signal), pace], device=trainer.strategy.root_device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        signum, pace = told.tolist()
        self._left = int(min(max(SECONDS / max(pace, 1e-6), 1), 1000))
        self._mark = (now, step)
        return int(signum)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Treat the error of a rank that others left behind on a signal as the stop that it is."""
        self._repeating = False
        left_behind = trainer.world_size > 1 and isinstance(exception, RuntimeError)
        if self._signal and left_behind and self._nothing_to_lose(trainer):
            raise self._preempted(trainer, self._signal)

    def _preempted(self, trainer: Trainer, signum: int) -> Preempted:
        code = EXIT_INTERRUPTED if signum == signal.SIGINT else EXIT_PREEMPTED
        # Lightning's launcher kills rank 0 when a process that it started fails
        environment = cluster_environment(trainer)
        child = trainer.local_rank > 0 and isinstance(environment, LightningEnvironment)
        return Preempted(signum, 0 if child else code)
