"""What we rely on in Lightning, one by one."""

import inspect
import time
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer, cli
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.core import saving
from pytorch_lightning.core.mixins import hparams_mixin
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.plugins.environments import ClusterEnvironment
from torch.utils.data import DataLoader

from novum.core import lightning_compat as compat


class Two(LightningModule):
    """Two optimizers, stepped by hand; `seen` is filled in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.automatic_optimization = False
        self.seen = {}

    def configure_optimizers(self):
        return [torch.optim.SGD(self.layer.parameters(), lr=rate) for rate in (0.1, 0.2)]

    def training_step(self, batch, batch_idx):
        compat.raw_optimizer(self, 1).step()
        compat.wrapped_optimizer(self, 0).step()
        self.seen["due"] = compat.evaluation_due(self.trainer)
        self.seen["steps"] = self.global_step

    def validation_step(self, batch, batch_idx):
        self.seen["validated"] = True


@pytest.fixture
def trained(tmp_path):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=7,
    )
    module = Two()
    compat.disable_sigterm_broadcast(trainer)
    data = DataLoader(torch.zeros(4, 1), batch_size=2)
    trainer.fit(module, data, data)
    return trainer, module


def test_optimizers_with_and_without_the_wrapper(trained):
    _, module = trained
    assert isinstance(compat.wrapped_optimizer(module, 0), LightningOptimizer)
    assert type(compat.raw_optimizer(module, 1)) is torch.optim.SGD
    assert compat.raw_optimizer(module, 1).param_groups[0]["lr"] == 0.2
    assert module.seen["steps"] == 2  # of two batches: raw steps are not counted


def test_an_evaluation_is_due_after_the_last_batch(trained):
    assert trained[1].seen == {"due": True, "steps": 2, "validated": True}


def test_the_sigterm_broadcast_can_be_switched_off(trained):
    trainer, _ = trained
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None
    assert hasattr(type(trainer.fit_loop.epoch_loop), "_broadcast_sigterm_tensor")


def test_facts_about_a_trainer(trained):
    trainer, module = trained
    assert compat.batches_done(trainer) == 2
    assert compat.fast_dev_run(trainer) is False
    assert trainer.callbacks is compat.callbacks_of(trainer)
    assert compat.log_interval(trainer) == 7
    assert compat.datamodule(trainer) is None
    assert isinstance(compat.cluster_environment(trainer), ClusterEnvironment)
    assert compat.attached_trainer(module) is trainer
    assert compat.attached_trainer(Two()) is None


def test_the_cli_has_what_is_overridden():
    assert all(callable(getattr(LightningCLI, name)) for name in compat.CLI_HOOKS)
    assert callable(compat.model_instantiator(None))
    assert compat.built_by_cli() is False


def test_batches_go_to_the_device_by_one_method():
    """`novum.lightning_modules.module.Module` looks at them there."""
    from pytorch_lightning.strategies import Strategy

    method = "_apply_batch_transfer_handler"
    assert list(inspect.signature(getattr(LightningModule, method)).parameters) == [
        "self", "batch", "device", "dataloader_idx",
    ]  # fmt: skip
    assert method in inspect.getsource(Strategy.batch_to_device)


def test_keys_that_the_cli_adds():
    sources = [inspect.getsource(module) for module in (cli, hparams_mixin, saving)]
    for key in compat.CLI_KEYS[:2]:  # the third is of older versions
        assert any(key in source for source in sources), key


def test_modules_know_that_the_cli_builds_them():
    from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters_context

    with _given_hyperparameters_context(hparams={}, instantiator="x"):
        assert compat.built_by_cli() is True


def test_events_after_a_step_are_dropped(tmp_path):
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    compat.drop_events_after(CSVLogger(tmp_path), 7)  # has none
    for steps in ((5, 7, 9), ()):
        logger = TensorBoardLogger(tmp_path, "run", "version_0")
        if not steps:
            compat.drop_events_after(logger, 7)
        for step in steps:
            logger.log_metrics({"x": 1.0}, step)
        logger.experiment.close()
        time.sleep(1.1)  # a file of events is named by its second
    found = EventAccumulator(str(tmp_path / "run" / "version_0")).Reload()
    assert [event.step for event in found.Scalars("x")] == [5, 7]


def test_a_run_without_validation_gets_an_empty_one(tmp_path):
    made = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1,
                   default_root_dir=tmp_path)  # fmt: skip
    module = LightningModule()
    made.strategy.connect(module)
    assert not made.enable_validation
    compat.ensure_validation(made, module)
    assert made.enable_validation


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"])
def test_strategies_that_split_weights_are_refused(name):
    import pytorch_lightning.strategies as strategies

    kind = getattr(strategies, name)
    trainer = SimpleNamespace(strategy=kind.__new__(kind))
    with pytest.raises(ValueError, match=rf"trainer.strategy is {name}.*trainer.strategy=ddp"):
        compat.require_whole_model(trainer)


def test_ddp_spawn_hands_weights_back_in_a_file_of_this_name():
    from pytorch_lightning.strategies.launchers import multiprocessing

    assert f'"{compat.SPAWN_RESULT}"' in inspect.getsource(multiprocessing)


def test_what_mixed_precision_and_its_scaler_are(tmp_path):
    plugin = MixedPrecision("16-mixed", "cpu")
    settings = {"accelerator": "cpu", "default_root_dir": tmp_path, "logger": False}
    half = Trainer(plugins=[plugin], enable_checkpointing=False, **settings)
    full = Trainer(enable_checkpointing=False, **settings)
    assert compat.grad_scaler(half) is plugin.scaler and compat.grad_scaler(full) is None
    assert compat.mixed_precision(half) and not compat.mixed_precision(full)
