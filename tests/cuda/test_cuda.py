"""What only a GPU can show. Skipped without one; NOVUM_TEST_DEVICE=cpu tries the tests anywhere.

pytest tests/cuda
"""

import os
import warnings

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins import MixedPrecision

from novum.evaluation.space import judge
from novum.lightning_modules.networks import (
    CausalTransformer,
    CharRNN,
    DCGANDiscriminator,
    DCGANGenerator,
    DiT,
    StyleGANDiscriminator,
    StyleGANGenerator,
    UNet,
)
from novum.lightning_modules.text_sampling import Sampling, generate
from novum.metrics import classes
from novum.metrics.features import extract_features, load_extractor
from novum.metrics.functional import Moments
from novum.metrics.neighbours import knn
from novum.metrics.record import FeatureSets
from tests.lightning_modules.test_precisions import PRECISIONS, SCALE, TECHNIQUES
from tests.tiny import awake, tiny_trainer

CHOSEN = os.environ.get("NOVUM_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "")
DEVICE = torch.device(CHOSEN or "cpu")
pytestmark = [
    pytest.mark.skipif(not CHOSEN, reason="needs a GPU, or NOVUM_TEST_DEVICE=cpu"),
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Synchronization debug mode is a prototype",
        "ignore:.*torch.jit.script_method",
        "ignore:TensorFloat32 tensor cores",
        "ignore:RNN module weights are not part",  # of bf16-true: torch flattens no bfloat16
    ),
]
ON_GPU = DEVICE.type == "cuda"


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


# -- judging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["normal", "far from the origin", "near copies", "duplicates"])
@pytest.mark.parametrize("d", [5, 300])
def test_neighbours_are_those_of_the_cpu(data, d):
    """By bfloat16 products on tensor cores, whose errors the certificate must cover."""
    reference, queries = draw(6000, d, 0), draw(700, d, 1)
    if data == "far from the origin":
        reference, queries = reference + 1000, queries + 1000
    elif data == "near copies":
        queries = reference[:700] + 1e-4 * queries
    elif data == "duplicates":
        reference = reference[:50].repeat(120, 1)
    expected = knn(queries, reference, 7)
    found = knn(queries.to(DEVICE), reference.to(DEVICE), 7)
    assert found.distances.device.type == DEVICE.type
    assert torch.equal(found.indices.cpu(), expected.indices)
    torch.testing.assert_close(found.distances.cpu(), expected.distances, rtol=1e-12, atol=0)


def test_neighbours_whatever_tf32_allows():
    queries, reference = draw(300, 64, 0).to(DEVICE), draw(3000, 64, 1).to(DEVICE)
    expected = knn(queries, reference, 3)
    torch.set_float32_matmul_precision("medium")
    try:
        found = knn(queries, reference, 3)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.indices, expected.indices)


def test_figures_are_those_of_the_cpu():
    train, heldout = draw(2000, 64, 0), draw(1000, 64, 1)
    fake = torch.cat([draw(900, 64, 2), train[:100] + 1e-3])
    sets = FeatureSets(train, heldout, fake, Moments().update(train), logits=draw(1000, 10, 3))
    on_cpu = judge(sets, progress=False)
    there = judge(sets, progress=False, device=DEVICE)
    for name in ("quality", "novelty"):
        expected, found = (getattr(judged, name) for judged in (on_cpu, there))
        assert found.keys() == expected.keys()
        for figure, estimate in expected.items():
            assert found[figure].value == pytest.approx(estimate.value, rel=1e-5), figure


def test_features_are_those_of_the_cpu_and_stay():
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8)
    extractor = load_extractor("efficientnet_lite0").cpu()
    expected = extract_features(extractor, images, progress=False)
    found = extract_features(extractor, images, progress=False, device=DEVICE)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    metric = classes.VendiScore(extractor).to(DEVICE)
    metric.update(images.to(DEVICE), real=False)
    assert metric.fake[0].device.type == DEVICE.type


