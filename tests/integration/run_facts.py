"""Prints what a run did, for tests of its flags. Its folder is where the command line finds it."""

from pathlib import Path

import torch
from pytorch_lightning import Callback


class RunFacts(Callback):
    """One line at the end: what was counted, and what was in force."""

    def __init__(self) -> None:
        counted = ("batches", "evaluations", "held-out", "sanity", "tested", "predicted", "logged")
        self.facts: dict[str, object] = dict.fromkeys(counted, 0)

    def count(self, name: str) -> None:
        self.facts[name] = int(str(self.facts[name])) + 1

    def on_fit_start(self, trainer, pl_module):
        for logger in trainer.loggers:
            logger.log_metrics = self.counted(logger.log_metrics)

    def counted(self, log):
        def log_metrics(metrics, *args, **kwargs):
            if any(name.startswith("loss/") for name in metrics):
                self.count("logged")
            return log(metrics, *args, **kwargs)

        return log_metrics

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        """The gradients of the step before, as they were when it was taken."""
        found = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if found:
            whole = torch.cat([x.detach().flatten().float() for x in found])
            self.facts["norm"] = f"{whole.norm():.4f}"
            self.facts["largest"] = f"{whole.abs().max():.4f}"

    def on_train_batch_end(self, trainer, *_):
        self.count("batches")
        self.facts["anomalies"] = torch.is_anomaly_enabled()

    def on_validation_batch_end(self, trainer, *_):
        self.count("sanity" if trainer.sanity_checking else "held-out")
        self.facts["inference"] = torch.is_inference_mode_enabled()

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.count("evaluations")

    def on_test_batch_end(self, *_):
        self.count("tested")
        self.facts["inference"] = torch.is_inference_mode_enabled()

    def on_predict_batch_end(self, *_):
        self.count("predicted")

    def teardown(self, trainer, pl_module, stage):
        folder = Path(trainer.log_dir or "nowhere")
        plugin = trainer.precision_plugin
        self.facts |= {
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "ranks": trainer.world_size,
            "precision": plugin.precision,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "benchmark": torch.backends.cudnn.benchmark,
            "strategy": type(trainer.strategy).__name__,
            "profiler": type(trainer.profiler).__name__,
            "writer": type(trainer.strategy.checkpoint_io).__name__,
            "environment": type(trainer._accelerator_connector.cluster_environment).__name__,
            "hparams": any(bool(getattr(logger, "hparams", None)) for logger in trainer.loggers),
            "loggers": [type(logger).__name__ for logger in trainer.loggers],
            "callbacks": sorted(type(callback).__name__ for callback in trainer.callbacks),
            "checkpoints": sorted(path.name for path in folder.glob("checkpoints/*")),
            "folder": folder,
        }
        if trainer.is_global_zero:
            told = "; ".join(f"{name} {value}" for name, value in self.facts.items())
            print(f"\nfacts: {told};", flush=True)
