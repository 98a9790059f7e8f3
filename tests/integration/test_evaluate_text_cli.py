"""evaluate.py --kind text as a user types it."""

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from novum.cli.evaluate import main
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation import text_audit
from tests.metrics.novelty.text.markov import chain, plant
from tests.report.pages import check_against_verdict, read


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Text files: training, held-out, fresh samples, and samples with 40 planted copies."""
    monkeypatch.chdir(tmp_path)
    train, heldout, fresh = (chain(n, seed) for seed, n in enumerate((60_000, 30_000, 20_000)))
    planted = plant(fresh, train, [80] * 39 + [700], seed=3, around="<&>")
    named = {"train": train, "heldout": heldout, "fresh": fresh, "copies": planted.text}
    for name, text in named.items():
        Path(f"{name}.txt").write_text(text, encoding="utf-8")
    return planted


def evaluate(*arguments: str, train: str = "train.txt", heldout: str = "heldout.txt"):
    main(["--kind", "text", "--train", train, "--heldout", heldout, *arguments])
    report = json.loads(Path("evaluation/report.json").read_text())
    check_against_verdict(Path("evaluation/report.html").read_text(encoding="utf-8"), report)
    return report


@pytest.fixture
def fails(monkeypatch, capsys):
    """Runs evaluate.py on a user's mistake; returns the one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])

    def call(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            evaluate(*arguments)
        assert exit_.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("python evaluate.py: ")
        return lines[0]

    return call


def test_fresh_text_is_not_called_a_copy(texts, capsys):
    report = evaluate("--samples", "fresh.txt", "--fail-on-copying")
    assert report["verdict"].startswith("No copying found: no passage stands in the training")
    assert report["copies"] == []
    out = capsys.readouterr().out
    assert " ".join(report["verdict"].split()) in " ".join(out.split())
    assert "held-out text" in out and "images" not in out


def test_heldout_text_that_is_training_text_allows_no_judgement(texts):
    Path("copy.txt").write_text(Path("train.txt").read_text())
    Path("recited.txt").write_text(Path("train.txt").read_text()[5000:9000])
    with pytest.raises(SystemExit) as exit_:
        evaluate("--samples", "recited.txt", "--fail-on-copying", heldout="copy.txt")
    assert exit_.value.code == 4
    report = json.loads(Path("evaluation/report.json").read_text())
    assert report["verdict"].startswith("Copying was not judged: most of the held-out text stands")


def test_planted_copies_are_found_with_their_offsets(texts):
    with pytest.raises(SystemExit) as exit_:
        evaluate("--samples", "copies.txt", "--fail-on-copying")
    assert exit_.value.code == 3
    report = evaluate("--samples", "copies.txt")  # code 0: judged
    assert report["verdict"].startswith("Copying found: 1 passage (1 word for word; the longest")
    assert "more 39 passages (39 word for word" in report["verdict"]
    found = {(c["sample"], c["length"], c["train"]) for c in report["copies"]}
    assert found == set(texts.copies)
    assert all(c["q"] <= 0.1 for c in report["copies"])
    assert {(f["sample"], f["length"], f["train"]) for f in report["facts"]} < found
    assert all(f["kind"] == "passage" and f["measure"] > 30 for f in report["facts"])
    assert {p["edit"]: p["recall"] for p in report["power"]}["in capitals"] == 1
    first = report["copies"][0]
    assert first["length"] == 700 and first["q"] <= 0.1 and first["file"] == "train.txt"
    assert first["file_offset"] == first["train"] and first["text_offset"] == first["sample"]
    assert any("not in the training text, such as '<&>'" in note for note in report["notes"])


def test_heldout_text_of_another_kind_is_doubted(texts):
    report = evaluate("--samples", "fresh.txt")
    assert report["heldout"]["exchangeability_p"] > 0.01
    assert "differs in kind" not in report["verdict"]
    Path("other.txt").write_text(chain(30_000, seed=5, world=1), encoding="utf-8")
    report = evaluate("--samples", "fresh.txt", heldout="other.txt")
    assert report["heldout"]["exchangeability_p"] <= 0.01
    assert "Held-out text differs in kind from training text, so" in report["verdict"]
    assert "banner doubtful" in Path("evaluation/report.html").read_text(encoding="utf-8")


def test_all_of_it_is_written(texts):
    report = evaluate("--samples", "copies.txt")
    assert report["schema"] == 2 and report["kind"] == "text"
    assert list(report["features"]) == ["verbatim", "folded"]
    novelty = report["features"]["folded"]["novelty"]
    assert {"copy_rate", "copies_flagged", "permutation_p", "excess_p"} <= set(novelty)
    assert report["text_evidence"]["fact_bits"] >= report["text_evidence"]["named_bits"] > 20
    assert len(report["novel_ngrams"]["samples"]) == len(report["novel_ngrams"]["heldout"]) == 50
    assert report["samples"]["n"] == len(texts.text)
    page = read(Path("evaluation/report.html").read_text(encoding="utf-8"))
    assert page.sections[0].startswith("Copying found")
    assert "Passages beside their sources" in page.sections and "New n-grams" in page.sections
    start, length, _ = texts.copies[0]
    assert texts.text[start : start + length] in page.text and "<&>" in page.text
    events = EventAccumulator("evaluation/tensorboard")
    events.Reload()
    assert "novelty/drawn_to_training/folded" in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["novelty/boden", "novelty/copies"]
    tables = events.Tensors("novelty/copies/text_summary")[0].tensor_proto.string_val[0].decode()
    assert tables.count("| sample 0 | training text |") == 10
    assert tables.count(" of train&#46;txt") == 10


def test_a_folder_of_samples_and_one_place_for_both_references(texts):
    folder = Path("samples")
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.txt").write_text(chain(2000, 50 + i))
    report = evaluate("--samples", "samples", train="train.txt", heldout="train.txt")
    assert report["samples"]["texts"] == 3 and report["samples"]["n"] == 6000
    assert (report["train"]["n"], report["heldout"]["n"]) == (54_000, 6000)


def test_without_heldout_text_facts_alone_decide(texts):
    report = evaluate("--samples", "copies.txt", heldout="none")
    assert report["finding"] == "copying" and report["heldout"] is None
    assert len(report["copies"]) == 40 and "power" not in report
    report = evaluate("--samples", "fresh.txt", heldout="none")
    assert report["verdict"].startswith("Copying was not judged")
    assert "unjudged" in Path("evaluation/report.html").read_text(encoding="utf-8")


def test_the_index_is_kept_and_found_again(texts, monkeypatch):
    first = evaluate("--samples", "copies.txt")

    def never(*_):
        raise AssertionError("the index was built again")

    monkeypatch.setattr("novum.metrics.novelty.text.references.write_index", never)
    again = evaluate("--samples", "copies.txt")
    assert first["copies"] == again["copies"] and first["features"] == again["features"]


def test_a_damaged_index_is_built_again(texts, tmp_path):
    first = evaluate("--samples", "copies.txt")
    kept = list((tmp_path / "cache" / "text_indices").glob("*/order.*"))
    assert len(kept) == 1
    for path in kept:
        path.write_bytes(path.read_bytes()[:-100])
    assert evaluate("--samples", "copies.txt")["copies"] == first["copies"]


def test_two_reports_are_compared(texts, capsys):
    for name in ("fresh", "copies"):
        arguments = ["--samples", f"{name}.txt", "--output", name, "--train", "train.txt"]
        main(["--kind", "text", "--heldout", "heldout.txt", *arguments])
    capsys.readouterr()
    main(["--compare", "fresh/report.json", "copies/report.json"])
    assert "copied_share" in capsys.readouterr().out
    page = read(Path("evaluation/compare.html").read_text(encoding="utf-8"))
    assert "Copied share" in page.text and "images" not in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--samples", "nowhere.txt"),
            "no file matches nowhere.txt: give a file, a folder",
        ),
        (("--samples", "empty.txt"), "empty.txt is empty: give a text"),
        (("--samples", "signs.txt"), "no letter or digit among them"),
        (("--samples", "short.txt"), "short.txt holds 5 characters: at least 50 are needed"),
        (("--samples", "fresh.txt", "--train", "short.txt"), "short.txt holds 5 characters"),
        (("--samples", "fresh.txt", "--heldout", "short.txt"), "short.txt holds 5 characters"),
        (("--samples", "binary.txt"), "binary.txt is a binary file"),
        (("--samples", "latin.txt"), "latin.txt is not utf-8 text: byte 0xe9 at offset 60"),
        (("--samples", "fresh.txt", "--train", "binary.txt"), "binary.txt is a binary file"),
        (("--samples", "fresh.txt", "--train", "empty.txt"), "empty.txt is empty"),
        (("--samples", "fresh.txt", "--heldout", "latin.txt"), "latin.txt is not utf-8 text"),
        (("--samples", "fresh.txt", "--features", "pixels"), "--features are of images"),
        (("--samples", "none.ckpt"), "there is no checkpoint none.ckpt"),
    ],
)
def test_bad_input_ends_in_one_line(texts, fails, arguments, message):
    Path("empty.txt").touch()
    Path("short.txt").write_text("short")
    Path("signs.txt").write_text("... --- !!!\n" * 20)
    Path("binary.txt").write_bytes(b"text\0" * 100)
    Path("latin.txt").write_bytes(b"a" * 60 + "é".encode("latin-1") + b"b" * 60)
    line = fails(*arguments)
    assert message in line
    if "binary" in line or "utf-8" in line:
        assert line.endswith("evaluate.py: --on-bad-text skip)")


