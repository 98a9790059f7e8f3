"""Explores what a model has learnt: `python explore.py mix --checkpoint best.ckpt`."""

import argparse
from collections.abc import Sequence
from math import isfinite

from novum.cli.program import FOLLOW_LINKS, TRUST, Parser, one_line_errors, path
from novum.core.security.trust import trusting

DESCRIPTION = """\
What can a generator of train.py make?

Any generator with latents:
  interpolate an animation along great circles in the latents (GIF)

FlowMatching:
  inpaint     images whose right half, or the white of --mask, is made anew (PNG)
  vary        images taken more and more of the way to noise, and back (PNG)

StyleGAN:
  mix         coarse, middle and fine styles of some images put into others (PNG)
  truncate    the same latents from the mean image to no truncation (PNG)
  walk        an animation along straight lines in w (GIF)
  directions  the directions of w that change images most, without data or training (PNG, .npz)
  project     images found in the style space, beside what was asked (PNG, .npz); without --images
              those of the run: are training images found better than held-out ones?
  measure     path lengths in z and w; with --classifier linear separability, too (JSON)

Any of these, and CharLSTM:
  export      the generator as one graph for other programs, with a check that it makes the same
              images: --format onnx, or torch for torch.export (.onnx, .pt2)

What does a generator know by heart?

  extract     of images: those that come back again and again among --num-samples, and the training
              images that they are (JSON, PNG); what is drawn is kept, and a run that was stopped
              goes on. Of text: how often a prompt from training text is gone on with word for
              word, and as often one from held-out text, by the likeliest characters and by samples
              (JSON)
"""
EPILOG = """\
examples:
  {program} mix --checkpoint runs/stylegan_fashion_mnist/version_0/checkpoints/best.ckpt
  {program} project --checkpoint best.ckpt --images photos/ --space w+
  {program} vary --checkpoint best.ckpt --class 3
  {program} extract --checkpoint best.ckpt --num-samples 50000
  {program} export --checkpoint best.ckpt --output exported
  {program} extract --checkpoint runs/char_lstm_stdlib/version_0/checkpoints/best.ckpt

exit codes: 0 done; 2 bad input
"""
COMMANDS = (
    *("mix", "truncate", "walk", "directions", "project", "measure"),
    *("interpolate", "inpaint", "vary"),
    "export",
    "extract",
)
PICTURES = ("mix", "truncate", "walk", "interpolate", "inpaint", "vary")
GIVEN_IMAGES = ("project", "inpaint", "vary")
HEEDED = {  # option -> commands that it means something to; the others are of all
    "rows": (*PICTURES, "directions"),
    "psi": ("mix",),
    "label": (*PICTURES, "project", "extract"),
    "images": GIVEN_IMAGES,
    "mask": ("inpaint",),
    "num_images": ("project",),
    "space": ("project",),
    "steps": ("project", "export"),
    "format": ("export",),
    "features": ("measure",),
    "classifier": ("measure",),
    "num_paths": ("measure",),
    "num_samples": ("measure", "extract"),
    **dict.fromkeys(("num_prompts", "prefixes", "suffix", "tries"), ("extract",)),
    **dict.fromkeys(("temperature", "train", "heldout"), ("extract",)),
    "follow_links": (*GIVEN_IMAGES, "extract"),
}
PROJECTION_STEPS = 200
STEPS = f"updates of a projection, default {PROJECTION_STEPS}; of Heun in an exported flow"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("command", choices=COMMANDS, metavar="COMMAND", help="one of those above")
    add(
        "--checkpoint",
        metavar="PATH",
        required=True,
        help="of a generator; to extract, of a text model too; or hf://OWNER/NAME of the hub",
    )
    add("--output", metavar="DIR", type=path, default="exploration", help="default: exploration")
    add("--rows", metavar="N", type=int, default=6, help="images, walks or directions shown")
    add("--psi", metavar="X", type=float, default=0.7, help="truncation of mixed images")
    add(
        "--class",
        metavar="N",
        dest="label",
        type=int,
        help="one class of a conditional generator alone, by number; default: all in turn",
    )
    add(
        "--images", metavar="PATH", help="what to project or change: a folder, .npy, .npz, .parquet"
    )
    add("--mask", metavar="PATH", help="an image, white where pixels are made anew")
    add("--num-images", metavar="N", type=int, default=64, help="to project, of each side")
    add("--space", choices=("w", "w+"), default="w+", help="one w, or one for each layer")
    add("--steps", metavar="N", type=int, help=STEPS)
    add("--format", choices=("onnx", "torch"), default="onnx", help="to export; default: onnx")
    add("--features", metavar="NAME", default="efficientnet_lite0", help="measure path lengths")
    add("--classifier", metavar="PATH", help="a classifier's checkpoint")
    add("--num-paths", metavar="N", type=int, default=1000, help="of each kind, to measure")
    add(
        "--num-samples",
        metavar="N",
        type=int,
        default=10_000,
        help="drawn to be labelled or to extract",
    )
    add("--num-prompts", metavar="N", type=int, default=200, help="of each side, to extract")
    add(
        "--prefixes",
        metavar="N",
        type=int,
        nargs="+",
        default=[50, 100, 200],
        help="characters of prompts that are shown; default: 50 100 200",
    )
    add("--suffix", metavar="N", type=int, default=50, help="characters to extract; default 50")
    add("--tries", metavar="N", type=int, default=10, help="samples of a prompt; default 10")
    add("--temperature", metavar="T", type=float, default=1.0, help="of these; default 1")
    add(
        "--train",
        metavar="PATH|NAME",
        help="what it was trained on, to extract; default: the run's",
    )
    add("--heldout", metavar="PATH|NAME", help="the control; default: the run's")
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add("--trust", action="store_true", help=TRUST)
    add("--seed", metavar="S", type=int, default=0, help="of the latents")
    options = parser.parse_args(arguments)
    _refuse_unheeded(options, parser)
    if min(options.prefixes) < 1:
        parser.error(f"--prefixes {min(options.prefixes)}: at least 1")
    if options.heldout == "none":
        parser.error("--heldout none: extraction needs held-out data as its control")
    for name in ("rows", "num_images", "steps", "num_paths", "num_samples", "num_prompts",
                 "suffix", "tries"):  # fmt: skip
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: at least 1")
    if options.steps is None and options.command == "project":
        options.steps = PROJECTION_STEPS
    if not isfinite(options.psi):
        parser.error(f"--psi {options.psi}: give a number, usually from 0 to 1")
    if options.seed is not None and not 0 <= options.seed < 2**31:
        parser.error(f"--seed {options.seed}: give a number from 0 to {2**31 - 1}")
    return options


def _refuse_unheeded(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what was given and would change nothing; `options.given` has the flags of the rest."""
    options.given = {
        name: "--class" if name == "label" else f"--{name.replace('_', '-')}"
        for name in HEEDED
        if getattr(options, name) != parser.get_default(name)
    }
    for name, flag in options.given.items():
        if options.command not in HEEDED[name]:
            parser.error(f"{flag} is not for {options.command}: leave it out")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    options = parse(arguments)
    with one_line_errors(), trusting(options.trust):
        from novum.datamodules.sources.hub import local_model

        options.checkpoint = str(local_model(options.checkpoint, "--checkpoint"))
        if options.command == "extract":
            from novum.cli.explore_extraction import extract as run  # imports torch
        elif options.command == "export":
            from novum.cli.explore_export import export as run
        else:
            from novum.cli.explore_commands import run

        run(options)


if __name__ == "__main__":
    main()