# -- networks and training -----------------------------------------------------------------------

NOISY = draw(8, 3072, 0), torch.linspace(0, 1, 8)
NETWORKS = {
    "dcgan": (lambda: DCGANGenerator(32, 3, 16, 16), (draw(8, 16, 0),)),
    "dcgan discriminator": (lambda: DCGANDiscriminator(32, 3, 16), (draw(8, 3072, 0),)),
    "stylegan": (lambda: StyleGANGenerator(32, 3, 16, 16, 16, 64), (draw(8, 16, 0),)),
    "stylegan discriminator": (lambda: StyleGANDiscriminator(32, 3, 16), (draw(8, 3072, 0),)),
    "transformer": (
        lambda: CausalTransformer(20, 32, 2, context=16),
        (torch.arange(60).view(20, 3) % 20,),
    ),
    "unet": (
        lambda: awake(UNet(32, 3, 5, width=16, multipliers=(1, 2))),
        (*NOISY, torch.arange(8) % 5),
    ),
    "dit": (lambda: awake(DiT(32, 3, 5, 4, 48, 2)), (*NOISY, torch.arange(8) % 5)),
    "char rnn": (lambda: CharRNN(20, 32, 2), (torch.arange(60).view(20, 3) % 20,)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_they_do_on_the_cpu(name, compiled):
    if compiled and not ON_GPU:
        pytest.skip("compiled for the GPU")
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    network = make().eval()
    inputs = [x.view(8, 3, 32, 32) if x.shape[-1] == 3072 else x for x in inputs]
    with torch.no_grad():
        expected = network(*inputs)
        network.to(DEVICE)
        run = torch.compile(network) if compiled else network
        found = run(*(x.to(DEVICE) for x in inputs))
    expected, found = (x[0] if isinstance(x, tuple) else x for x in (expected, found))
    # convolutions may be in TF32 here, as in training by default
    assert (found.cpu() - expected).abs().max() < 1e-2 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", [torch.nn.LSTM, torch.nn.GRU])
def test_texts_drawn_by_a_graph_are_the_same(cell, dtype):
    torch.manual_seed(0)
    network = CharRNN(20, 32, 2, cell=cell).eval().to(DEVICE)
    prime, u = torch.tensor([3, 4], device=DEVICE), torch.rand(5, 40).to(DEVICE)
    never, how = torch.tensor([0], device=DEVICE), Sampling(0.8, top_p=0.9)
    with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
        graphed = generate(network, prime, u, how, never)
        network.state_keeps_its_shape = False
        assert torch.equal(generate(network, prime, u, how, never), graphed)


class NoWaiting(Callback):
    """The places where a step between logs waits for the GPU, by torch's own account."""

    def __init__(self) -> None:
        self.waits: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, *_) -> None:
        self._steps = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        if ON_GPU and self._steps in (6, 7):
            self._caught = warnings.catch_warnings(record=True)
            self._warned = self._caught.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, *_) -> None:
        if ON_GPU and self._steps in (6, 7):
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            found = [w for w in self._warned if str(w.message).startswith("called a")]
            self.waits += [f"{w.filename}:{w.lineno}" for w in found]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda f: f.__name__)
def test_learns_without_waiting(technique, precision, tmp_path):
    torch.manual_seed(0)
    module, data = technique(tmp_path)
    settings = {"precision": precision}
    if precision == "16-mixed" and not ON_GPU:
        scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    # torch's scaler looks at the gradients on the host
    waiting = NoWaiting()
    trainer = tiny_trainer(
        tmp_path,
        accelerator="gpu" if ON_GPU else "cpu",
        max_steps=9,
        log_every_n_steps=4,
        callbacks=[] if precision == "16-mixed" else [waiting],
        **settings,
    )
    trainer.fit(module, data)
    assert all(x.isfinite().all() for x in module.parameters())
    # cuDNN's LSTM copies lengths of sequences, each step
    assert [place for place in waiting.waits if "nn/modules/rnn.py" not in place] == []
