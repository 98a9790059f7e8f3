from copy import deepcopy

import pytest
import torch

from novum.lightning_modules.optimizers import DecayingMomentumSGD


def test_schedule_is_its_closed_form_and_survives_a_checkpoint():
    def step(optimizer, weight, times):
        for _ in range(times):
            weight.grad = torch.ones(1)
            optimizer.step()

    settings = dict(lr=1.0, decay=2.0, min_lr=0.1, momentum=0.5, final_momentum=0.7, saturate=2)
    whole = torch.zeros(1, requires_grad=True)
    optimizer = DecayingMomentumSGD([whole], **settings)
    step(optimizer, whole, 2)
    resumed = whole.detach().clone().requires_grad_(True)
    second = DecayingMomentumSGD([resumed], **settings)
    second.load_state_dict(deepcopy(optimizer.state_dict()))  # torch shares the tensors
    step(optimizer, whole, 3)
    step(second, resumed, 3)

    velocity, expected = 0.0, 0.0
    rates, momenta = [1.0, 0.5, 0.25, 0.125, 0.1], [0.5, 0.6, 0.7, 0.7, 0.7]
    for i, (lr, momentum) in enumerate(zip(rates, momenta, strict=True)):
        velocity = velocity * momentum * (i > 0) + 1.0
        expected -= lr * velocity
    assert whole.item() == pytest.approx(expected)
    assert resumed.item() == whole.item()
