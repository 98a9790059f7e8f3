"""For modules whose parameter is an image: the result as files, how far it is from its source, and
what another network takes it for."""

from pathlib import Path
from typing import Literal, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from novum.callbacks.evaluation import EvaluationCallback, names_of, reference
from novum.callbacks.logging import log_metrics, log_picture
from novum.callbacks.preemption import Preempted
from novum.core.devices import place
from novum.core.lightning_compat import fast_dev_run
from novum.core.protocols import ClassImages, SingleImage, seen
from novum.core.resampling import resize_antialiased
from novum.lightning_modules.networks.backbones import Backbone
from novum.metrics.features import load_extractor
from novum.report.pictures import captioned_table, encode, to_rgb
from novum.report.recipes import recipe_of, video_package, write_animation, write_png


class WriteResult(Callback):
    """PNGs of the images in the run's folder at its end, the whole recipe inside each of them.

    `train.py fit --config RESULT.png` repeats one from its recipe. An animation, if the module
    keeps frames, is written beside them.

    Args:
        animation: Its format; mp4 needs the package av.
        frames_per_second: Its speed.
    """

    def __init__(
        self, animation: Literal["gif", "mp4"] = "gif", frames_per_second: int = 15
    ) -> None:
        if animation == "mp4":
            video_package()  # fail early
        self.animation, self.frames_per_second = animation, frames_per_second

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not fast_dev_run(trainer) and trainer.is_global_zero:  # a trial has no folder
            self._write(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """A run that was stopped leaves the image that it had reached."""
        begun = isinstance(exception, Preempted) and trainer.global_step > 0
        if begun and not fast_dev_run(trainer) and trainer.is_global_zero:
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder, recipe = Path(trainer.log_dir or "."), recipe_of(trainer)
        module = cast(SingleImage, pl_module)
        titles = [title.replace("/", "_") for title in module.titles]  # of classes of any name
        for title, image in zip(titles, to_rgb(module.sample(len(titles))), strict=True):
            write_png(folder / f"{title}.png", image, recipe)
            print(f"Result:      {folder / f'{title}.png'}")
        frames = getattr(pl_module, "frames", [])
        if frames:
            path = folder / f"{titles[0]}.{self.animation}"
            write_animation(path, list(to_rgb(torch.stack(frames))), self.frames_per_second)
            print(f"Animation:   {path}")


class SourceDistance(EvaluationCallback):
    """novelty/source_distance/<features>: how far the result has come from its source image.

    Euclidean, in each feature space; 0 is the source itself. novelty/source shows both.

    Args:
        features: Feature extractors; pixels@64 are pixels of both at 64 px.
    """

    def __init__(self, features: tuple[str, ...] = ("pixels@64", "efficientnet_lite0")) -> None:
        self.features = names_of(features)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        source = reference(trainer, "train")[:].cpu()
        result = cast(SingleImage, pl_module).sample(1).cpu()
        device = pl_module.device
        distances = {name: source_distance(name, source, result, device) for name in self.features}
        tag = "novelty/source_distance"
        log_metrics(trainer, pl_module, {f"{tag}/{k}": d for k, d in distances.items()})
        shown = resize_antialiased(source.float(), result.shape[-2:])
        captions = [[], ["  ".join(f"{k} {d:.3g}" for k, d in distances.items())]]
        columns = [to_rgb(shown.round().clamp(0, 255).to(torch.uint8)), to_rgb(result)]
        log_picture(
            trainer,
            "novelty/source",
            lambda: encode(captioned_table(columns, ["source", "result"], [[""], captions[1]])),
            seen(pl_module),
        )


@torch.inference_mode()
def source_distance(features: str, source: Tensor, result: Tensor, device: torch.device) -> float:
    """Euclidean distance of two uint8 images (1, 3, h, w) of any sizes, by features on a device."""
    extractor = place(load_extractor(features), device)
    # not in micro-batches: these are large
    a, b = (extractor(x.to(device))[0] for x in (source, result))
    return float((a - b).double().norm())


class ClassJudge(EvaluationCallback):
    """quality/top1/<network>: share of images that a network which took no part puts first.

    quality/best_of/<network> counts a class when one of its images is put first. At the end of a
    run a table says which.

    Args:
        network: A backbone's name.
        weights: Its weights.
    """

    def __init__(self, network: str = "efficientnet_lite2", weights: str = "download") -> None:
        self.network, self.weights = network, weights
        self._judge: Backbone | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._judge = self._judge or Backbone(self.network, self.weights)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(ClassImages, pl_module)
        ranks, _ = self.judged(module)
        first = (ranks == 1).view(-1, module.per_class)
        values = {"top1": first.double().mean(), "best_of": first.any(1).double().mean()}
        tagged = {f"quality/{k}/{self.network}": float(v) for k, v in values.items()}
        log_metrics(trainer, pl_module, tagged)

    @torch.inference_mode()
    def judged(self, module: ClassImages) -> tuple[Tensor, Tensor]:
        """Each image's rank (1 is first) and probability of its class in the judge's eyes."""
        assert self._judge is not None  # from setup on
        rows = torch.tensor(module.class_rows)[:, None]
        images = module.sample(len(rows)).cpu()
        p = torch.cat([self._judge(image[None] / 255).softmax(1) for image in images])
        own = p.gather(1, rows)
        return (p > own).sum(1) + 1, own[:, 0]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(ClassImages, pl_module)
        ranks, p = self.judged(module)
        table = Table(title=f"as {self.network} sees them")
        for column in ("image", "rank", "probability"):
            table.add_column(column)
        for title, rank, own in zip(module.titles, ranks.tolist(), p.tolist(), strict=True):
            table.add_row(title, str(rank), f"{own:.3f}")
        first = (ranks == 1).view(-1, module.per_class).any(1)
        console = Console(width=80)
        console.print(table)
        console.print(
            f"put first, best of {module.per_class}: {int(first.sum())} of {len(first)} classes"
        )
