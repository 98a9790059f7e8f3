"""Judges samples of any generator: `python evaluate.py --samples DIR --train DIR --heldout DIR`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from novum.cli.program import (
    EXIT_CANNOT_JUDGE,
    EXIT_COPYING,
    FOLLOW_LINKS,
    TRUST,
    Parser,
    one_line_errors,
    repeat_sigint,
)
from novum.core.security.trust import trusting
from novum.report.model import Finding

FEATURES = "default: efficientnet_lite0,pixels,alignment,local"
GROUPS = "images that are held out together: a CSV of image and group, or a pattern of names"
DESCRIPTION = """\
Is it good, and is it new? Judges samples of any generator against its training data, and against
held-out data that it has never seen. Prints a table and a verdict; writes report.html,
report.json and TensorBoard events.

A PATH is a folder of images (of a GIF or TIFF each frame or page is one); a .npy or .npz file of
uint8 images; a .parquet, .arrow or .tar (webdataset) file or a folder of those, however deep; or,
for --samples, which are never split, a checkpoint (.ckpt) of train.py, whose training and held-out
data are then known. A NAME is digits, mnist, fashion_mnist, cifar10 or celeba. One place given for
both --train and --heldout is split as training splits it.

With --kind text a PATH is a text file in UTF-8, a table of texts (.jsonl, also .gz and .zst,
.parquet or .arrow; a row is a document), a folder or a glob of these, what `datasets` saved, or,
for --samples, a checkpoint of a text model; the NAME is stdlib, the source of Python's standard
library.
"""
EPILOG = """\
examples:
  {program} --samples out/ --train data/train --heldout data/test
  {program} --samples out.npz --train cifar10 --heldout cifar10 --fail-on-copying
  {program} --samples runs/dcgan_digits/version_0/checkpoints/best.ckpt
  {program} --kind text --samples out.txt --train input.txt --heldout input.txt
  {program} --compare A/report.json B/report.json
  torchrun --nproc-per-node 8 evaluate.py --samples out/ --train cifar10 --heldout cifar10

exit codes: 0 judged; 2 bad input; with --fail-on-copying 3 if copying is found, 4 if these sets do
not allow a judgement
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what contradicts itself is an error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.contamination:
        if options.kind != "text" or options.samples or options.heldout in (None, "none"):
            parser.error("--contamination needs --kind text, --train and --heldout, no --samples")
        options.samples = options.heldout
    if bool(options.samples) == bool(options.compare):
        parser.error("--samples or --compare is needed, one of them")
    if options.kind == "text" and options.features:
        parser.error("--features are of images: leave it out with --kind text")
    of_text = options.text_column or options.encoding != "utf-8" or options.on_bad_text == "skip"
    if options.kind == "image" and of_text:
        parser.error(
            "--text-column, --encoding and --on-bad-text are of text: leave them out without"
            " --kind text"
        )
    of_images = options.groups or options.image_column or options.on_bad_image == "skip"
    if options.kind == "text" and of_images:
        parser.error("--groups, --image-column and --on-bad-image are of images: leave them out")
    if options.classifier and not (options.samples or "").endswith(".ckpt"):
        parser.error("--classifier labels what a StyleGAN makes: --samples must be its checkpoint")
    if not 0 <= options.seed < 2**31:
        parser.error(f"--seed {options.seed}: give a number from 0 to {2**31 - 1}")
    if options.num_samples is not None and options.num_samples < 2:
        parser.error(f"--num-samples {options.num_samples}: at least 2 are needed")
    return options


def _parser() -> Parser:
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("--samples", metavar="PATH", help="what to judge")
    add("--train", metavar="PATH|NAME", help="what the generator was trained on")
    add("--heldout", metavar="PATH|NAME|none", help="data like it, never trained on")
    add("--kind", choices=("image", "text"), default="image", help="default: image")
    add("--features", metavar="NAME[,NAME]", help=FEATURES)
    add("--classifier", metavar="PATH", help="a classifier's checkpoint: separability of styles")
    add("--output", metavar="DIR", type=Path, default="evaluation", help="default: evaluation")
    add(
        "--fail-on-copying",
        action="store_true",
        help="exit code 3 if so, 4 if unknown",
    )
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add(
        "--contamination",
        action="store_true",
        help="of text: which documents of --heldout stand in --train? Without --samples",
    )
    add("--text-column", metavar="NAME", help="of tables of texts; else it is found")
    add(
        "--encoding",
        metavar="NAME[,NAME]",
        default="utf-8",
        help="of texts, each in the first that it decodes in; default: utf-8",
    )
    add(
        "--on-bad-text",
        choices=("error", "skip"),
        default="error",
        help="stop at a text that cannot be read (default), or leave it out and count it",
    )
    add("--image-column", metavar="NAME", help="of tables and archives; else it is found")
    add("--split", metavar="NAME", help="of tables: the one to read, for all sets")
    add(
        "--on-bad-image",
        choices=("error", "skip"),
        default="error",
        help="stop at an image that cannot be read (default), or leave it out and count it",
    )
    add("--groups", metavar="FILE|REGEX", help=GROUPS)
    add("--trust", action="store_true", help=TRUST)
    add("--seed", metavar="S", type=int, default=0, help="of samples drawn, and of cells")
    add(
        "--num-samples",
        metavar="N",
        type=int,
        help="drawn from a checkpoint: 10,000 images or 100 texts of 1,000 characters",
    )
    add("--compare", metavar="REPORT", type=Path, nargs="+", help="report.json files side by side")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    options = parse(arguments)
    with one_line_errors(), repeat_sigint(), trusting(options.trust):
        if options.compare:
            from novum.report.compare import compare

            return compare(options.compare, options.output)
        if options.kind == "text":
            from novum.evaluation.text import run
        else:
            from novum.evaluation.images import run  # imports torch
        from novum.core.distributed import process_group

        with process_group():
            verdict = run(options)
    if not options.fail_on_copying:
        return
    if verdict.copying:
        raise SystemExit(EXIT_COPYING)
    if verdict.finding is Finding.CANNOT_JUDGE and options.heldout != "none":  # facts alone decide
        raise SystemExit(EXIT_CANNOT_JUDGE)


if __name__ == "__main__":
    main()
