"""Commands of explore.py."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from novum.callbacks.samples import latent_walk
from novum.core.checkpoints import load_module
from novum.core.devices import default_device
from novum.core.errors import InputError, first_line
from novum.core.files import prepare_output
from novum.core.pixels import signed_to_uint8, uint8_to_signed
from novum.core.protocols import (
    ImageEditor,
    Images,
    LatentGenerator,
    require_editing,
    require_latents,
    require_styles,
)
from novum.core.security import arguments_of_run
from novum.datamodules.images import ImageDataModule
from novum.datamodules.resolve_source import open_images, open_references
from novum.evaluation.latent_figures import space_figures
from novum.evaluation.space import as_estimate
from novum.lightning_modules import StyleGAN
from novum.lightning_modules.stylegan.style_space import Projection, directions, project, recover
from novum.report.pictures import (
    captioned_table,
    encode,
    encode_gif,
    enlarge,
    tile,
    to_rgb,
)
from novum.report.style_grids import (
    direction_sheet,
    mixing_sheet,
    style_walk,
    truncation_sheet,
)

SHOWN = 8  # projected images in a picture


def run(options: argparse.Namespace) -> None:
    """Runs one command and prints where its results are."""
    loaded = load_module(Path(options.checkpoint), "sample", "generator")
    loaded.to(default_device()).eval()
    who = f"explore.py {options.command}"
    if options.command in OF_LATENTS:
        command, module = OF_LATENTS[options.command], require_latents(loaded, who)
    elif options.command in OF_EDITORS:
        command, module = OF_EDITORS[options.command], require_editing(loaded, who)
    else:
        command, module = OF_STYLES[options.command], require_styles(loaded, "explore.py")
    _check_class(module, options)
    prepare_output(options.output)
    command(cast(Any, module), options)


def _check_class(module: object, options: argparse.Namespace) -> None:
    """Refuse a class that the generator, or the command, does not have."""
    label, classes = options.label, getattr(module, "num_classes", 0)
    if label is None:
        return
    if not 0 <= label < classes:
        has = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise InputError(f"--class {label}: the generator of {options.checkpoint} has {has}")


def mix(module: StyleGAN, options: argparse.Namespace) -> None:
    given = {"seed": options.seed, "psi": options.psi, "label": options.label}
    sheet = mixing_sheet(module, rows=3, columns=options.rows, **given)
    write(options.output / "style_mixing.png", sheet)


def truncate(module: StyleGAN, options: argparse.Namespace) -> None:
    sheet = truncation_sheet(module, options.rows, seed=options.seed, label=options.label)
    write(options.output / "truncation.png", sheet)


def walk(module: StyleGAN, options: argparse.Namespace) -> None:
    path = options.output / "walk.gif"
    frames = style_walk(module, options.rows, seed=options.seed, label=options.label)
    path.write_bytes(encode_gif(frames))
    print(path)


def find_directions(module: StyleGAN, options: argparse.Namespace) -> None:
    found, strength = directions(module.ema, options.rows)
    on_host = {"directions": found.cpu().numpy(), "strength": strength.cpu().numpy()}
    np.savez(options.output / "directions.npz", allow_pickle=False, **on_host)
    sheet = direction_sheet(module, found, seed=options.seed)
    write(options.output / "directions.png", sheet)


def project_images(module: StyleGAN, options: argparse.Namespace) -> None:
    """Given images; or the run's, with the gap between training and held-out ones."""
    height = module.ema.image_size[0]
    channels = module.render(module.map_latents(module.sample_latents(1, seed=0))).shape[1]
    if options.images:
        source = _given_images(options, height, channels)
        images = uint8_to_signed(_first(source, options.num_images))
        found = project(
            module.ema,
            images,
            space=options.space,
            steps=options.steps,
            seed=options.seed,
            label=options.label,
        )
        asked = {"images": (images, found)}
        print(f"median distance: {float(found.distance.median()):.4g}")
    else:
        sources = _images_of_run(options, height, channels)
        how = options.num_images, options.space, options.steps, options.seed, options.label
        found, figures = recover(module, sources, *how)
        write_json(options.output / "recovery.json", figures)
        asked = {}
        for split, source in sources.items():
            random = torch.Generator().manual_seed(options.seed)
            rows = torch.randperm(len(source), generator=random)[: options.num_images]
            asked[split] = (uint8_to_signed(source[rows]), found[split])
    save_projections(asked, options.output)


def _given_images(options: argparse.Namespace, height: int, channels: int) -> Images:
    follow = options.follow_links
    return open_images(options.images, size=height, channels=channels, follow_links=follow).images


def _images_of_run(options: argparse.Namespace, height: int, channels: int) -> dict[str, Images]:
    """`train` and `heldout` of the run that the checkpoint is of."""
    data = arguments_of_run(Path(options.checkpoint), ImageDataModule)
    if data is None:
        raise InputError("--images is needed: there is no config.yaml of a run beside this file")
    place = data.get("path") or data["dataset"]
    follow = options.follow_links or data.get("follow_links", False)
    opened = open_references(place, place, height, channels, data, follow)
    return {
        name: side.images
        for name, side in zip(("train", "heldout"), opened, strict=True)
        if side is not None
    }


