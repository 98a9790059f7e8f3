"""Attacks against closed forms on linear models, and against their own bounds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from novum.lightning_modules.attacks import L2, PGD, LInf, attack_loss, fgsm, input_gradient


def linear(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))


def images(n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, 2, 2, generator=generator) * 0.6 + 0.2  # no border within 0.2


LABELS = torch.tensor([0, 1, 2, 0])


def test_fgsm_is_the_sign_of_the_analytic_gradient():
    model, x = linear(), images()
    weight = model[1].weight  # d loss / d x = (p - onehot) W
    p = model(x).softmax(1) - torch.nn.functional.one_hot(LABELS, 3)
    sign = (p @ weight).sign().view_as(x)
    epsilons = torch.tensor([0.0, 0.05, 0.1])
    attacked = fgsm(model, x, LABELS, epsilons)
    for epsilon, result in zip(epsilons, attacked, strict=True):
        torch.testing.assert_close(result, x + epsilon * sign)


def test_fgsm_takes_one_backward_pass_for_any_number_of_epsilons():
    model, calls = linear(), []
    model.register_full_backward_hook(lambda *_: calls.append(1))
    fgsm(model, images(), LABELS, torch.linspace(0, 1, 50))
    assert len(calls) == 1


def test_a_sure_network_gives_the_right_direction():
    """Its cross-entropy and the gradient of that are 0 in float32."""
    model, x, labels = linear(), images(), torch.zeros(4, dtype=torch.long)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([150.0, 0.0, 0.2]))
    weight = model[1].weight.double()
    others = model(x).double()[:, 1:].softmax(1)
    analytic = others @ (weight[1:] - weight[:1])  # of log sum over j of exp(z_j - z_label)
    gradient, _ = input_gradient(model, x, labels)
    torch.testing.assert_close(gradient.flatten(1).double(), analytic, rtol=1e-4, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(model(x), labels)
    assert loss.item() == 0


def test_the_direction_is_that_of_the_cross_entropy():
    model, x = linear(), images().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(x), LABELS, reduction="sum")
    (theirs,) = torch.autograd.grad(loss, x)
    ours, _ = input_gradient(model, x, LABELS)
    ratio = (ours / theirs).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 12), rtol=1e-3, atol=0)
    assert (ratio > 0).all()


def test_one_step_from_the_image_is_fgsm():
    model, x = linear(), images()
    ours = PGD(0.1, steps=1, random_start=False)(model, x, LABELS)
    torch.testing.assert_close(ours, fgsm(model, x, LABELS, torch.tensor([0.1]))[0])


@pytest.mark.parametrize("norm", [LInf(), L2()])
@given(epsilon=st.floats(1e-4, 0.9), momentum=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 99))
def test_results_stay_in_the_ball_and_in_the_pixels_range(norm, epsilon, momentum, seed):
    x = torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    attack = PGD(epsilon, norm, steps=3, momentum=momentum)
    result = attack(linear(), x, LABELS[:3], seed=seed)
    delta = (result - x).flatten(1)
    size = delta.abs().amax(1) if isinstance(norm, LInf) else delta.norm(dim=1)
    assert (size <= epsilon * (1 + 1e-5) + 1e-6).all()
    assert result.min() >= 0 and result.max() <= 1


def test_l2_finds_the_best_direction_of_a_linear_two_class_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    direction = (model[1].weight[1] - model[1].weight[0]).view(1, 3, 2, 2)
    x = images(1)
    result = PGD(0.1, L2(), steps=20, random_start=False)(model, x, torch.tensor([0]))
    best = x + 0.1 * direction / direction.norm()
    torch.testing.assert_close(result, best, atol=1e-4, rtol=0)


def test_targeted_goes_to_the_target_and_untargeted_away():
    model, x = linear(), images()
    attack = PGD(0.3, steps=10)
    target = torch.tensor([2, 2, 1, 1])
    before = attack_loss(model(x), target, True)
    assert (
        attack_loss(model(attack(model, x, target, targeted=True)), target, True) > before
    ).all()
    assert (model(attack(model, x, LABELS)).argmax(1) != LABELS).any()


def test_restarts_never_do_worse_and_are_repeatable():
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3)
    )
    x = images()
    losses = [
        attack_loss(model(PGD(0.05, steps=2, restarts=r)(model, x, LABELS, seed=5)), LABELS, False)
        for r in (1, 8)
    ]
    assert (losses[1] >= losses[0]).all()
    attack = PGD(0.05, steps=2, restarts=3)
    assert torch.equal(attack(model, x, LABELS, seed=1), attack(model, x, LABELS, seed=1))


def test_epsilons_of_a_batch_are_those_of_each_image():
    model, x = linear(), images()
    epsilon = torch.tensor([0.01, 0.05, 0.1, 0.15])
    attack = PGD(steps=4, random_start=False)
    together = attack(model, x, LABELS, epsilon=epsilon)
    for i in range(4):
        alone = PGD(float(epsilon[i]), steps=4, random_start=False)(
            model, x[i : i + 1], LABELS[i : i + 1]
        )
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(-0.1), "above 0"),
        (lambda: PGD(float("nan")), "above 0"),
        (lambda: PGD(8.0)(linear(), images(), LABELS), "divide by 255"),
        (lambda: PGD(4.0, L2())(linear(), images(), LABELS), "no image by more than 3.4"),
        (lambda: PGD(steps=0), "steps is 0"),
        (lambda: PGD(restarts=2, random_start=False), "all the same"),
    ],
)
def test_impossible_attacks(make, message):
    with pytest.raises(ValueError, match=message):
        make()
