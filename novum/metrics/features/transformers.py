"""DINOv2 and CLIP, as timm builds them."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from novum.core.errors import InputError
from novum.core.pretrained import find_weights, load_weights
from novum.metrics.features.extraction import resize, weights_hash
from novum.metrics.features.extractor import FeatureExtractor


class VisionTransformer(FeatureExtractor):
    """One embedding per image from a timm vision transformer, after a bicubic resize."""

    NAME: str
    MODEL: str  # timm's name
    WIDTH: int  # of the projection after the class token; 0 for none
    SIZE = 224
    URL: str
    FILENAME: str
    MEAN: tuple[float, float, float]
    STD: tuple[float, float, float]
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str | None = None,
        features_list: list[str] | None = None,
        size: int = 0,
        feature_extractor_weights_path: str | Path | None = None,
        **_: object,
    ) -> None:
        from timm.models.vision_transformer import checkpoint_filter_fn

        super().__init__(name or self.NAME, features_list)
        self.size = size or self.SIZE
        path = find_weights(self.NAME, self.URL, self.FILENAME, feature_extractor_weights_path)
        self.network = build_network(self.MODEL, self.WIDTH, self.size)
        try:
            weights = resize_positions(load_weights(path), self.size)
            self.network.load_state_dict(checkpoint_filter_fn(weights, cast(Any, self.network)))
        except (RuntimeError, KeyError) as error:
            raise InputError(f"{path} does not hold the weights of {self.MODEL}") from error
        weights = weights_hash(self.network)
        self.spec = (
            f"{self.NAME}/{self.LAYER}/bicubic-antialias-{self.size}/float32/weights-{weights}"
        )
        self.register_buffer("mean", 255 * torch.tensor(self.MEAN)[:, None, None], False)
        self.register_buffer("std", 255 * torch.tensor(self.STD)[:, None, None], False)
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> Tensor:
        return self.network((resize(images, self.size, "bicubic") - self.mean) / self.std)


class DinoV2(VisionTransformer):
    """Class token of DINOv2 ViT-L/14: the features of FD-DINOv2 (Stein et al., 2023)."""

    NAME = "dinov2"
    LAYER = "class_token"
    MODEL = "vit_large_patch14_dinov2"
    WIDTH = 0
    URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
    FILENAME = "dinov2_vitl14_pretrain.pth"
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Clip(VisionTransformer):
    """Image embedding of OpenAI's CLIP ViT-B/32 (Radford et al., 2021, 2103.00020)."""

    NAME = "clip"
    LAYER = "embedding"
    MODEL = "vit_base_patch32_clip_quickgelu_224"
    WIDTH = 512
    URL = "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/main/model.safetensors"
    FILENAME = "vit_base_patch32_clip_224.openai.safetensors"
    MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def build_network(model: str, width: int, size: int) -> torch.nn.Module:
    """timm's network for size x size images; `width` outputs, or the bare class token for 0."""
    import timm

    network = timm.create_model(model, pretrained=False, num_classes=width, img_size=size)
    return network.eval()


def resize_positions(weights: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Position embeddings for another image size, as DINOv2's own code does it.

    Bicubic without antialiasing, by a scale factor with 0.1 added to the number of patches.
    """
    positions, patches = weights.get("pos_embed"), weights.get("patch_embed.proj.weight")
    if positions is None or patches is None:
        return weights  # another layout: left to timm
    d, old, new = (
        positions.shape[2],
        int((positions.shape[1] - 1) ** 0.5),
        size // patches.shape[-1],
    )
    if old == new:
        return weights
    grid = positions[:, 1:].float().reshape(1, old, old, d).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((new + 0.1) / old,) * 2, mode="bicubic")
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2)
    return weights | {"pos_embed": torch.cat([positions[:, :1].float(), grid], 1)}
