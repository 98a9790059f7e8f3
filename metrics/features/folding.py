"""Batch norm folded into the convolution before it: the same features with less work."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold, in place, each batch norm into the convolution registered just before it.

    timm's norms carry an activation, which stays. Evaluation only.
    """
    for parent in list(module.modules()):
        previous: nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
                _fold(previous, child)
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            previous = child
    return module


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    # in float64, so that folding costs one rounding
    conv.weight, conv.bias = (
        nn.Parameter(folded.to(conv.weight.dtype), requires_grad=False)
        for folded in fuse_conv_bn_weights(
            conv.weight.double(),
            None if conv.bias is None else conv.bias.double(),
            norm.running_mean.double(),
            norm.running_var.double(),
            norm.eps,
            norm.weight.double(),
            norm.bias.double(),
        )
    )
