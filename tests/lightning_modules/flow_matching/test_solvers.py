"""Solvers against equations with known solutions."""

import math

import pytest
import torch

from novum.core.errors import TrainingError
from novum.lightning_modules import RK45, Euler, Heun

START = torch.tensor([[1.0, 0.0], [0.5, -2.0]], dtype=torch.float64)
TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def turning(x, t):
    """A rotation whose rate grows with time."""
    return (2 * t)[:, None] * (x @ TURN)


def turned(x, angle):
    return x @ torch.matrix_exp(TURN * angle)


def error_of(solver, steps):
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return float((solver(steps)(turning, START, times).x - turned(START, 1.0)).abs().max())


@pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Heun, 2)])
def test_order(solver, order):
    """Half the step divides the error by 2 to the order."""
    coarse, fine = error_of(solver, 64), error_of(solver, 128)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_order_of_a_step_of_rk45():
    """Local errors fall with the sixth power of the step, the estimate with the fifth."""
    found = []
    for h in (0.4, 0.2):
        t = torch.zeros(2, dtype=torch.float64)
        step = torch.full_like(t, h)
        after, slope, error = RK45()._step(turning, START, t, step, turning(START, t))
        found.append((float((after - turned(START, h**2)).abs().max()), float(error.max())))
        torch.testing.assert_close(slope, turning(after, step))
    (worse, guess), (better, less) = found
    assert math.log2(worse / better) > 5.5
    assert math.log2(guess / less) > 4.5


@pytest.mark.parametrize("backwards", [False, True])
def test_rk45_keeps_its_tolerance_with_few_evaluations(backwards):
    times = torch.tensor([1.0, 0.0] if backwards else [0.0, 1.0], dtype=torch.float64)
    expected = turned(START, -1.0 if backwards else 1.0)
    before = 0.0
    for tolerance in (1e-3, 1e-6, 1e-9):
        found = RK45(tolerance, tolerance)(turning, START, times)
        assert (found.x - expected).abs().max() < 20 * tolerance
        assert (found.evaluations > before).all()
        before = found.evaluations
    assert before.max() < 1000


def test_evaluations_are_those_that_were_asked_for():
    asked = []

    def velocity(x, t):
        asked.append(len(x))
        return turning(x, t)

    times = torch.linspace(0, 1, 6, dtype=torch.float64)
    for solver in (Euler(), Heun(), RK45(1e-4, 1e-4)):
        asked.clear()
        found = solver(velocity, START[:1], times)
        assert found.evaluations.tolist() == [len(asked)]


def test_no_item_depends_on_another():
    """A slow item beside a stiff one takes the steps, and has the bits, that it has alone."""

    def velocity(x, t):
        return -x * torch.where(x[:, :1].abs() > 10, 50.0, 1.0)

    x = torch.tensor([[1.0, 2.0], [1000.0, 1.0], [3.0, 4.0]])
    times = torch.tensor([0.0, 1.0])
    together = RK45()(velocity, x, times)
    for i in range(3):
        others = x.clone()
        others[[j for j in range(3) if j != i]] = 0.1
        alone = RK45()(velocity, others, times)
        assert torch.equal(alone.x[i], together.x[i])
        assert alone.evaluations[i] == together.evaluations[i]
    assert together.evaluations[1] > 2 * together.evaluations[0]


def test_a_diverged_network_ends_in_words():
    with pytest.raises(TrainingError, match="has diverged"):
        RK45()(lambda x, t: x * math.nan, START, torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="did not arrive.*give larger ones"):
        RK45(1e-12, 1e-12)(
            lambda x, t: (1e4 * t).sin()[:, None] * x, START.float(), torch.tensor([0.0, 1.0])
        )


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Euler(0), "steps is 0"), (lambda: Heun(-1), "steps is -1"),
    (lambda: RK45(rtol=0), "rtol is 0"), (lambda: RK45(atol=-1), "atol is -1"),
])  # fmt: skip
def test_settings_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()
