"""Pictures of what a generator makes: a grid, its history as one strip, a walk through latents."""

from typing import Any, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import EvaluationCallback, lacks
from novum.callbacks.logging import log_picture, novelty_folder
from novum.core.errors import check_at_least
from novum.core.protocols import ImageGenerator, LatentGenerator, seen, unit
from novum.core.thinning import most_crowded
from novum.report.novelty_record import add_line, write_picture
from novum.report.pictures import captioned_table, encode, encode_gif, enlarge, tile, to_rgb


class SampleGrid(EvaluationCallback):
    """samples/grid: the same latents at every evaluation; one row per class if conditional.

    No image is shown twice: of a few images that are optimised, there are no more.

    Args:
        rows: Rows of the grid (a conditional generator has one per class).
        columns: Samples per row.
        seed: Of the latents.
    """

    requires = ("sample",)

    def __init__(self, rows: int = 8, columns: int = 8, seed: int = 0) -> None:
        check_at_least(1, rows=rows, columns=columns)
        self.rows, self.columns, self.seed = rows, columns, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        num_classes = getattr(pl_module, "num_classes", 0)
        labels = torch.arange(num_classes).repeat_interleave(self.columns) if num_classes else None
        n = images_of(pl_module, self.columns * (num_classes or self.rows))
        columns = min(n, getattr(pl_module, "per_class", self.columns))
        generator = cast(ImageGenerator, pl_module)
        chosen = {} if labels is None else {"labels": labels}
        images = generator.sample(n, seed=self.seed, **chosen).cpu()
        step, run = seen(pl_module), novelty_folder(trainer)

        def draw() -> bytes:
            encoded = encode(tile(enlarge(to_rgb(images)), columns))
            if run is not None:  # TensorBoard itself keeps ten pictures of a tag
                write_picture(run, step, "grid", encoded)
            return encoded

        log_picture(trainer, "samples/grid", draw, step)
        if run is not None:
            add_line(run, {"step": step, "unit": unit(pl_module)})


def images_of(pl_module: LightningModule, n: int) -> int:
    """n, or as many as there are of a module whose parameter is an image, or a few."""
    titles = getattr(pl_module, "titles", None)
    return n if titles is None else min(n, len(titles))


class FilmStrip(EvaluationCallback):
    """samples/film_strip: rows are fixed latents, columns evaluations spaced evenly in log time.

    One picture holds the whole history (TensorBoard itself keeps ten images of a tag), and it is
    part of every checkpoint.

    Args:
        rows: Fixed latents.
        columns: Evaluations shown at most.
        seed: Of the latents.
    """

    requires = ("sample",)

    def __init__(self, rows: int = 8, columns: int = 12, seed: int = 0) -> None:
        check_at_least(1, rows=rows, columns=columns)
        self.rows, self.columns, self.seed = rows, columns, seed
        self.history: dict[int, Tensor] = {}  # images_seen -> uint8 (rows, c, h, w)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        generator = cast(ImageGenerator, pl_module)
        rows = images_of(pl_module, self.rows)
        images = generator.sample(rows, seed=self.seed).cpu()  # on all ranks: part of state
        self.history[seen(pl_module)] = images
        if len(self.history) > self.columns:
            del self.history[most_crowded(sorted(self.history))]
        strip = dict(sorted(self.history.items()))
        log_picture(trainer, "samples/film_strip", lambda: _draw_strip(strip), max(strip))

    def state_dict(self) -> dict[str, Any]:
        return {"history": dict(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = dict(state_dict["history"])


def _draw_strip(history: dict[int, Tensor]) -> bytes:
    headings = [format_count(images_seen) for images_seen in history]
    return encode(captioned_table([to_rgb(images) for images in history.values()], headings))


def format_count(n: int) -> str:
    """12800 -> 12.8k."""
    for limit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if n >= limit:
            return f"{n / limit:.3g}{suffix}"
    return str(n)


class Interpolation(EvaluationCallback):
    """samples/interpolation: a closed walk through latents along great circles, as an animation.

    Args:
        rows: Walks shown side by side.
        stops: Latents each walk visits.
        frames: Frames between two stops.
        seed: Of the latents.
    """

    requires = ("sample_latents", "decode")

    def __init__(self, rows: int = 6, stops: int = 3, frames: int = 12, seed: int = 0) -> None:
        self.rows, self.stops, self.frames, self.seed = rows, stops, frames, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, LatentGenerator):
            raise lacks(self, pl_module, "sample_latents and decode")
        frames = latent_walk(pl_module, self.rows, self.stops, self.frames, self.seed)
        log_picture(
            trainer,
            "samples/interpolation",
            lambda: encode_gif([tile(enlarge(to_rgb(f)), self.rows) for f in frames]),
            seen(pl_module),
        )


def latent_walk(
    generator: LatentGenerator,
    rows: int,
    stops: int,
    frames: int,
    seed: int = 0,
    label: int | None = None,
) -> Tensor:
    """Frames (stops * frames, rows, c, h, w) of closed walks along great circles, side by side.

    Of one class, or of the classes in turn.
    """
    latents = generator.sample_latents(rows * stops, seed=seed)
    walk = closed_walk(latents.view(rows, stops, -1), frames)
    labels, steps = None, walk.shape[1]
    if num_classes := getattr(generator, "num_classes", 0):
        classes = torch.arange(rows) % num_classes if label is None else torch.full((rows,), label)
        labels = classes.repeat_interleave(steps)
    images = generator.decode(walk.flatten(0, 1), labels=labels).cpu()
    return images.unflatten(0, (rows, steps)).transpose(0, 1)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great-circle interpolation of a, b (..., d) at t (k,) -> (..., k, d) (Shoemake, 1985)."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-2)
    cosine = torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1).unsqueeze(-1)
    angle = torch.acos(cosine).clamp_min(1e-4)  # parallel latents: sin(x) / x is 1
    t = t[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def closed_walk(stops: Tensor, frames: int) -> Tensor:
    """Stops (rows, s, d) -> latents (rows, s * frames, d) that visit each stop and return."""
    t = torch.arange(frames) / frames
    return slerp(stops, stops.roll(-1, dims=1), t).flatten(1, 2)
