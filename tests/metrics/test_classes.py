import multiprocessing
import pickle
import sys

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import MetricCollection

from novum import metrics
from novum.metrics import functional
from novum.metrics.features import extract_features, load_extractor


class MeanColour(nn.Module):
    """uint8 (b, c, h, w) -> (b, c); counts its images."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.images = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.scale * images.float().mean((2, 3))


def draw(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def random_images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, 4, 4), generator=generator).to(torch.uint8)


def every_metric(extractor=None) -> MetricCollection:
    return MetricCollection(
        metrics.FrechetDistance(extractor),
        metrics.KernelDistance(extractor),
        metrics.PrecisionRecall(extractor),
        metrics.DensityCoverage(extractor),
        metrics.VendiScore(extractor),
    )


def by_functions(real: Tensor, fake: Tensor) -> dict[str, float]:
    return {
        "FrechetDistance": functional.frechet_distance_from_features(real, fake),
        "KernelDistance": functional.kernel_distance(real, fake),
        "VendiScore": functional.vendi_score(fake),
        **functional.precision_recall(real, fake)._asdict(),
        **functional.density_coverage(real, fake)._asdict(),
    }


def updated(metric, real: Tensor, fake: Tensor, batch: int = 1000):
    for images in real.split(batch):
        metric.update(images, real=True)
    for images in fake.split(batch):
        metric.update(images, real=False)
    return metric


def as_floats(values: dict[str, Tensor]) -> dict[str, float]:
    assert all(value.dtype == torch.float64 and value.ndim == 0 for value in values.values())
    return {name: float(value) for name, value in values.items()}


@pytest.fixture
def sets():
    return draw(90, 5, 0), 1.2 * draw(80, 5, 1) + 0.3


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_equal_their_functions_whatever_the_batches(sets, batch):
    collection = updated(every_metric(), *sets, batch)
    assert as_floats(collection.compute()) == pytest.approx(by_functions(*sets), rel=1e-9)


def test_inception_score(normal):
    logits = 3 * normal(60, 12)
    metric = metrics.InceptionScore(None, splits=4)
    metric.update(logits, real=False)
    assert float(metric.compute()) == functional.inception_score(logits, 4).mean
    with pytest.raises(ValueError, match="extractor pixels has no classes"):
        metrics.InceptionScore("pixels")


def test_copy_rate(normal):
    train, heldout, fresh = (normal(n, 16, seed=i) for i, n in enumerate((400, 300, 150)))
    fake = torch.cat([fresh, train[:50] + 1e-3])
    metric = metrics.CopyRate(None, train, heldout=heldout)
    for batch in fake.split(64):
        metric.update(batch, real=False)
    found = as_floats(metric.compute())
    rate = functional.copy_rate(train, heldout, fake)
    assert [found["copy_rate"], found["low"], found["high"]] == list(rate)
    assert 0.2 < found["low"] <= 0.25 <= found["high"] and found["copies_flagged"] >= 50
    assert found["drawn_to_training"] > 0.2
    streamed = updated(metrics.CopyRate(None, heldout=heldout), train, fake, 90)
    assert as_floats(streamed.compute()) == found
    with pytest.raises(ValueError, match="ratio = 1"):
        metrics.CopyRate(None, heldout=heldout, ratio=1)


def test_reset_starts_afresh(sets):
    collection = updated(every_metric(), *sets)
    collection.compute()
    collection.reset()
    updated(collection, sets[1], sets[0][:70])
    assert as_floats(collection.compute()) == pytest.approx(
        by_functions(sets[1], sets[0][:70]), rel=1e-9
    )


def test_images_by_name_and_by_module():
    real, fake = random_images(50), random_images(40, seed=1) // 2
    features = [extract_features(load_extractor("pixels"), x) for x in (real, fake)]
    collection = updated(every_metric("pixels"), real, fake, 11)
    assert as_floats(collection.compute()) == pytest.approx(by_functions(*features), rel=1e-9)
    means = [x.float().mean((2, 3)) for x in (real, fake)]
    collection = updated(every_metric(MeanColour()), real, fake, 11)
    assert as_floats(collection.compute()) == pytest.approx(by_functions(*means), rel=1e-6)


def test_floats_are_rounded_to_the_same_bytes():
    real, fake = random_images(40), random_images(40, seed=1)
    by_bytes, by_floats = metrics.FrechetDistance("pixels"), metrics.FrechetDistance("pixels")
    updated(by_bytes, real, fake)
    updated(by_floats, real / 255, (fake / 255 * 0.999999).clamp(0, 1))
    assert by_bytes.compute() == by_floats.compute()


def test_a_batch_is_embedded_once():
    extractor = MeanColour()
    collection = updated(every_metric(extractor), random_images(64), random_images(64, seed=1), 32)
    assert extractor.images == 128
    assert {tuple(sorted(group)) for group in collection.compute_groups.values()} == {
        ("FrechetDistance",),
        ("DensityCoverage", "KernelDistance", "PrecisionRecall", "VendiScore"),
    }
    images = random_images(32)
    metrics.VendiScore(extractor).update(images, real=False)
    metrics.VendiScore(extractor).update(images.clone(), real=False)
    assert extractor.images == 160
    images[0] = 0  # in place: another batch
    metrics.VendiScore(extractor).update(images, real=False)
    assert extractor.images == 192


def test_a_module_that_learned_embeds_again():
    extractor, images = MeanColour(), random_images(32)
    metric = metrics.VendiScore(extractor)
    metric.update(images, real=False)
    metric.reset()
    extractor.scale.data *= 0
    metric.update(images, real=False)
    assert float(metric.compute()) == 1


def test_metrics_of_two_extractors_stay_apart():
    collection = MetricCollection(
        {
            "colour": metrics.VendiScore(MeanColour()),
            "pixels": metrics.VendiScore("pixels"),
        }
    )
    updated(collection, random_images(30), random_images(30, seed=1), 10)
    colour = random_images(30, seed=1).float().mean((2, 3))
    assert float(collection.compute()["colour"]) == pytest.approx(functional.vendi_score(colour))
    assert len(collection.compute_groups) == 2


def test_a_reference_stays(sets):
    real, fake = sets
    collection = MetricCollection(
        metrics.FrechetDistance(None, reference=functional.Moments().update(real)),
        metrics.KernelDistance(None, reference=real),
        metrics.PrecisionRecall(None, reference=real),
        metrics.DensityCoverage(None, reference=real),
        metrics.VendiScore(None),
    )
    for _ in range(2):
        collection.update(fake, real=False)
        assert as_floats(collection.compute()) == pytest.approx(by_functions(real, fake), rel=1e-9)
        collection.reset()
    features = metrics.FrechetDistance(None, reference=real)
    features.update(fake, real=False)
    assert float(features.compute()) == pytest.approx(by_functions(real, fake)["FrechetDistance"])
    with pytest.raises(ValueError, match="the real set came as `reference`"):
        features.update(real, real=True)


def test_inside_a_module_they_stay_out_of_its_affairs(sets):
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extractor = MeanColour()
            self.metrics = every_metric(self.extractor)

    module = Module()
    updated(module.metrics, random_images(50), random_images(40, seed=1))
    expected = module.metrics.compute()
    for metric in module.metrics.values():
        metric._computed = None
    assert list(module.state_dict()) == ["extractor.scale"]
    module.half().to(torch.bfloat16).to("cpu")
    distance = module.metrics["FrechetDistance"]
    assert distance.real[0].dtype == torch.float64
    assert module.metrics.compute() == expected
    again = pickle.loads(pickle.dumps(module.metrics))
    assert again.compute() == expected


def test_an_extractor_in_training_mode_is_refused():
    extractor = MeanColour().train()
    with pytest.raises(ValueError, match=r"in training mode.*call its eval\(\)"):
        metrics.VendiScore(extractor).update(random_images(3), real=False)


def test_no_graph_and_no_borrowed_memory(normal):
    features = normal(20, 3).requires_grad_()
    metric = metrics.VendiScore(None)
    metric.update(features, real=False)
    expected = functional.vendi_score(features.detach())
    with torch.no_grad():
        features.zero_()
    assert not metric.fake[0].requires_grad
    assert float(metric.compute()) == expected


def test_seen_in_inference_mode_and_out_of_it(sets):
    metric = metrics.FrechetDistance(None)
    with torch.inference_mode():
        updated(metric, sets[0][:40], sets[1][:40])
    updated(metric, sets[0][40:], sets[1][40:])
    assert float(metric.compute()) == pytest.approx(
        functional.frechet_distance_from_features(*sets), rel=1e-9
    )


def test_mistakes_are_told(normal):
    with pytest.raises(ValueError, match="no feature extractor 'inceptoin'"):
        metrics.FrechetDistance("inceptoin")
    metric = metrics.KernelDistance(None)
    with pytest.raises(ValueError, match=r"must be an \(n, d\) tensor, got \(4, 3, 2, 2\)"):
        metric.update(torch.zeros(4, 3, 2, 2), real=True)
    metric.update(normal(9, 3), real=True)
    with pytest.raises(ValueError, match=r"has seen no fake images: update\(images, real=False\)"):
        metric.compute()
    with pytest.raises(ValueError, match="float images lie in"):
        metrics.VendiScore("pixels").update(random_images(3) - 1.0, real=False)


@pytest.mark.slow
def test_ranks_agree_with_one_process(run_python, sets, tmp_path):
    run_python(__file__, tmp_path).check_returncode()
    values = [as_floats(torch.load(tmp_path / f"{rank}.pt")) for rank in range(3)]
    assert values[0] == values[1] == values[2]
    whole = as_floats(updated(every_metric(), *sets).compute())
    assert values[0] == pytest.approx(whole, rel=1e-7)  # pairs are summed in float32 within a tile


def _rank(rank: int, ranks: int, folder: str) -> None:
    meeting = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    real, fake = draw(90, 5, 0), 1.2 * draw(80, 5, 1) + 0.3
    collection = every_metric()
    if rank < 2:  # the third rank has nothing
        updated(collection, real[rank::2], fake[50:] if rank else fake[:50], 17)
    torch.save(collection.compute(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":  # the ranks of the test of ranks, forked so that torch is imported once
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(rank, 3, sys.argv[1])) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(any(rank.exitcode for rank in ranks))
