"""Identities of the paths, against the papers' own formulas."""

import pytest
import torch

from novum.lightning_modules import EDM, RectifiedFlow
from novum.lightning_modules.flow_matching.pairing import paired_noise

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, NOISE = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=GENERATOR)
PROCESSES = [RectifiedFlow(), EDM()]
IDS = ["rectified flow", "EDM"]


def times_of(process):
    return process.draw_times(torch.linspace(0.05, 0.95, 5, dtype=torch.float64))


@pytest.mark.parametrize("process", PROCESSES, ids=IDS)
def test_the_right_answer_is_the_velocity_of_the_path(process):
    t = times_of(process)
    x = process.mix(IMAGES, NOISE, t)
    answer = process.target(IMAGES, NOISE, t)
    drift = process.drift(IMAGES, NOISE)
    torch.testing.assert_close(process.velocity(answer, x, t), drift)
    h = 1e-6  # and the path's derivative
    moved = (process.mix(IMAGES, NOISE, t + h) - process.mix(IMAGES, NOISE, t - h)) / (2 * h)
    torch.testing.assert_close(moved, drift, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=IDS)
def test_times_go_from_noise_to_images(process):
    times = process.times(7)
    assert len(times) == 8
    first, last = times[:1].double().expand(5), times[-1:].double().expand(5)
    start = process.mix(IMAGES, NOISE, first)
    assert (start - process.prior_std * NOISE).abs().max() < 5  # the images drown in it
    assert (process.mix(IMAGES, NOISE, last) - IMAGES).abs().max() < 0.3
    there = process.mix(IMAGES, NOISE, torch.full((5,), process.beyond).double())
    torch.testing.assert_close(there, IMAGES)
    density = process.times_of_density(7)
    sharp, noisy = density[:1].double().expand(5), density[-1:].double().expand(5)
    assert (process.mix(IMAGES, NOISE, sharp) - IMAGES).abs().max() < 0.01
    torch.testing.assert_close(process.mix(IMAGES, NOISE, noisy), start, rtol=1e-4, atol=1e-4)
    half = process.times(7, 0.5)
    torch.testing.assert_close(half[-1], times[-1])
    assert 0 < abs(half[0] - half[-1]) < abs(times[0] - times[-1])


def test_inputs_and_answers_of_edm_have_variance_one():
    """Karras et al. (2022), eq. 114 to 131: what the preconditioning was derived from."""
    process, n = EDM(sigma_data=0.7), 20_000
    generator = torch.Generator().manual_seed(0)
    images = 0.7 * torch.randn(n, 1, 4, 4, generator=generator)
    noise = torch.randn(n, 1, 4, 4, generator=generator)
    for sigma in (0.01, 0.5, 3.0, 80.0):
        t = torch.full((n,), sigma)
        x = process.mix(images, noise, t)
        inputs, time = process.inputs(x, t)
        assert float(inputs.std()) == pytest.approx(1, rel=0.01)
        assert float(process.target(images, noise, t).std()) == pytest.approx(1, rel=0.01)
        assert float(time[0]) == pytest.approx(torch.tensor(sigma).log().item() / 4)


def test_the_denoiser_of_edm_is_the_papers():
    """D = c_skip x + c_out F, and the loss by F is the paper's weighted loss by D."""
    process, t = EDM(), torch.tensor([0.01, 0.1, 1.0, 10.0, 80.0], dtype=torch.float64)
    x, answer = process.mix(IMAGES, NOISE, t), torch.randn_like(IMAGES)
    sigma = t[:, None, None, None]
    skip = 0.25 / (sigma**2 + 0.25)
    out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    denoised = skip * x + out * answer
    torch.testing.assert_close(process.denoised(answer, x, t), denoised)
    torch.testing.assert_close(process.velocity(answer, x, t), (x - denoised) / sigma)
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    ours = (answer - process.target(IMAGES, NOISE, t)).square()
    torch.testing.assert_close(ours, weight * (denoised - IMAGES).square())


def test_noise_levels_of_edm_are_the_published_ones():
    found = EDM().times(17).double()
    i = torch.arange(18, dtype=torch.float64)
    published = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(found, published, rtol=1e-4, atol=1e-7)
    drawn = EDM().draw_times(torch.linspace(0, 1, 100_001)).log()
    assert float(drawn.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(drawn.std()) == pytest.approx(1.2, abs=0.01)
    assert drawn.isfinite().all()


@pytest.mark.parametrize(("settings", "says"), [
    ({"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min is 3.0"), ({"rho": 0.0}, "rho is 0"),
    ({"sigma_data": -1.0}, "sigma_data is -1"), ({"log_std": 0.0}, "log_std is 0"),
])  # fmt: skip
def test_settings_out_of_range(settings, says):
    with pytest.raises(ValueError, match=says):
        EDM(**settings)


# -- pairing -------------------------------------------------------------------------------------


def cost(images, noise):
    return float((images - noise).square().sum())


def test_pairing_is_the_cheapest_of_all_orders():
    from itertools import permutations

    images, noise = IMAGES.float(), NOISE.float()
    found = paired_noise(images, noise)
    cheapest = min(cost(images, noise[list(order)]) for order in permutations(range(5)))
    assert cost(images, found) == pytest.approx(cheapest)
    assert cost(images, found) < cost(images, noise)
    assert torch.equal(found.flatten(1).sort(0)[0], noise.flatten(1).sort(0)[0])


def test_classes_keep_their_own_noise():
    labels = torch.tensor([0, 1, 0, 1, 0])
    found = paired_noise(IMAGES, NOISE, labels)
    for label in (0, 1):
        own = labels == label
        assert torch.equal(found[own].flatten(1).sort(0)[0], NOISE[own].flatten(1).sort(0)[0])
    assert cost(IMAGES, found) <= cost(IMAGES, NOISE)


def test_the_noise_of_a_class_stays_normal():
    """Without its labels, two classes far apart would draw noise from two sides."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(256, 1, 1, 1, generator=generator)
    labels = torch.arange(256) % 2
    images = (labels * 10.0 - 5).view(-1, 1, 1, 1)
    mixed, kept = paired_noise(images, noise), paired_noise(images, noise, labels)
    means = [[float(x[labels == y].mean()) for y in (0, 1)] for x in (mixed, kept)]
    assert means[0][1] - means[0][0] > 1.2
    assert abs(means[1][1] - means[1][0]) < 0.3
