"""The commands of a character model as a user types them."""

import json
import os
import sys

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from novum.cli.evaluate import main as evaluate
from novum.cli.explore import main as explore
from novum.cli.generate import main as generate
from novum.cli.train import CONFIGS, main
from tests import programs
from tests.project import ROOT
from tests.tiny import states_equal
from tests.tiny_text import small_text

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec.*", "ignore:.*litlogger.*", "ignore:Trying to infer the `batch_size`"
)

SMALL = [
    "--model.init_args.network.init_args.hidden_size=16",
    "--data.init_args.batch_size=4",
    "--data.init_args.chunk_length=20",
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=8",
    "--trainer.val_check_interval=4",
    "--trainer.log_every_n_steps=2",
]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "input.txt"
    path.write_text(small_text(12_000), encoding="utf-8")
    return str(path)


@pytest.fixture
def light(tmp_path):
    """The config without callbacks of its own, which write texts at each evaluation."""
    config = yaml.safe_load((CONFIGS / "char_lstm_shakespeare.yaml").read_text())
    config["trainer"]["callbacks+"] = []
    (tmp_path / "light.yaml").write_text(yaml.safe_dump(config))
    return "light.yaml"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs train.py in an empty folder; returns the printed text."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py"])
        main(list(arguments))
        return capsys.readouterr().out

    return call


@pytest.fixture
def one_line(capsys):
    """Runs a command on a user's mistake; returns the one line on stderr."""

    def call(command, *arguments) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            command(*arguments)
        assert exit_.value.code == 2
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("python ")]
        assert len(lines) == 1
        return lines[0]

    return call


@pytest.mark.slow
def test_from_text_to_texts(run, text, tmp_path, one_line, monkeypatch, capsys):
    out = run("fit", "--config", "char_lstm_shakespeare", "--data.files", text, *SMALL)
    assert "Held-out text costs" in out and "characters seen" in out
    folder = tmp_path / "runs" / "char_lstm_shakespeare" / "version_0"
    assert (folder / "report.html").is_file()
    logged = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()
    for tag in ("loss/nats_per_token", "val/nats_per_char", "val/bits_per_char",
                "health/heldout_gap", "speed/characters_per_second", "units/quote"):  # fmt: skip
        assert logged.Scalars(tag)[-1].step == 8 * 4 * 20, tag  # tokens_seen
    pictures = {"samples/surprisal", "val/loss_by_position", "novelty/boden"}
    assert pictures <= set(logged.Tags()["images"])
    assert "samples/text/text_summary" in logged.Tags()["tensors"]

    best = str(folder / "checkpoints" / "best.ckpt")
    assert "val/nats_per_char" in run("test", "--ckpt_path", best)
    run("predict", "--ckpt_path", best, "--model.init_args.predict_samples=3",
        "--model.init_args.predict_length=40", "--model.init_args.sampling.prime=la")  # fmt: skip
    written = sorted((folder / "samples").glob("*.txt"))
    assert [path.name for path in written] == ["000000.txt", "000001.txt", "000002.txt"]
    assert all(len(path.read_text()) == 42 and path.read_text()[:2] == "la" for path in written)

    short = ("--num-prompts", "6", "--prefixes", "5", "20", "--suffix", "5", "--tries", "2")
    explore(["extract", "--checkpoint", best, "--output", "out", *short])
    assert "of 6 prompts of training text and 6 of held-out text" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "extraction.json").read_text())
    assert [(row["prefix"], row["tries"]) for row in found["rows"]] == [
        (5, 0), (5, 2), (20, 0), (20, 2)
    ]  # fmt: skip
    assert "no checkpoint none.ckpt" in one_line(explore, ["extract", "--checkpoint", "none.ckpt"])
    long = [*short[:2], "--suffix", "50000"]
    line = one_line(explore, ["extract", "--checkpoint", best, *long])
    assert "too short for prompts of 200 and 50000 characters: give shorter ones" in line

    os.rename(text, tmp_path / "again")  # a checkpoint is enough
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    generate(["--checkpoint", best, "--prime", "la", "--length", "30", "--seed", "1"])
    printed = capsys.readouterr().out
    assert printed.startswith("la") and len(printed) == 33
    generate(["--checkpoint", best, "--samples", "2", "--output", str(tmp_path / "texts")])
    assert len(list((tmp_path / "texts").glob("*.txt"))) == 2
    assert capsys.readouterr().out == f"Texts: {tmp_path / 'texts'} (2 of 1,000 characters)\n"
    with pytest.warns(UserWarning, match="never seen 'XYZ' of the prime: read as U"):
        generate(["--checkpoint", best, "--prime", "laXYZ", "--length", "9"])
    assert capsys.readouterr().out.startswith("laXYZ")
    assert "top_p is 3" in one_line(generate, ["--checkpoint", best, "--top-p", "3"])
    generate(["--checkpoint", best, "--length", "9", "--guard", "--train", str(tmp_path / "again")])
    said = capsys.readouterr()
    assert len(said.out) == 10 and said.err.startswith("Guard: none of 1 samples was refused")
    beam = ["--checkpoint", best, "--beam", "2", "--temperature", "0.5"]
    assert "beam is 2 and temperature is 0.5" in one_line(generate, beam)


