import warnings

import pytest
import torch
import torchvision
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.networks.backbones.building import imagenet_classes
from tests import programs
from tests.project import ROOT


@pytest.fixture(scope="module")
def lite():
    return Backbone("efficientnet_lite0", weights="cache")


@pytest.fixture(scope="module")
def flower():
    image = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 255
    return F.interpolate(image, (224, 224), mode="bilinear", antialias=True)


def randomised(backbone: Backbone) -> Backbone:
    """Batch norms as after training, not as built, where folding them would be no work."""
    generator = torch.Generator().manual_seed(0)
    for module in backbone.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for x in (module.running_mean, module.running_var, module.weight, module.bias):
                x.data = torch.rand(x.shape, generator=generator) * 0.5 + 0.5
    return backbone


def hooked(backbone: Backbone, image: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
    """What the layers give in the network as it is, without our extractor."""
    found, hooks = {}, []
    for layer in layers:
        module = backbone.network.get_submodule(backbone.aliases.get(layer, layer))

        def keep(module, inputs, output, layer=layer):
            found[layer] = output.clone()

        hooks.append(module.register_forward_hook(keep))
    backbone.network(backbone.normalise(image))
    for hook in hooks:
        hook.remove()
    return found


def test_packaged_weights_know_a_flower(lite, flower):
    assert lite.class_names[int(lite(flower).argmax())] == "daisy"
    assert lite.input_size == 224
    assert lite.pixel_range == pytest.approx((-1, 1))


def test_classes_are_named_at_the_size_of_training(lite, flower):
    """An enlarged flower is the same flower; unresized the network would not know it."""
    large = torch.nn.functional.interpolate(flower, scale_factor=4.0, mode="bilinear")
    assert lite(large).argmax() == lite(flower).argmax()
    torch.testing.assert_close(lite(large).softmax(1), lite(flower).softmax(1), atol=0.05, rtol=0)
    unresized = lite.network(lite.normalise(large)).softmax(1)
    assert (unresized - lite(flower).softmax(1)).abs().max() > 0.1
    assert lite.at_native_size(torch.rand(1, 3, 100, 200)).shape == (1, 3, 224, 448)


def test_it_is_frozen_and_evaluating(lite):
    assert not lite.training
    assert not any(p.requires_grad for p in lite.parameters())


@pytest.mark.parametrize("name", ["googlenet", "resnet50"])
def test_activations_are_those_of_the_plain_network(name):
    """Folded, cut, partly in place, against hooks on the network as torchvision runs it."""
    torch.manual_seed(0)
    backbone = randomised(Backbone(name, weights="none"))
    layers = {
        "googlenet": ["conv1.conv", "conv2.bn", "mixed3a", "inception_4c/output"],
        "resnet50": ["conv1", "bn1", "layer1.0.bn3", "conv3_x"],
    }[name]
    image = torch.rand(1, 3, 64, 64)
    expected = hooked(backbone, image, layers)
    found = backbone.activations(image, layers)
    assert list(found) == layers
    for layer in layers:
        scale = expected[layer].abs().max()
        assert (found[layer] - expected[layer]).abs().max() < 1e-4 * scale, layer


def test_gradients_are_those_of_the_plain_network():
    """What is overwritten is needed by no gradient."""
    torch.manual_seed(0)
    backbone = randomised(Backbone("resnet50", weights="none"))
    network, image = backbone.network, torch.rand(1, 3, 64, 64, requires_grad=True)
    x = backbone.normalise(image)
    for part in (network.conv1, network.bn1, network.relu, network.maxpool, network.layer1):
        x = part(x)
    (expected,) = torch.autograd.grad(x.square().mean(), image)
    found = backbone.activations(image, ["conv2_x"])["conv2_x"].square().mean()
    (gradient,) = torch.autograd.grad(found, image)
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_layers_of_efficientnet_against_the_plain_network(lite, flower):
    expected = hooked(lite, flower, ["blocks.2", "blocks.4.1", "bn2"])
    for layer, found in lite.activations(flower, list(expected)).items():
        assert torch.allclose(found, expected[layer], rtol=1e-3, atol=1e-4), layer


def test_vgg_layers_by_the_papers_names():
    """A convolution asked for is given before the rectifier behind it, which runs in place."""
    backbone = Backbone("vgg16", weights="none")
    assert backbone.aliases["conv4_2"] == "features.19"
    assert backbone.aliases["pool5"] == "features.30"
    found = backbone.activations(torch.rand(1, 3, 32, 32), ["conv1_1", "relu1_1", "relu1_2"])
    assert found["conv1_1"].min() < 0
    assert torch.equal(found["conv1_1"].relu(), found["relu1_1"])
    assert found["relu1_2"].shape == (1, 64, 32, 32)


def test_nothing_runs_behind_the_deepest_layer(lite):
    image = torch.rand(1, 3, 64, 64)
    lite.activations(image, ["blocks.2"])
    (extractor,) = [e for k, e in lite._extractors.items() if k[1] == (lite._node("blocks.2"),)]
    assert not any("blocks.3" in name for name, _ in extractor.named_modules())


def test_a_block_and_its_last_layer_are_the_same(lite):
    found = lite.activations(torch.rand(1, 3, 64, 64), ["blocks.6", "blocks.6.0.bn3"])
    assert torch.equal(found["blocks.6"], found["blocks.6.0.bn3"])


def test_inception_takes_minus_one_to_one():
    """As torchvision's transform_input makes of ImageNet's normalisation."""
    torch.manual_seed(0)
    backbone = Backbone("inception_v3", weights="none")
    assert (backbone.input_size, backbone.pixel_range) == (299, (-1, 1))
    assert backbone.aliases["mixed3"] == "Mixed_6a"
    image = torch.rand(1, 3, 299, 299)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = torchvision.models.inception_v3(aux_logits=False, init_weights=False)
    plain.load_state_dict(backbone.network.state_dict())
    plain.transform_input = True
    preset = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(x)[:, None, None] for x in (preset.mean, preset.std))
    assert torch.allclose(plain.eval()((image - mean) / std) / backbone(image), torch.ones(1), 1e-3)