def save_projections(asked: dict, folder: Path) -> None:
    """Styles as .npz, and a picture of what was asked beside what was found."""
    arrays, columns, headings, captions = {}, [], [], []
    found: Projection
    for name, (images, found) in asked.items():
        arrays |= {f"{name}_ws": found.ws.cpu().numpy()}
        arrays |= {f"{name}_distance": found.distance.cpu().numpy()}
        columns += [to_rgb(signed_to_uint8(x[:SHOWN])) for x in (images, found.images)]
        headings += [name, "found"]
        captions += [(), [f"{d:.3g}" for d in found.distance[:SHOWN].tolist()]]
    np.savez(folder / "projections.npz", **arrays)
    write(folder / "projections.png", captioned_table(columns, headings, captions))


def measure(module: StyleGAN, options: argparse.Namespace) -> None:
    sizes = options.num_paths, options.num_samples
    found = space_figures(module, [options.features], options.classifier, *sizes, options.seed)
    figures = {
        metric: {end: x for end, x in asdict(as_estimate(figure)).items() if x is not None}
        for space in found.values()
        for metric, figure in space.items()
    }
    write_json(options.output / "measures.json", figures)


def interpolate(module: LatentGenerator, options: argparse.Namespace) -> None:
    path = options.output / "interpolation.gif"
    frames = latent_walk(module, options.rows, 3, 12, options.seed, options.label)
    path.write_bytes(encode_gif([tile(enlarge(to_rgb(x)), options.rows) for x in frames]))
    print(path)


def inpaint(module: ImageEditor, options: argparse.Namespace) -> None:
    """Asked images, what is known of them, and four ways to go on."""
    images, labels = _images_to_change(module, options)
    hole = _hole(options, *images.shape[-2:])
    known = torch.where(hole, 127, images)
    made = [module.inpaint(images, hole, seed=options.seed + i, labels=labels) for i in range(4)]
    headings = ["image", "known", *(f"seed {options.seed + i}" for i in range(4))]
    columns = [to_rgb(x.cpu()) for x in (images, known, *made)]
    write(options.output / "inpainting.png", captioned_table(columns, headings))


def vary(module: ImageEditor, options: argparse.Namespace) -> None:
    """Asked images, and what comes back from ever farther on the way to noise."""
    images, labels = _images_to_change(module, options)
    strengths = [0.2, 0.4, 0.6, 0.8, 1.0]
    made = [module.vary(images, s, seed=options.seed, labels=labels) for s in strengths]
    columns = [to_rgb(x.cpu()) for x in (images, *made)]
    headings = ["image", *(f"{s:g} to noise" for s in strengths)]
    write(options.output / "variations.png", captioned_table(columns, headings))


def _images_to_change(
    module: ImageEditor, options: argparse.Namespace
) -> tuple[Tensor, Tensor | None]:
    """`rows` images, given ones or held-out ones of the run, and the class asked for."""
    channels, height, _ = module.sample(1, seed=0).shape[1:]
    if options.images:
        source = _given_images(options, height, channels)
    else:
        sources = _images_of_run(options, height, channels)
        source = sources.get("heldout", sources["train"])
    images = _first(source, options.rows).cpu()
    labels = None if options.label is None else torch.full((len(images),), options.label)
    return images, labels


def _first(source: Images, n: int) -> Tensor:
    return source[torch.arange(min(n, len(source)))]


def _hole(options: argparse.Namespace, height: int, width: int) -> Tensor:
    """The right half, or where a mask is white (h, w)."""
    if options.mask is None:
        return torch.arange(width).expand(height, -1) >= width // 2
    try:
        with Image.open(options.mask) as image:
            mask = (
                torch.from_numpy(
                    np.array(image.convert("L").resize((width, height), Image.Resampling.NEAREST))
                )
                > 127
            )
    except OSError as error:
        raise InputError(f"--mask {options.mask}: {first_line(error)}; give an image") from error
    if not mask.any():
        raise InputError(f"--mask {options.mask} is white nowhere: nothing would be made anew")
    return mask


OF_LATENTS = {"interpolate": interpolate}
OF_EDITORS = {"inpaint": inpaint, "vary": vary}
OF_STYLES = {
    "mix": mix,
    "truncate": truncate,
    "walk": walk,
    "directions": find_directions,
    "project": project_images,
    "measure": measure,
}


def write(path: Path, picture: Image.Image) -> None:
    path.write_bytes(encode(picture))
    print(path)


def write_json(path: Path, figures: dict) -> None:
    text = json.dumps(figures, indent=2)
    path.write_text(text + "\n")
    print(text)
    print(path)
