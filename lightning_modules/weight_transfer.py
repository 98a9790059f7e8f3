"""Weights of a checkpoint for another run."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import nn

from novum.core.byte_pairs import vocabulary_of
from novum.core.checkpoints import read_checkpoint
from novum.core.errors import InputError
from novum.core.vocabulary import Vocabulary


def read_weights(path: str) -> dict[str, Any]:
    """Return the state_dict of a checkpoint. Loads weights only; never unpickles.

    Raises:
        InputError: If the file is missing, or anything but a checkpoint of plain tensors.
    """
    if not Path(path).is_file():
        raise InputError(f"transfer: {path} does not exist; give a checkpoint, runs/.../last.ckpt")
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch says of foreign pickles
            weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            return {name: w for name, w in weights.items() if isinstance(w, torch.Tensor)}
    except Exception as error:  # a damaged file raises about anything
        raise InputError(
            f"transfer: {path} is not a Novum checkpoint ({type(error).__name__}); pickles of"
            " other programs carry code, and are never unpickled"
        ) from error


def transfer_weights(module: nn.Module, path: str) -> None:
    """Copies the networks' tensors of the same name and shape, and says which are left.

    Raises:
        InputError: If none is.
    """
    networks = ("generator.", "discriminator.", "ema.")
    theirs = read_weights(path)
    ours = {k: v for k, v in module.state_dict().items() if k.startswith(networks)}
    same = {k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}
    if not same:
        raise InputError(f"transfer: no tensor of {path} fits this model; are the sizes the same?")
    module.load_state_dict(same, strict=False)
    rank_zero_info(
        f"transferred {len(same)} of {len(ours)} tensors from {path}{_left(ours, theirs)}"
    )


def _left(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> str:
    """Say which tensors of this model begin anew, and why."""
    left = []
    for name, tensor in ours.items():
        there = theirs.get(name)
        if there is None:
            left.append(f"{name} (not in it)")
        elif there.shape != tensor.shape:
            left.append(f"{name} ({tuple(there.shape)} in it, {tuple(tensor.shape)} here)")
    if not left:
        return ""
    more = f" and {len(left) - 20} more" if len(left) > 20 else ""
    return f"; these begin anew: {', '.join(left[:20])}{more}"


def transfer_text_model(module: nn.Module, vocabulary: Vocabulary, path: str) -> None:
    """Copies the weights of a text model; characters that are new keep the weights they have.

    Args:
        module: Of the same sizes.
        vocabulary: Its own, which begins with that of the checkpoint.
        path: The checkpoint.

    Raises:
        InputError: If the vocabulary is another one, or weights are of other sizes.
    """
    checkpoint = read_checkpoint(path)
    before = vocabulary_of(checkpoint)
    if before is None:
        raise InputError(f"transfer: {path} is no checkpoint of a text model")
    if not vocabulary.extends(before):
        raise InputError(
            f"transfer: the vocabulary of {path} is another one: keep it, with"
            f" --data.vocabulary_of {path}"
        )
    theirs, ours = checkpoint["state_dict"], module.state_dict()
    sizes = {len(before), len(vocabulary)}
    for name, weight in ours.items():
        other = theirs.get(name)
        if other is None or (
            other.shape != weight.shape
            and (other.shape[1:] != weight.shape[1:] or {len(other), len(weight)} != sizes)
        ):
            raise InputError(
                f"transfer: {name} of {path} is {'missing' if other is None else [*other.shape]},"
                f" this model's {[*weight.shape]}: give it the same sizes"
            )
        weight[: len(other)].copy_(other)
    rank_zero_info(f"transferred {len(ours)} of {len(ours)} tensors from {path}")