def test_weights_from_a_path(tmp_path):
    ours = Backbone("googlenet", weights="none")
    torch.save(ours.network.state_dict(), tmp_path / "w.pth")
    again = Backbone("googlenet", weights=str(tmp_path / "w.pth"))
    assert torch.equal(ours.network.fc.weight, again.network.fc.weight)
    with pytest.raises(ValueError, match="w.pth does not hold the weights of resnet50"):
        Backbone("resnet50", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", ["vgg19", "mobilenetv3_small_050"])
def test_missing_weights_say_where_to_put_the_file(name, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=f"no weights for '{name}': put .* into .*weights, from"):
        Backbone(name, weights="cache")


def test_unknown_layers_and_networks_are_told_with_near_names(lite):
    with pytest.raises(ValueError, match="no layer 'mixed33'.*near it are .*blocks"):
        lite.activations(torch.rand(1, 3, 32, 32), ["mixed33"])
    with pytest.raises(ValueError, match="no layer 'relu4-2'.*relu4_2"):
        Backbone("vgg16", weights="none").activations(torch.rand(1, 3, 32, 32), ["relu4-2"])
    with pytest.raises(ValueError, match="no network 'inceptionv3': did you mean inception_v3"):
        Backbone("inceptionv3")


def test_classes_by_name_or_number(lite):
    assert lite.class_index("Banana") == lite.class_index("954") == lite.class_index(954) == 954
    with pytest.raises(ValueError, match="no class 'hartebeast': did you mean hartebeest"):
        lite.class_index("hartebeast")
    assert len(set(imagenet_classes())) > 990


@pytest.mark.parametrize("package", ["lightning_modules", "novum.lightning_modules"])
def test_the_command_lists_layers(package):
    done = programs.run("-m", f"{package}.networks.backbones", "googlenet", cwd=ROOT)
    assert done.returncode == 0 and not done.stderr
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("inception4c ")]
    assert "512 x 14 x 14" in line and "mixed4c" in line
