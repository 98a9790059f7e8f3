"""torch.compile takes every network whole, and compiles it once for each way it is used."""

from functools import partialmethod

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from novum.lightning_modules import PGD, AdaptiveAugment, Classifier
from novum.lightning_modules.networks import (
    Backbone,
    CausalTransformer,
    CharRNN,
    DCGANDiscriminator,
    DCGANGenerator,
    DiT,
    MaxoutDiscriminator,
    MaxoutGenerator,
    SmallCNN,
    SoftmaxRegression,
    StyleGANDiscriminator,
    StyleGANGenerator,
    UNet,
)
from tests.lightning_modules.test_classifier import Halves
from tests.tiny import awake, tiny_flow, tiny_gan, tiny_stylegan, tiny_trainer, train_tiny
from tests.tiny_text import text_data, tiny_char_transformer

pytestmark = [
    # of torch about itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]
Z, IMAGES, LABELS = torch.randn(4, 6), torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
TIMES = torch.rand(4)
STYLE = dict(image_size=8, channels=1, width=4, max_width=8, num_classes=2)
NETWORKS = {
    "dcgan generator": (lambda: DCGANGenerator(8, 1, 6, 4, num_classes=2), (Z, LABELS)),
    "dcgan discriminator": (
        lambda: DCGANDiscriminator(8, 1, 4, num_classes=2, batch_norm=False, spectral_norm=True),
        (IMAGES, LABELS),
    ),
    "maxout generator": (lambda: MaxoutGenerator(8, 1, 6, 8, 2), (Z, LABELS)),
    "maxout discriminator": (lambda: MaxoutDiscriminator(8, 1, 8, 2, 2), (IMAGES, LABELS)),
    **{
        f"stylegan generator, {modulation}, {architecture}": (
            lambda m=modulation, a=architecture: StyleGANGenerator(
                **STYLE, latent_dim=6, w_dim=4, mapping_layers=2, modulation=m, architecture=a
            ),
            (Z, LABELS),
        )
        for modulation, architecture in (("weights", "skip"), ("adain", "original"))
    },
    **{
        f"stylegan discriminator, {architecture}": (
            lambda a=architecture: StyleGANDiscriminator(**STYLE, architecture=a),
            (IMAGES, LABELS),
        )
        for architecture in ("residual", "skip", "original")
    },
    "unet": (
        lambda: awake(UNet(8, 1, 2, 8, (1, 2), attention=(4,), dropout=0.1)),
        (IMAGES, TIMES, LABELS),
    ),
    "dit": (lambda: awake(DiT(8, 1, 2, width=8, depth=2, heads=2)), (IMAGES, TIMES, LABELS)),
    "small cnn": (lambda: SmallCNN(8, 1, 2, width=4), (IMAGES,)),
    "softmax regression": (lambda: SoftmaxRegression(8, 1, 2), (IMAGES,)),
}


@pytest.fixture(autouse=True)
def captured(monkeypatch):
    """Graphs are captured and run as they are: what the C++ compiler does is torch's affair."""
    torch._dynamo.reset()
    counters.clear()
    compiled = partialmethod(nn.Module.compile, backend="eager")
    monkeypatch.setattr(nn.Module, "compile", compiled)
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("name", NETWORKS)
def test_one_graph_serves_all_batches(name):
    make, inputs = NETWORKS[name]
    network = make()
    compiled = torch.compile(network, backend="eager", fullgraph=True)  # no break in it
    for _ in range(3):
        out = compiled(*inputs)
        out.sum().backward()
    assert graphs() == 1
    network.eval()
    with torch.no_grad():
        for _ in range(2):
            found = compiled(*inputs)
    assert graphs() == 2
    torch.testing.assert_close(found, network(*inputs))


def test_a_backbone_is_one_graph_with_a_gradient_by_the_pixels():
    network = torch.compile(Backbone("efficientnet_lite0", "none"), backend="eager", fullgraph=True)
    for _ in range(2):
        network(torch.rand(1, 3, 32, 32, requires_grad=True)).sum().backward()
    assert graphs() == 1


def test_recurrent_layers_stay_torchs_and_are_not_compiled_again():
    """torch.compile leaves torch.nn.LSTM out, so there are graphs before and after it."""
    network, state, seen = torch.compile(CharRNN(9, 8, 2), backend="eager"), None, []
    for _ in range(5):
        logits, state = network(torch.randint(0, 9, (5, 3)), state)
        logits.sum().backward()
        state = tuple(part.detach() for part in state)
        seen.append(graphs())
    assert seen[1:] == [seen[1]] * 4  # the first has no state yet


def test_a_transformer_is_one_graph_in_training_and_reads_on_without():
    network = CausalTransformer(9, 8, 2, 2, context=6)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for _ in range(3):
        compiled(torch.randint(0, 9, (6, 3)))[0].sum().backward()
    assert graphs() == 1
    compiled, state = torch.compile(network.eval(), backend="eager"), None
    seen, x = [], torch.randint(0, 9, (20, 3))
    for row in x.split(1):
        logits, state = compiled(row, state)
        seen.append(graphs())
    assert seen[-1] == seen[0]
    torch.testing.assert_close(logits, network(x)[0][-1:])


def test_a_classifier_under_attack_stops_compiling_after_the_first_steps(tmp_path):
    attack, seen = PGD(steps=2), []
    module = Classifier(SmallCNN(8, 1, 2, width=4), attack=attack, compile_network=True)
    step = module.training_step
    module.training_step = lambda *args: (step(*args), seen.append(graphs()))[0]
    tiny_trainer(tmp_path, max_steps=5).fit(module, Halves())
    assert seen[0] > 0
    assert seen[1:] == [seen[1]] * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_gan(2, compile_networks=True, r1_gamma=1.0, r1_interval=2),
        lambda: tiny_stylegan(
            2,
            compile_networks=True,
            r1_interval=2,
            path_length_interval=2,
            style_mixing=0.5,
            augment=AdaptiveAugment("bgc", p=0.5),
        ),
        lambda: tiny_flow(2, compile_network=True),
    ],
    ids=["gan", "stylegan", "flow matching"],
)
def test_training_stops_compiling_after_the_first_steps(make, tmp_path):
    module, seen = make(), []
    step = module.training_step
    module.training_step = lambda *args: (step(*args), seen.append(graphs()))[0]
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        train_tiny(tmp_path, module, max_steps=8)
    assert seen[0] > 0
    assert seen[3:] == [seen[3]] * 5


def test_a_transformer_compiles_for_training_alone(tmp_path):
    """Texts that are validated and sampled have lengths of all kinds."""
    data = text_data(tmp_path, order="random")
    module = tiny_char_transformer(data, compile_network=True)
    module.on_validation_end = lambda: [module.sample_text(n, 12, seed=0) for n in (1, 2)]
    settings = {"val_check_interval": 1, "limit_val_batches": 2, "num_sanity_val_steps": 0}
    tiny_trainer(tmp_path, max_steps=3, **settings).fit(module, data)
    module.surprisal(torch.zeros(1, 20, dtype=torch.int64))
    compiled = torch._dynamo.eval_frame._debug_get_cache_entry_list(CausalTransformer.forward)
    assert len(compiled) == 1
