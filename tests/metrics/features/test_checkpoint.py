import sys
import types

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from novum.core.security import trusting
from novum.metrics.features import extract_features, load_extractor


class Brightness(LightningModule):
    """Stands for a module of one's own with features."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.tensor(gain))

    def features(self, images):
        return images.float().mean((2, 3)) * self.weight


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a checkpoint that names `class_path` as the command line does."""
    module = types.ModuleType("novum.stand_in")
    module.Brightness, module.Plain = Brightness, LightningModule
    monkeypatch.setitem(sys.modules, "novum.stand_in", module)

    def write(class_path: str | None):
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        model = Brightness(gain=2.0)
        trainer.strategy.connect(model)
        path = tmp_path / "last.ckpt"
        trainer.save_checkpoint(path)
        if class_path:
            checkpoint = torch.load(path, weights_only=True)
            checkpoint["hyper_parameters"]["_class_path"] = class_path
            torch.save(checkpoint, path)
        return path

    return write


def test_features_of_a_module_of_ones_own(save):
    path = save("novum.stand_in.Brightness")
    with pytest.raises(ValueError, match="not a feature extractor checkpoint.*; --trust if it is"):
        load_extractor(f"checkpoint:{path}")
    with trusting(True):
        extractor = load_extractor(f"checkpoint:{path}")
    images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    features = extract_features(extractor, images)
    assert torch.allclose(features, 2 * images.float().mean((2, 3)))
    assert extractor.spec.startswith("checkpoint/Brightness/features/weights-")


@pytest.mark.parametrize(
    ("class_path", "found"),
    [
        ("novum.stand_in.Plain", "novum.stand_in.Plain"),
        ("os.system", "os.system"),
        (None, "no module of a class"),
    ],
)
def test_other_checkpoints_are_refused(save, class_path, found):
    with pytest.raises(ValueError, match=f"not a feature extractor checkpoint: it holds {found}"):
        load_extractor(f"checkpoint:{save(class_path)}")


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint"):
        load_extractor(f"checkpoint:{tmp_path}/none.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match="bad.ckpt is not a checkpoint, or a damaged one"):
        load_extractor(f"checkpoint:{tmp_path}/bad.ckpt")
