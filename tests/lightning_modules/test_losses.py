"""Each loss against its formula in float64; penalties against functions of known gradient."""

import math

import pytest
import torch

from novum.lightning_modules import losses

REAL = torch.tensor([2.0, -0.5, 0.3], dtype=torch.float64)
FAKE = torch.tensor([-1.0, 0.7, 0.1], dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            losses.logistic_discriminator_loss,
            mean(-math.log(sigmoid(x)) for x in REAL.tolist())
            + mean(-math.log(1 - sigmoid(x)) for x in FAKE.tolist()),
        ),
        (
            losses.hinge_discriminator_loss,
            mean(max(0, 1 - x) for x in REAL.tolist()) + mean(max(0, 1 + x) for x in FAKE.tolist()),
        ),
        (
            losses.least_squares_discriminator_loss,
            0.5 * mean((x - 1) ** 2 for x in REAL.tolist())
            + 0.5 * mean(x**2 for x in FAKE.tolist()),
        ),
        (losses.wasserstein_discriminator_loss, mean(FAKE.tolist()) - mean(REAL.tolist())),
    ],
)
def test_discriminator_losses(loss, expected):
    assert float(loss(REAL, FAKE)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.nonsaturating_generator_loss, mean(-math.log(sigmoid(x)) for x in FAKE.tolist())),
        (losses.minimax_generator_loss, mean(math.log(1 - sigmoid(x)) for x in FAKE.tolist())),
        (losses.least_squares_generator_loss, 0.5 * mean((x - 1) ** 2 for x in FAKE.tolist())),
        (losses.linear_generator_loss, -mean(FAKE.tolist())),
    ],
)
def test_generator_losses(loss, expected):
    assert float(loss(FAKE)) == pytest.approx(expected, rel=1e-12)


def test_r1_of_a_quadratic():
    images = torch.randn(5, 1, 2, 2)
    # D(x) = |x|^2 / 2 has gradient x
    r1 = losses.r1_penalty(lambda x: 0.5 * x.square().flatten(1).sum(1), images)
    assert r1.detach().item() == pytest.approx(0.5 * float(images.square().sum()) / 5, rel=1e-5)


def test_r1_reaches_the_weights():
    weight = torch.tensor(3.0, requires_grad=True)
    losses.r1_penalty(lambda x: weight * x.flatten(1).sum(1), torch.zeros(2, 1, 2, 2)).backward()
    assert float(weight.grad) == pytest.approx(4 * 3.0)  # r1 = 4 w^2 / 2


def test_gradient_penalty_of_a_linear_critic():
    # gradient of norm 2 * sqrt(4) = 4 everywhere: (4 - 1)^2
    real, fake = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    penalty = losses.wasserstein_gradient_penalty(lambda x: 2 * x.flatten(1).sum(1), real, fake)
    assert penalty.detach().item() == pytest.approx(9.0, rel=1e-5)
