"""Pictures of a style space: mixed styles, truncation, a walk in w, directions."""

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from novum.core.protocols import StyleGenerator
from novum.report.pictures import Pixels, captioned_table, enlarge, tile, to_rgb


def labels_in_turn(module: StyleGenerator, n: int, label: int | None = None) -> Tensor | None:
    """Return the class for all, or the classes in turn; None for a generator without classes."""
    classes = getattr(module, "num_classes", 0)
    if not classes:
        return None
    return torch.arange(n) % classes if label is None else torch.full((n,), label)


def sample_styles(module: StyleGenerator, n: int, seed: int, label: int | None = None) -> Tensor:
    """Styles (n, num_styles, w_dim) of n latents, of one class or of all in turn."""
    labels = labels_in_turn(module, n, label)
    return module.map_latents(module.sample_latents(n, seed=seed), labels=labels)


def mixing_sheet(
    module: StyleGenerator,
    rows: int = 3,
    columns: int = 6,
    seed: int = 0,
    psi: float = 0.7,
    label: int | None = None,
) -> Image.Image:
    """Above, the images that give styles; at the left, those that take them; between, the mixes.

    The rows come three times: for coarse, middle and fine styles (Karras et al., 2019, fig. 3).
    """
    ws = sample_styles(module, rows + columns, seed, label)
    givers, takers = ws[rows:], ws[:rows]

    def images(ws: Tensor) -> Tensor:  # of several classes, towards the mean of all
        labels = None if label is None else labels_in_turn(module, len(ws), label)
        return module.synthesize(ws, psi=psi, labels=labels)

    blocks = []
    ranges = style_ranges(ws.shape[1])
    for styles in ranges.values():
        mixed = takers[:, None].repeat(1, columns, 1, 1)  # (rows, columns, num_styles, w_dim)
        mixed[:, :, styles] = givers[:, styles]
        blocks.append(images(mixed.flatten(0, 1)).unflatten(0, (rows, columns)))
    top, left = images(givers), images(takers)
    blank = torch.full_like(top[:1], 255)
    table = torch.cat([blank, top])
    for block in blocks:
        table = torch.cat([table, *(torch.cat([left[i : i + 1], block[i]]) for i in range(rows))])
    grid = tile(enlarge(to_rgb(table.cpu())), columns + 1)
    return _with_margin(grid, list(ranges), rows)


def _with_margin(grid: Pixels, names: list[str], rows: int) -> Image.Image:
    """The name of each group of rows at the left."""
    margin, font = 60, ImageFont.load_default(size=14)
    sheet = Image.new("RGB", (grid.shape[1] + margin, grid.shape[0]), "white")
    sheet.paste(Image.fromarray(grid), (margin, 0))
    cell = grid.shape[0] / (1 + rows * len(names))
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        y = cell * (1 + rows * i)
        draw.text((4, y + cell * rows / 2), name, fill="black", font=font)
        draw.line((0, y, sheet.width, y), fill="black", width=1)
    return sheet


def truncation_sheet(
    module: StyleGenerator,
    rows: int = 6,
    psis: tuple[float, ...] = (-0.5, 0.0, 0.25, 0.5, 0.7, 0.85, 1.0),
    seed: int = 0,
    label: int | None = None,
) -> Image.Image:
    """The same latents in rows, from the mean image's far side to no truncation in columns."""
    ws = sample_styles(module, rows, seed, label)
    labels = labels_in_turn(module, rows, label)
    columns = [to_rgb(module.synthesize(ws, psi=psi, labels=labels)) for psi in psis]
    return captioned_table(columns, [f"psi {psi:g}" for psi in psis])


def style_walk(
    module: StyleGenerator,
    rows: int = 6,
    stops: int = 3,
    frames: int = 12,
    seed: int = 0,
    label: int | None = None,
) -> list[Pixels]:
    """Frames of closed walks along straight lines in w, `rows` of them side by side."""
    ws = sample_styles(module, rows * stops, seed, label).unflatten(0, (rows, stops))
    t = torch.arange(frames, device=ws.device)[:, None, None] / frames
    walk = torch.lerp(ws[:, :, None], ws.roll(-1, dims=1)[:, :, None], t)
    steps = stops * frames
    labels = None if label is None else labels_in_turn(module, rows * steps, label)
    images = module.synthesize(walk.flatten(0, 2), labels=labels)
    images = images.unflatten(0, (rows, steps)).transpose(0, 1)
    return [tile(enlarge(to_rgb(frame)), rows) for frame in images]


def direction_sheet(
    module: StyleGenerator,
    found: Tensor,
    columns: int = 7,
    strength: float = 3.0,
    seed: int = 0,
) -> Image.Image:
    """One latent per row moved along that row's direction, -strength to +strength standard units.

    Args:
        module: The generator.
        found: Unit directions (k, w_dim).
        columns: Steps.
        strength: Farthest move, in mean standard deviations of w.
        seed: Of the latents.
    """
    ws = sample_styles(module, 256, seed)
    unit = float(ws[:, 0].std(0).square().sum().sqrt())  # the typical length of w - mean
    moves = torch.linspace(-strength, strength, columns).to(ws)
    start = ws[: len(found), None].expand(-1, columns, -1, -1)
    step = moves[None, :, None, None] * found.to(ws)[:, None, None] * (unit / 2)
    moved = module.synthesize((start + step).flatten(0, 1)).unflatten(0, start.shape[:2])
    pictures = [to_rgb(moved[:, i]) for i in range(columns)]
    return captioned_table(pictures, [f"{m:+.1f}" for m in moves.tolist()])


def style_ranges(num_styles: int) -> dict[str, range]:
    """Coarse, middle and fine styles: about a third of the resolutions each."""
    levels = num_styles // 2
    coarse = (levels + 2) // 3
    middle = coarse + (levels - coarse) // 2
    starts = [0, 2 * coarse - 1, 2 * middle - 1, num_styles]
    names = ("coarse", "middle", "fine")
    ranges = {n: range(a, b) for n, a, b in zip(names, starts, starts[1:], strict=False)}
    return {name: styles for name, styles in ranges.items() if len(styles)}