def test_equal_documents_are_told_whatever_the_block(monkeypatch):
    texts = ["a\r\n\r\nb  c\r\n", "\n a\n\nb  c", "a\n\nb c", " \n", ""]
    found = {}
    for block in (1, 2, 3, 1 << 22):
        monkeypatch.setattr(text_audit, "BLOCK", block)
        sources = [TextSource.of(text or "x") for text in texts[:4]]
        spans = [(text_audit._blocks(x, 0, len(x))) for x in sources]
        found[block] = text_audit._digests([*spans, [""]]).tolist()
    assert len(set(map(tuple, found.values()))) == 1
    first, second, third, *empty = found[1]
    assert first == second != third and empty == [0, 0]


def test_the_sets_are_audited_before_any_figure(texts, capsys):
    for name, count in (("train", 60), ("heldout", 30), ("own", 20)):
        Path(name).mkdir()
        whole = Path(f"{name}.txt" if name != "own" else "fresh.txt").read_text()
        for i in range(count):
            Path(name, f"{i:02d}.txt").write_text(whole[i * 1000 : (i + 1) * 1000])
    Path("own/.DS_Store").write_bytes(b"\0")
    Path("own/old.txt").write_bytes("caf\xe9".encode("latin-1"))
    for name in ("own/98.txt", "heldout/98.txt"):
        Path(name).write_bytes(Path("train/07.txt").read_bytes().replace(b"\n", b"\r\n") + b"\n")
    Path("own/99.txt").write_bytes(Path("own/03.txt").read_bytes())
    report = evaluate("--samples", "own", "--on-bad-text", "skip", train="train", heldout="heldout")
    lines = capsys.readouterr().out.splitlines()[:5]
    assert lines[0].startswith("samples: 22 documents, 22,")
    assert lines[0].endswith(
        "from own; left out 2: 1 hidden files, 1 not utf-8 text; 1 equal an earlier one"
    )
    assert lines[1] == "train: 60 documents, 60,000 characters, from train"
    assert lines[3:5] == [
        "overlap: 1 of 31 held-out documents equal a training document",
        "overlap: 1 of 22 samples equal a training document",
    ]
    audit = report["audit"]
    assert audit["samples"]["left_out"] == {"hidden files": 1, "not utf-8 text": 1}
    assert audit["samples"]["read"] == audit["samples"]["files"] == 22
    assert audit["samples"]["duplicates"] == 1 and audit["train"]["characters"] == 60_000
    assert audit["overlap"] == {"train_heldout": 1, "train_samples": 1, "heldout_samples": 1}
    assert "Samples: left out 1: 1 not utf-8 text (old.txt)." in report["notes"]
    page = read(Path("evaluation/report.html").read_text(encoding="utf-8"))
    assert "What was read" in page.sections and "1 training documents" in page.text
    assert "Images" not in page.text and "60,000 characters" in page.text


