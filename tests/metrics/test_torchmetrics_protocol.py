"""What torchmetrics' own tests and Lightning ask of a metric."""

import pickle
from copy import deepcopy

import matplotlib
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Metric

from novum import metrics

REAL = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
FAKE = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(1)) * 1.1
EVERY = {
    "FrechetDistance": lambda: metrics.FrechetDistance(None, REAL),
    "KernelDistance": lambda: metrics.KernelDistance(None, REAL),
    "PrecisionRecall": lambda: metrics.PrecisionRecall(None, REAL),
    "DensityCoverage": lambda: metrics.DensityCoverage(None, REAL),
    "SetMetric": lambda: metrics.SetMetric(["sliced_wasserstein_distance"], None, REAL),
    "VendiScore": lambda: metrics.VendiScore(None),
    "InceptionScore": lambda: metrics.InceptionScore(None, splits=2),
    "CopyRate": lambda: metrics.CopyRate(None, REAL, heldout=REAL + 1),
}
matplotlib.use("Agg")


@pytest.fixture(params=EVERY)
def metric(request) -> Metric:
    return EVERY[request.param]()


def of(metric: Metric, features: Tensor) -> dict[str, float]:
    fresh = metric.clone()
    fresh.reset()
    fresh.update(features, real=False)
    return as_dict(fresh.compute())


def as_dict(value: Tensor | dict[str, Tensor]) -> dict[str, float]:
    values = {"": value} if isinstance(value, Tensor) else value
    return {name: float(x) for name, x in values.items()}


def test_forward_gives_the_batchs_value_and_compute_that_of_all(metric):
    metric = pickle.loads(pickle.dumps(metric))
    for batch in FAKE:
        assert as_dict(metric(batch, real=False)) == pytest.approx(of(metric, batch))
    assert as_dict(metric.compute()) == pytest.approx(of(metric, FAKE.flatten(0, 1)))


def test_constants_copies_hashes_and_state(metric):
    for name in ("is_differentiable", "higher_is_better"):
        with pytest.raises(RuntimeError):
            setattr(metric, name, True)
    assert type(metric.clone()) is type(deepcopy(metric)) is type(metric)
    assert hash(metric) and metric.state_dict() == {}
    metric.update(FAKE[0], real=False)
    metric.persistent(True)
    assert "fake" in "".join(metric.state_dict())


def test_an_empty_batch_changes_nothing(metric):
    metric.update(FAKE[0], real=False)
    metric.update(FAKE[0, :0], real=False)
    assert as_dict(metric.compute()) == of(metric, FAKE[0])


def test_plots(metric):
    metric.update(FAKE[0], real=False)
    figure, axes = metric.plot()
    assert axes.get_ylabel() == type(metric).__name__
    metric.plot([metric.compute(), metric.compute()], ax=axes)
    figure.clear()


def test_one_batch_is_no_comparison():
    metric = metrics.KernelDistance(None)
    with pytest.raises(ValueError, match=r"compares two sets.*call update\(images, real=...\)"):
        metric(REAL, real=True)


def test_real_features_are_kept_if_asked():
    kept = metrics.KernelDistance(None, reset_real_features=False)
    kept.update(REAL, real=True)
    values = []
    for batch in FAKE[:2]:
        kept.update(batch, real=False)
        values.append(as_dict(kept.compute()))
        kept.reset()
    with_reference = metrics.KernelDistance(None, REAL)
    assert values == [of(with_reference, batch) for batch in FAKE[:2]]


class Logging(LightningModule):
    """Logs a metric as Lightning's documentation does: the object, once an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.distance = metrics.FrechetDistance(None, REAL)
        self.layer = torch.nn.Linear(1, 1)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.distance.update(batch, real=False)
        self.log("distance", self.distance, on_epoch=True, on_step=False)


def test_lightning_logs_the_object(tmp_path):
    module = Logging()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    loader = DataLoader(FAKE.flatten(0, 1), batch_size=50)  # pyright: ignore[reportArgumentType]
    for _ in range(2):  # it is reset between epochs
        trainer.validate(module, loader, verbose=False)
        found = float(trainer.callback_metrics["distance"])
        assert found == pytest.approx(of(module.distance, FAKE.flatten(0, 1))[""])