@pytest.mark.slow
def test_byte_pairs_from_text_to_a_report(run, text, tmp_path, capsys):
    """What is judged is text, whatever its tokens: the report reads it as that of characters."""
    small = [x for x in SMALL if "hidden_size" not in x]
    run("fit", "--config", "char_transformer_shakespeare", "--data.files", text, *small,
        "--data.vocabulary=bpe", "--data.bpe_tokens=300",
        "--model.network.width=16", "--model.network.dropout=0.1")  # fmt: skip
    folder = tmp_path / "runs" / "char_transformer_shakespeare" / "version_0"
    best = str(folder / "checkpoints" / "best.ckpt")
    logged = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()
    for tag in ("val/bits_per_byte", "units/quote", "speed/tokens_per_second"):
        assert logged.Scalars(tag)[-1].step == 8 * 4 * 20, tag
    assert "val/bits_per_byte" in run("test", "--ckpt_path", best)
    explore(["extract", "--checkpoint", best, "--num-prompts", "4", "--prefixes", "30", "--suffix",
             "9", "--tries", "2", "--output", "out"])  # fmt: skip
    assert json.loads((tmp_path / "out" / "extraction.json").read_text())["prompts"]["train"] > 1
    evaluate(["--kind", "text", "--samples", best, "--num-samples", "64", "--output", "judged"])
    generate(["--checkpoint", best, "--samples", "3", "--output", "texts", "--length", "70"])
    assert all(len(path.read_text()) == 70 for path in (tmp_path / "texts").glob("*.txt"))
    capsys.readouterr()
    generate(["--checkpoint", best, "--length", "70", "--guard", "--output", "guarded"])
    assert capsys.readouterr().err.strip().startswith("Guard: none of 1 samples was refused")
    in_training = json.loads((folder / "report.json").read_text())
    after = json.loads((tmp_path / "judged" / "report.json").read_text())
    assert after["samples"]["n"] == in_training["samples"]["n"] == 64 * 1000
    characters = len((tmp_path / "input.txt").read_text())
    assert after["train"]["n"] == int(0.9 * characters)


