import pytest
import torch

from novum.core.checkpoints import load_module


@pytest.mark.parametrize("arguments", [None, {"_class_path": "novum.no_such_room.GAN"}])
def test_malformed_checkpoints_are_named(tmp_path, arguments):
    path = tmp_path / "x.ckpt"
    checkpoint = {"state_dict": {}, "hyper_parameters": arguments}
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="x.ckpt is not a Lightning checkpoint: it has no pytorch"):
        load_module(path)
    torch.save(checkpoint | {"pytorch-lightning_version": "2.6.6"}, path)
    with pytest.raises(ValueError, match="is not a feature extractor checkpoint"):
        load_module(path)
