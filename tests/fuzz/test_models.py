"""Checkpoints of anybody, damaged or astray: a model, or one line."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from novum.cli import explore, generate
from novum.cli.program import one_line_errors
from novum.core.checkpoints import load_module
from novum.core.pretrained import load_weights
from novum.lightning_modules.weight_transfer import read_weights
from tests.fuzz import strategies as hostile
from tests.fuzz.outcome import empty_folder, ends_well, examples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def try_all() -> None:
    """Every way in which the file x.ckpt is read."""

    def run(work) -> None:
        with one_line_errors():
            work()

    for work in (
        lambda: load_module(Path("x.ckpt"), "sample").sample(2, seed=0),
        lambda: read_weights("x.ckpt"),
        lambda: load_weights(Path("x.ckpt")),
    ):
        ends_well("evaluate.py", lambda work=work: run(work))


@pytest.mark.parametrize(("kind", "method"), [("images", "sample"), ("text", "sample_text")])
def test_whole_checkpoints_are_read(kind, method):
    with empty_folder():
        Path("x.ckpt").write_bytes(hostile.checkpoint_bytes(kind))
        assert load_module(Path("x.ckpt"), method)


@examples(40)
@given(st.data())
def test_damaged_checkpoints(data):
    with empty_folder():
        Path("x.ckpt").write_bytes(data.draw(hostile.damaged(hostile.checkpoint_bytes("images"))))
        try_all()


@examples(30)
@given(st.data())
def test_checkpoints_astray(data):
    whole = torch.load(io.BytesIO(hostile.checkpoint_bytes("images")), weights_only=True)
    parts = {k: v for k, v in whole.items() if k != "state_dict"}
    found = data.draw(hostile.astray(parts))
    with empty_folder():
        torch.save({"state_dict": whole["state_dict"], **found}, "x.ckpt")
        try_all()


numbers = st.sampled_from(("0", "1", "-1", "3", "nan", "inf", "1e9", "", "x", str(2**70), "0.5"))
texts = st.text(st.characters(exclude_characters="\0"), max_size=6)


@examples(40)
@given(
    st.dictionaries(
        st.sampled_from(("--seed", "--temperature", "--top-k", "--top-p", "--typical", "--beam")),
        numbers,
    ),
    texts,
    st.sampled_from(([], ["--output", "x.ckpt"], ["--output", "out"])),
)
def test_arguments_of_generate(options, prime, output):
    with empty_folder():
        Path("x.ckpt").write_bytes(hostile.checkpoint_bytes("text"))
        given_ = [f"{name}={value}" for name, value in options.items()]
        arguments = ["--checkpoint", "x.ckpt", "--length", "5", f"--prime={prime}", *output]
        code = ends_well("generate.py", lambda: generate.main([*arguments, *given_]))
        assert code == 0 or options or "x.ckpt" in output or set(prime) - set("abc ")


@examples(20)
@given(
    st.sampled_from(("mix", "truncate", "measure", "x")),
    st.dictionaries(st.sampled_from(("--seed", "--psi", "--steps", "--space")), numbers),
    st.sampled_from(("images", "text")),
)
def test_arguments_of_explore(command, options, kind):
    with empty_folder():
        Path("x.ckpt").write_bytes(hostile.checkpoint_bytes(kind))
        given_ = [f"{name}={value}" for name, value in options.items()]
        code = ends_well(
            "explore.py", lambda: explore.main([command, "--checkpoint", "x.ckpt", *given_])
        )
        assert code == 2  # neither is a StyleGAN