def test_heldout_documents_that_stand_in_training_are_named(texts, capsys):
    train = Path("train.txt").read_text()
    folder = Path("benchmark")
    folder.mkdir()
    documents = {
        "exact.txt": train[5000:8000],
        "wrapped.txt": " ".join(train[20_000:23_000].upper().split()),
        "partly.txt": train[30_000:31_000] + chain(2000, seed=40),
        "fresh.txt": chain(3000, seed=41),
        "short.txt": "a word",
    }
    for name, text in documents.items():
        (folder / name).write_text(text)
    main(["--kind", "text", "--contamination", "--train", "train.txt", "--heldout", "benchmark"])
    report = json.loads(Path("evaluation/report.json").read_text())
    found = {c["document"]: c["how"] for c in report["contamination"]}
    assert found == {"exact.txt": "exactly", "wrapped.txt": "nearly", "partly.txt": "partly"}
    assert report["verdict"].startswith(
        "Held-out text stands in training text: 3 of 5 documents: 1 exactly, 1 nearly, 1 partly."
        " 1 of them with fewer than 50 characters: too few to tell."
    )
    page = read(Path("evaluation/report.html").read_text(encoding="utf-8"))
    assert "Documents that stand in training text" in page.sections
    assert "wrapped.txt: " in capsys.readouterr().out
