"""Writes text with a trained model: `python generate.py --checkpoint PATH --prime "def "`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from novum.cli.program import TRUST, Parser, one_line_errors, path
from novum.core.errors import InputError, printable
from novum.core.security.trust import trusting

GUARD = "draw a text again that copies the training text: that of the checkpoint's run"
EPILOG = """\
examples:
  {program} --checkpoint runs/char_lstm_stdlib/version_0/checkpoints/best.ckpt --prime "def "
  {program} --checkpoint best.ckpt --samples 100 --length 2000 --temperature 0.7 --output texts/
  {program} --checkpoint best.ckpt --samples 100 --guard --output texts/
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser("Prints text of a trained character model, or writes it to files.", EPILOG)
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="PATH",
        required=True,
        help="a .ckpt file of a run, or hf://OWNER/NAME of the hub",
    )
    add("--prime", metavar="TEXT", default="", help="what the text goes on with")
    add("--samples", metavar="N", type=int, default=1, help="texts; default 1")
    add("--length", metavar="N", type=int, default=1000, help="characters of each; default 1000")
    add("--temperature", metavar="T", type=float, default=1.0, help="below 1 is more careful")
    add("--top-k", metavar="K", type=int, help="draw from the K likeliest")
    add("--top-p", metavar="P", type=float, help="draw from the likeliest of probability P")
    add("--typical", metavar="P", type=float, help="draw from those of about expected surprisal")
    add("--beam", metavar="N", type=int, help="the likeliest texts found by a search this wide")
    add("--guard", action="store_true", help=GUARD)
    add("--train", metavar="PLACE", help="for --guard, in place of the run's training text")
    add("--heldout", metavar="PLACE", help="for --train: text like it, never trained on")
    add("--trust", action="store_true", help=TRUST)
    add("--seed", metavar="S", type=int, help="the same text again; default: another each time")
    add("--output", metavar="DIR", type=path, help="write 000000.txt, ... there, do not print")
    options = parser.parse_args(arguments)
    for name in ("samples", "length"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: at least 1 is needed")
    if options.seed is not None and not 0 <= options.seed < 2**31:
        parser.error(f"--seed {options.seed}: give a number from 0 to {2**31 - 1}")
    if options.train and not options.guard:
        parser.error("--train is what --guard compares with: give --guard as well")
    if options.heldout and not options.train:
        parser.error("--heldout goes with --train: give the training text as well")
    return options


def shown(text: str) -> str:
    """Text for stdout; control characters are spelt out for a terminal, which would obey them."""
    if not sys.stdout.isatty():
        return text
    return "\t".join(map(printable, text.split("\t")))


def guarded(model: Any, options: argparse.Namespace) -> Any:
    """The model behind a guard that knows the training text."""
    from novum.core.security import arguments_of_run
    from novum.datamodules.text import TextDataModule
    from novum.evaluation.guarded import GuardedTexts, TextGuard
    from novum.evaluation.request import Request
    from novum.evaluation.text_sets import Places, open_references

    known = None if options.train else arguments_of_run(options.checkpoint, TextDataModule)
    if not (options.train or known):
        raise InputError(
            f"{options.checkpoint} has no config of a run of text beside it: give the training text"
            " with --train, and text like it with --heldout"
        )
    asked = Request(
        samples=options.checkpoint, train=options.train, heldout=options.heldout, kind="text"
    )
    places = Places().of_vocabulary(model.vocabulary)
    train, heldout, _ = open_references(asked, known, places)
    return GuardedTexts(model, TextGuard(train, heldout))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    options = parse(arguments)
    with one_line_errors(), trusting(options.trust):
        from novum.core.checkpoints import load_module  # imports torch
        from novum.core.devices import default_device
        from novum.core.files import prepare_output
        from novum.datamodules.sources.hub import local_model

        if options.output:
            prepare_output(options.output)
        options.checkpoint = local_model(options.checkpoint, "--checkpoint")
        model: Any = load_module(options.checkpoint, "sample_text", "text generator")
        model.to(default_device())
        writer = guarded(model, options) if options.guard else model
        texts = writer.sample_text(
            options.samples,
            options.length,
            temperature=options.temperature,
            prime=options.prime,
            seed=options.seed,
            top_k=options.top_k,
            top_p=options.top_p,
            typical=options.typical,
            beam=options.beam,
            bar=True,
        )
        for i, text in enumerate(texts):
            whole = (options.prime + text).encode("utf-8", "replace")
            if options.output:
                (options.output / f"{i:06d}.txt").write_bytes(whole)
            else:
                print(shown(whole.decode()))
        if options.guard:
            from novum.evaluation.guarded import refusals

            print(refusals(writer.drawn, writer.refused), file=sys.stderr)
        if options.output:
            print(f"Texts: {options.output} ({len(texts)} of {options.length:,} characters)")


if __name__ == "__main__":
    main()
