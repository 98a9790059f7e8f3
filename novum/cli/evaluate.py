"""Judges samples of any generator: `python evaluate.py --samples DIR --train DIR --heldout DIR`."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from novum.cli.program import (
    EXIT_REQUIREMENT,
    FOLLOW_LINKS,
    TRUST,
    Parser,
    one_line_errors,
    path,
    repeat_sigint,
)
from novum.core.security.trust import trusting

if TYPE_CHECKING:
    from novum.evaluation.request import Request

SHORT = "the same, in short: the answer fits on a screen, and HELDOUT may be missing"
FAIL_ON = "of copying, leaning, cannot_judge, too_little_evidence: exit code 3 or 4"
FEATURES = "default: efficientnet_lite0,pixels,alignment,local"
FOLLOW = "wait for samples that are being written, until none came for so long"
SAVE_REFERENCE = (
    "write what judging needs of --train and --heldout: others judge with --train FILE, without the"
    " images; with --redacted no picture and no name is in it; --samples may be left out"
)
GROUPS = "images that are held out together: a CSV of image and group, or a pattern of names"
CALIBRATE_BY = "another checkpoint, an earlier one or a twin's: its losses of items are taken off"
DESCRIPTION = """\
Is it good, and is it new? Judges samples of any generator against its training data, and against
held-out data that it has never seen. Prints a table and a verdict; writes report.html,
report.json and TensorBoard events.

