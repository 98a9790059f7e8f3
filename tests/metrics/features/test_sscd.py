"""SSCD's descriptors, from weights, which run nothing, and from TorchScript, which needs trust."""

import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from novum.cli.evaluate import main
from novum.core.errors import InputError
from novum.core.security import trusting
from novum.metrics.features import extract_features, load_extractor
from tests.metrics.novelty.scenes import scenes

SIDE = 64


class Described(nn.Module):
    """Colours of a picture's quarters."""

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 2).flatten(1)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "copies.torchscript.pt"
    with torch.no_grad(), pytest.warns(FutureWarning):
        torch.jit.script(Described()).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    """Those of a ResNet-18 with eight numbers, as the authors name them."""
    torch.manual_seed(0)
    network = resnet18(num_classes=8)
    for name, x in network.state_dict().items():
        if name.endswith("running_var"):
            x.uniform_(0.5, 2)
    path = tmp_path / "sscd.torchvision.pt"
    torch.save({f"backbone.{name}": x for name, x in network.state_dict().items()}, path)
    return path, network.eval()


def test_a_program_runs_only_if_it_is_trusted(program, monkeypatch):
    images = scenes(6, SIDE)
    with monkeypatch.context() as patched:
        patched.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded"))
        with pytest.raises(InputError, match=r"is TorchScript, which is a program: --trust if"):
            load_extractor(f"sscd:{program}@{SIDE}")
    with trusting(True):
        extractor = load_extractor(f"sscd:{program}@{SIDE}")
    found = extract_features(extractor, images)
    assert extractor.spec.startswith(f"sscd/descriptor/bilinear-antialias-{SIDE}/float32/weights-")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(found, F.normalize(Described()(x)))


def test_weights_need_no_trust(weights):
    path, network = weights
    images = scenes(3, SIDE)
    found = extract_features(load_extractor(f"sscd:{path}@{SIDE}"), images)

    def pooled(x: Tensor) -> Tensor:
        return x.clamp(min=1e-6).pow(3).mean((2, 3), keepdim=True).pow(1 / 3)

    network.avgpool.forward = pooled
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        known = network((images / 255 - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(found, F.normalize(known), rtol=1e-4, atol=1e-5)
    assert load_extractor(f"sscd:{path}").size == 288


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nothing", "is not a file of weights"),
        ({"fc.weight": torch.zeros(3, 4)}, "does not hold the weights of a torchvision ResNet"),
        ({"conv.weight": torch.zeros(3, 4)}, "does not hold the weights of a torchvision ResNet"),
        (None, "there is no file"),
    ],
)
def test_other_files_are_one_line(tmp_path, content, words):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=words):
        load_extractor(f"sscd:{path}")


def test_a_program_of_something_else_is_one_line(tmp_path):
    class Scalar(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean()

    path = tmp_path / "scalar.pt"
    with pytest.warns(FutureWarning):
        torch.jit.script(Scalar()).save(path)
    with trusting(True):
        extractor = load_extractor(f"sscd:{path}@{SIDE}")
        with pytest.raises(InputError, match=r"gives no descriptor \(n, d\)"):
            extract_features(extractor, scenes(2, SIDE))


def test_evaluation_ends_with_2_without_trust(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    places = ["--samples", "digits", "--train", "digits", "--heldout", "none"]
    with pytest.raises(SystemExit) as ended:
        main([*places, "--features", f"sscd:{program}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "which is a program: --trust if it is yours" in line
