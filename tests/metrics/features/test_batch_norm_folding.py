import copy

import torch
from torch import nn

from novum.core.pretrained import fold_batch_norms


def trained(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        tensor.uniform_(0.5, 1.5)
    return norm


def test_folding_changes_nothing_but_the_work(normal):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), trained(nn.BatchNorm2d(8)), nn.ReLU(),
        nn.Conv2d(8, 4, 3, groups=4), trained(nn.BatchNorm2d(4, eps=0.1)),
    ).eval().requires_grad_(False)  # fmt: skip
    folded = fold_batch_norms(copy.deepcopy(network))
    x = normal(2, 3 * 100).view(2, 3, 10, 10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(x), network(x), rtol=1e-5, atol=1e-6)


def test_a_norm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    assert isinstance(fold_batch_norms(network)[2], nn.BatchNorm2d)