A PATH is a folder of images (of a GIF or TIFF each frame or page is one); a .npy or .npz file of
uint8 images; a .parquet, .arrow or .tar (webdataset) file or a folder of those, however deep; or,
for --samples, which are never split, a checkpoint (.ckpt) of train.py, whose training and held-out
data are then known; an ONNX file (.onnx) of a generator, a model on the Hugging Face Hub
(hf://OWNER/NAME), or a folder that is still being written (--follow). A data set on the hub is
hf://datasets/OWNER/NAME. A NAME is digits, mnist, fashion_mnist, cifar10 or celeba. One place given
for both --train and --heldout is split as training splits it.

With --kind text a PATH is a text file in UTF-8, a table of texts (.jsonl, also .gz and .zst,
.parquet or .arrow; a row is a document), a folder or a glob of these, what `datasets` saved, or,
for --samples, a checkpoint of a text model; the NAME is stdlib, the source of Python's standard
library.
"""
EPILOG = """\
examples:
  {program} out/ data/train data/test                     the answer on one screen
  {program} --samples out/ --train data/train --heldout data/test    every figure
  {program} out.npz cifar10 --fail-on-copying --require "precision>=0.7"
  {program} --samples mine.pipeline:draw --train data/train --heldout data/test
  {program} out/ data/train data/test --quick               a first answer
  {program} --samples runs/dcgan_digits/version_0/checkpoints/best.ckpt
  {program} --kind text --samples out.txt --train input.txt --heldout input.txt
  {program} --compare A/report.json B/report.json
  {program} --verify evaluation/report.json
  torchrun --nproc-per-node 8 evaluate.py --samples out/ --train cifar10 --heldout cifar10

exit codes: 0 judged; 2 bad input; 3 copying, or leaning if --fail-on names it; 4 the sets do not
allow a judgement, or too little evidence if --fail-on names it; 5 a --require is not met, or
--verify finds a change
"""
PLACES = ("samples", "train", "heldout")
WRITTEN = ("json", "markdown", "model_card", "junit")  # for programs and pages, or to stdout
OF_SAMPLES = ("fail_on_copying", "fail_on", "require", "json", "markdown", "junit", "num_samples")
TASKS = ("verify", "compare", "save_reference")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what contradicts itself is an error."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    options.short = bool(options.sets)
    if len(options.sets) > len(PLACES):
        parser.error(f"{len(options.sets)} places: give SAMPLES TRAIN [HELDOUT]")
    for name, place in zip(PLACES, options.sets, strict=False):
        if not place.strip():
            parser.error(f"the place of {name} is empty: give a path or a name")
        if getattr(options, name):
            parser.error(f"{place} and --{name} {getattr(options, name)}: give one of them")
        setattr(options, name, place)
    if options.contamination:
        if options.kind != "text" or options.samples or options.heldout in (None, "none"):
            parser.error("--contamination needs --kind text, --train and --heldout, no --samples")
        options.samples = options.heldout
    tasks = {f"--{x.replace('_', '-')}": getattr(options, x) for x in TASKS}
    if len(given := [name for name, value in tasks.items() if value]) > 1:
        parser.error(f"{' and '.join(given)}: give one of them")
    if options.save_reference:
        require_named(parser, options)
    alone = options.verify is not None or options.save_reference is not None
    if not alone and bool(options.samples) == bool(options.compare):
        parser.error("--samples or --compare is needed, one of them")
    if [str(getattr(options, name)) for name in WRITTEN].count("-") > 1:
        parser.error("only one of --json, --markdown, --model-card and --junit can be - (stdout)")
    waived = "cannot_judge" in [name.strip() for name in (options.fail_on or "").split(",")]
    if waived and options.heldout == "none":
        parser.error(
            "--fail-on cannot_judge with --heldout none: without held-out data facts alone decide;"
            " leave one of them out"
        )
    return options


def require_named(parser: Parser, options: argparse.Namespace) -> None:
    """End with an error unless a bundle's sets are named, and what asks for samples has some."""
    if options.sets:
        parser.error("--save-reference: name the sets, --train PATH --heldout PATH")
    asked = {f"--{x.replace('_', '-')}": getattr(options, x) for x in OF_SAMPLES}
    if not options.samples and (given := [name for name, value in asked.items() if value]):
        parser.error(f"{' and '.join(given)}: there is nothing to judge, give --samples too")


def _parser() -> Parser:
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("sets", nargs="*", metavar="SAMPLES TRAIN [HELDOUT]", help=SHORT)
    add("--samples", metavar="PATH|MODULE:FUNCTION", help="what to judge")
    add("--train", metavar="PATH|NAME", help="what the generator was trained on")
    add("--heldout", metavar="PATH|NAME|none", help="data like it, never trained on")
    add("--kind", choices=("image", "text"), default="image", help="default: image")
    add("--features", metavar="NAME[,NAME]", help=FEATURES)
    add("--classifier", metavar="PATH", help="a classifier's checkpoint: separability of styles")
    add("--calibrate-by", metavar="PATH", help=CALIBRATE_BY)
    add("--output", metavar="DIR", type=path, default="evaluation", help="default: evaluation")
    add(
        "--fail-on-copying",
        action="store_true",
        help="exit code 3 if so, 4 if unknown: --fail-on copying,cannot_judge",
    )
    add("--fail-on", metavar="FINDING[,FINDING]", help=FAIL_ON)
    add(
        "--require",
        metavar="FIGURE>=X",
        action="append",
        default=[],
        help='or <=, >, <; exit code 5 if it is not so: "precision>=0.7", "precision/pixels>=70%%"',
    )
    add("--json", metavar="FILE|-", type=path, help="report.json there too; -: to stdout, alone")
    add("--markdown", metavar="FILE|-", type=path, help="the comment on a pull request")
    add("--model-card", metavar="FILE|-", type=path, help="the verdict as a hub's README.md")
    add("--junit", metavar="FILE|-", type=path, help="the gate as JUnit XML")
    add(
        "--redacted",
        action="store_true",
        help="write hashes and aggregates alone: no image, text or name of one",
    )
    add(
        "--quick",
        action="store_true",
        help="of images: facts and one feature space alone; altered copies are not looked for",
    )
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--verify", metavar="REPORT", type=path, help="are the inputs those that were judged?")
    add("--save-reference", metavar="FILE", type=path, help=SAVE_REFERENCE)
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
    add("--follow", metavar="SECONDS", type=float, help=FOLLOW)
    add(
        "--num-samples",
        metavar="N",
        type=int,
        help="drawn from a generator: 10,000 images or 100 texts of 1,000 characters; with"
        " --follow, files to wait for",
    )
    add("--compare", metavar="REPORT", type=path, nargs="+", help="report.json files side by side")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    options = parse(arguments)
    with one_line_errors(), repeat_sigint(), trusting(options.trust):
        if options.compare:
            from novum.report.compare import compare

            return compare(options.compare, options.output)
        if options.verify:
            return _verify(options)
        with _aside(options) as stdout:
            code = _judge(options, stdout)
    if code:
        raise SystemExit(code)


def request_of(options: argparse.Namespace) -> "Request":
    """The request that the command line makes."""
    from novum.evaluation.request import Request, feature_list

    given = vars(options)
    known = {field.name for field in dataclasses.fields(Request)}
    kept = {name: value for name, value in given.items() if name in known}
    kept["features"] = feature_list(options.features)
    # the short form is for a first look; in full one says that nothing is held out
    return Request(**kept, ask_heldout=not options.short)


def _judge(options: argparse.Namespace, stdout: TextIO) -> int:
    """Judge, print, write; return the exit code."""
    from novum.cli import ci_gate

    request = request_of(options)
    criteria = ci_gate.criteria_of(options)
    from novum.core.bars import silence
    from novum.core.distributed import is_rank_zero
    from novum.evaluation.api import judge, save_reference

    with silence() if options.quiet else contextlib.nullcontext():
        report = judge(request) if request.save_reference is None else save_reference(request)
    if report is None:
        return 0
    checks = ci_gate.check(report, criteria)
    if is_rank_zero():
        if not options.quiet:
            from novum.evaluation.outputs import show, show_short

            (show_short if options.short else show)(report, options.output)
        ci_gate.write(report, checks, options, stdout)
        ci_gate.say(checks)
    return next((check.exit_code for check in checks if not check.passed), 0)


def _verify(options: argparse.Namespace) -> None:
    from novum.evaluation.verify import verify

    places = {name: getattr(options, name) for name in PLACES}
    found = verify(options.verify, places, quiet=True)
    for line in found.lines:
        print(line)
    if not found.same:
        raise SystemExit(EXIT_REQUIREMENT)


@contextlib.contextmanager
def _aside(options: argparse.Namespace) -> Iterator[TextIO]:
    """Stdout, to which nothing for people goes where a program reads it."""
    stdout = sys.stdout
    if "-" in (str(getattr(options, name)) for name in WRITTEN):
        with contextlib.redirect_stdout(sys.stderr):
            yield stdout
    else:
        yield stdout


if __name__ == "__main__":
    main()
