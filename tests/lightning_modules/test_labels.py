"""Class labels of a loader of one's own: what is not a class is named, before it is looked up."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from novum.lightning_modules import Classifier
from novum.lightning_modules.networks import SmallCNN
from novum.lightning_modules.training_utils import LabelCheck
from tests.tiny import tiny_gan, tiny_stylegan, tiny_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
MODULES = {
    "gan": lambda: tiny_gan(num_classes=3),
    "stylegan": lambda: tiny_stylegan(num_classes=3),
    "classifier": lambda: Classifier(SmallCNN(8, 1, 3, width=4)),
}


def loader(labels: torch.Tensor) -> DataLoader:
    images = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    return DataLoader(TensorDataset(images, labels), batch_size=4)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, 1, 2, 0, 1, 3, 0, 1]), "a label of the data is 3, .* has 3 classes"),
        (torch.tensor([0, 1, 2, 0, -1, 2, 0, 1]), "is -1, .* number them from 0"),
        (torch.zeros(8), r"labels must be whole numbers \(b,\).* not float32 \(4,\)"),
        (torch.zeros(8, 1, dtype=torch.int64), r"not int64 \(4, 1\)"),
    ],
)
def test_what_is_no_class_is_named(tmp_path, name, labels, words):
    trainer = tiny_trainer(tmp_path, max_steps=2)
    with pytest.raises(ValueError, match=words):
        trainer.fit(MODULES[name](), loader(labels), loader(torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_whole_numbers_of_any_width_are_labels(tmp_path, name, dtype):
    trainer = tiny_trainer(tmp_path, max_steps=2, limit_val_batches=1, val_check_interval=2)
    data = loader(torch.tensor([0, 1, 2, 0, 1, 2, 0, 1], dtype=dtype))
    trainer.fit(MODULES[name](), data, data)
    assert trainer.global_step == 2


def test_validation_and_samples_are_checked_too(tmp_path):
    gan, fine = tiny_gan(num_classes=3), loader(torch.zeros(8, dtype=torch.int64))
    trainer = tiny_trainer(tmp_path, limit_val_batches=1)
    with pytest.raises(ValueError, match="a label of the data is 5"):
        trainer.fit(gan, fine, loader(torch.full((8,), 5)))
    with pytest.raises(ValueError, match="a label of the data is 7"):
        gan.sample(2, labels=torch.tensor([0, 7]))
    images = DataLoader(torch.zeros(8, 1, 8, 8), batch_size=4)
    with pytest.raises(ValueError, match="the data has no labels"):
        tiny_trainer(tmp_path, limit_val_batches=1).fit(gan, fine, images)


def test_predictions_are_of_numbers_of_samples(tmp_path):
    gan = tiny_gan(num_classes=3, predict_samples=70)
    found = tiny_trainer(tmp_path).predict(gan)
    assert [len(images) for images in found] == [64, 6]


def test_labels_on_a_device_are_read_once():
    class Elsewhere(torch.Tensor):
        """Says that it is on a device, and counts what is read of it."""

        reads = 0
        is_cpu = False

        def aminmax(self, **_):
            Elsewhere.reads += 1
            return torch.tensor(0), torch.tensor(1)

    labels, check = torch.tensor([0, 1]).as_subclass(Elsewhere), LabelCheck()
    for _ in range(5):
        check((torch.zeros(2, 1, 8, 8), labels), 3)
    assert Elsewhere.reads == 1