@pytest.mark.slow
def test_last_goes_on_bit_for_bit(run, text, light, tmp_path):
    """Stopped at an evaluation in the middle of a pass, with the streams' state."""
    common = ["fit", "--config", light, "--data.files", text, *SMALL,
              "--model.init_args.network.init_args.dropout=0.2",
              "--model.init_args.schedule=novum.lightning_modules.schedules.char_rnn_decay",
              ]  # fmt: skip
    run(*common, "--trainer.logger.init_args.name=whole")
    run(*common, "--trainer.max_steps=4")
    run(*common, "--ckpt_path=last")
    whole, resumed = (
        torch.load(tmp_path / "runs" / name / "version_0/checkpoints/last.ckpt", weights_only=True)
        for name in ("whole", "light")
    )
    assert states_equal(whole["state_dict"], resumed["state_dict"])
    assert whole["tokens_seen"] == resumed["tokens_seen"] == 8 * 80
    for a, b in zip(whole["stream_state"], resumed["stream_state"], strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("new", ["unknown", "extend"])
def test_training_goes_on_with_another_text(run, text, light, tmp_path, one_line, monkeypatch, new):
    """Its weights and vocabulary are kept; characters that it has not are one token, or new."""
    common = ["fit", "--config", light, *SMALL, "--trainer.limit_val_batches=0"]
    run(*common, "--data.files", text, "--trainer.logger.init_args.name=first")
    first = str(tmp_path / "runs/first/version_0/checkpoints/last.ckpt")
    other = tmp_path / "other.txt"
    other.write_text(small_text(12_000, seed=1).replace("so", "ŝž").replace("fa", "fž"))
    arguments = [*common, "--data.files", str(other), "--trainer.max_steps=1"]
    assert "--model.transfer" in one_line(run, *arguments, "--ckpt_path", first)
    transfer = f"--model.transfer={first}"
    assert "keep it, with --data.vocabulary_of" in one_line(run, *arguments, transfer)
    kept = [f"--data.vocabulary_of={first}", f"--data.new_characters={new}", "--model.lr=0"]
    with pytest.warns(UserWarning) as said:
        run(*arguments, transfer, *kept, "--trainer.logger.init_args.name=second")
    (line,) = (str(w.message) for w in said if "vocabulary of" in str(w.message))
    counts = other.read_text().count("ŝ"), other.read_text().count("ž")
    assert line.startswith("2 different characters of the text, such as 'žŝ'")
    assert f"({sum(counts):,} of {len(other.read_text()):,})" in line
    assert line.endswith("unknown" if new == "unknown" else "extended")
    one, two = (
        torch.load(tmp_path / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
        for name in ("first", "second")
    )
    added = "žŝ" if new == "extend" else ""
    assert two["alphabet"] == one["alphabet"] + added
    for name, weight in one["state_dict"].items():  # lr is 0
        assert torch.equal(two["state_dict"][name][: len(weight)], weight)
        grown = len(two["state_dict"][name]) - len(weight)
        assert grown == (len(added) if len(weight) == len(one["alphabet"]) else 0)
    os.remove(first)  # which the second does without
    second = str(tmp_path / "runs/second/version_0/checkpoints/last.ckpt")
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    generate(["--checkpoint", second, "--length", "30", "--output", str(tmp_path / "texts")])
    assert len((tmp_path / "texts" / "000000.txt").read_text(encoding="utf-8")) == 30


@pytest.mark.slow
def test_two_ranks_have_streams_of_their_own(text, light, tmp_path):
    """Two ranks of 2 streams train as one rank of 4, and validate to the same figure."""
    runs = {}
    for ranks in (1, 2):
        arguments = ["fit", "--config", light, "--data.files", text, *SMALL,
                     f"--data.init_args.batch_size={4 // ranks}", f"--trainer.devices={ranks}",
                     "--trainer.strategy=ddp", "--trainer.gradient_clip_val=null",
                     f"--trainer.logger.init_args.name=ranks{ranks}"]  # fmt: skip
        env = {"OMP_NUM_THREADS": "1"}
        command = (ROOT / "train.py", *arguments)
        done = programs.run(*command, cwd=tmp_path, env=env, starts=ranks - 1)
        assert done.returncode == 0, done.stderr[-3000:]
        folder = tmp_path / "runs" / f"ranks{ranks}" / "version_0"
        saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        events = EventAccumulator(str(folder)).Reload()
        runs[ranks] = saved, events.Scalars("val/nats_per_char")[-1].value
    (one, loss_of_one), (two, loss_of_two) = runs[1], runs[2]
    assert one["tokens_seen"] == two["tokens_seen"] == 8 * 80
    assert loss_of_two == pytest.approx(loss_of_one, rel=1e-5)
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=1e-3, atol=1e-5)
    for a, b in zip(one["stream_state"], two["stream_state"], strict=True):
        # (ranks, layers, streams, units): the streams of rank 0, then those of rank 1
        torch.testing.assert_close(torch.cat([*b], 1), a[0], rtol=1e-3, atol=1e-5)


class TestMistakes:
    """Each ends in one line that names the thing and the mend, and exit code 2."""

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"", "input.txt is empty"),
            (b"\x7fELF\0\0" * 99, "binary file"),
            ("Stra\u00dfe".encode("latin-1") * 99, "not utf-8 text: byte 0xdf at offset 4"),
            (b"a few words", "the text is too short"),
        ],
        ids=["empty", "binary", "undecodable", "short"],
    )
    def test_bad_text(self, run, text, one_line, content, message):
        with open(text, "wb") as file:
            file.write(content)
        line = one_line(run, "fit", "--config", "char_lstm_shakespeare", "--data.files", text)
        assert message in line

    def test_no_text(self, run, one_line):
        line = one_line(run, "fit", "--config", "char_lstm_shakespeare")
        assert "--data.files" in line
