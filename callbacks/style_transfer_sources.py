"""Results of a style transfer beside its sources, and their distances."""

from typing import cast

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback, names_of
from novum.callbacks.image_results import source_distance
from novum.callbacks.logging import log_metrics, log_picture
from novum.core.lightning_compat import datamodule
from novum.core.protocols import ImageGenerator, seen
from novum.report.pictures import encode, fit_height, to_rgb


class StyleSources(EvaluationCallback):
    """novelty/source_distance/<features>/content and /style, Euclidean; 0 is a copy.

    The nearest of the results is meant where several are made at once. samples/style shows content,
    styles and result.

    Args:
        features: Feature extractors; pixels@64 are pixels of both at 64 px.
    """

    def __init__(self, features: tuple[str, ...] = ("pixels@64", "efficientnet_lite0")) -> None:
        self.features = names_of(features)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = datamodule(trainer)
        module = cast(ImageGenerator, pl_module)
        results = module.sample(len(data.contents)).cpu()
        tag = "novelty/source_distance"
        distances = {}
        for name in self.features:
            for kind, sources in (("content", data.contents), ("style", data.styles)):
                distances[f"{tag}/{name}/{kind}"] = min(
                    source_distance(name, source[None], result[None], pl_module.device)
                    for source in sources
                    for result in results
                )
        log_metrics(trainer, pl_module, distances)
        images = [*data.contents, *data.styles, *results]
        pixels = [to_rgb(image[None])[0] for image in images]
        step = seen(pl_module)
        log_picture(trainer, "samples/style", lambda: encode(fit_height(pixels)), step)
