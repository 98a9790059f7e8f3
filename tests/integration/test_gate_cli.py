"""The gate of evaluate.py: short answers, criteria, what programs read, and --verify."""

import json
import re
import sys
from hashlib import blake2b
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from novum.cli.evaluate import main
from novum.datamodules import ImageDataModule

PIXELS = ("--features", "pixels")
PLACES = ("copies", "train", "heldout.npy")


@pytest.fixture(scope="module")
def digits():
    data = ImageDataModule("digits", image_size=8)
    images = torch.cat([data.train_reference()[:], data.heldout_reference()[:]])
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))].numpy()


@pytest.fixture
def sets(digits, tmp_path, monkeypatch):
    """60 fresh samples, 80 with 20 copies, 300 training images in named files, 200 held out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    train = digits[:300, 0]
    copies = np.concatenate([digits[500:560, 0], train[:20]])
    for name, images in {"train": train, "copies": copies, "fresh": digits[500:560, 0]}.items():
        Path(name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(f"{name}/{name}_{i:03d}_secret.png")
    np.save("heldout.npy", digits[300:500])
    return {"train": train, "copies": copies}


def code_of(*arguments: str) -> int:
    try:
        main([*arguments, *PIXELS])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_the_short_answer_fits_a_screen_of_60_columns(sets, capsys):
    assert code_of(*PLACES) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    start = lines.index("Copying found")
    assert (
        lines[start + 1].startswith("25.0% (95%: ")
        and "of 80 samples are copies" in lines[start + 1]
    )
    table = [line.split() for line in lines if line.startswith("  ")]
    assert table[0] == ["samples", "held-out"] and len(table) == 6
    assert all(row[-1] == "pixels" for row in table[1:])
    assert all(len(line) <= 60 for line in lines if line.startswith("  "))
    assert any(line.startswith("Next: ") for line in lines)


def test_a_model_card_of_a_file_or_on_stdout(sets, capsys):
    assert code_of(*PLACES, "--model-card", "cards/README.md") == 0
    text = Path("cards/README.md").read_text()
    assert text.startswith("---\nlibrary_name: novum\n") and "**Copying found.** 25.0%" in text
    capsys.readouterr()
    assert code_of("copies", "train", "--model-card", "-") == 0
    out = capsys.readouterr().out
    assert out.startswith("---\nlibrary_name") and "Nothing was held out" in out
    assert code_of(*PLACES, "--model-card", "-", "--json", "-") == 2
    assert "only one of --json" in capsys.readouterr().err


def test_without_heldout_data_the_short_form_says_what_it_takes(sets, capsys):
    assert code_of("fresh", "train", "--fail-on-copying") == 0  # facts alone decide
    out = capsys.readouterr().out
    assert "Copying was not judged" in out and "--heldout" in out
    assert code_of("copies", "train", "--fail-on-copying") == 3
    assert code_of("fresh", "train", "--fail-on", "copying,cannot_judge") == 4  # was asked for


@pytest.mark.parametrize(
    ("samples", "options", "code"),
    [
        ("copies", (), 0),
        ("copies", ("--fail-on", "copying"), 3),
        ("fresh", ("--fail-on", "copying,cannot_judge"), 0),
        ("fresh", ("--fail-on", "copying,too_little_evidence"), 4),
        ("fresh", ("--require", "precision>=0.7", "--require", "facts<=0"), 0),
        ("copies", ("--require", "facts<1"), 5),
        ("copies", ("--require", "copy_rate<10%", "--require", "precision>50%"), 5),
        ("fresh", ("--require", "precision/pixels>=99.9%"), 5),
        ("fresh", ("--require", "inception_score>2"), 5),  # was not measured
        ("copies", ("--require", "recall>=2", "--fail-on", "copying"), 3),  # the graver
    ],
)
def test_criteria_become_exit_codes(samples, options, code, sets, capsys):
    assert code_of(samples, "train", "heldout.npy", *options) == code
    errors = capsys.readouterr().err.splitlines()
    failed = [line for line in errors if "failed: " in line]
    assert bool(failed) == bool(code)
    if "facts<1" in options:
        assert failed == ["python evaluate.py: --require facts<1: failed: facts is 20 (all spaces)"]


def test_json_has_stdout_to_itself(sets, capsys):
    assert code_of(*PLACES, "--json", "-") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(Path("evaluation/report.json").read_text())
    assert "Copying found" in err


def test_quiet_prints_nothing(sets, capfd):
    assert code_of(*PLACES, "--quiet", "--json", "found/report.json") == 0
    assert capfd.readouterr() == ("", "")
    assert json.loads(Path("found/report.json").read_text())["finding"] == "copying"


def test_markdown_and_junit(sets, capsys):
    options = ("--markdown", "ci/comment.md", "--junit", "ci/junit.xml", "--output", "ci/report")
    code = code_of(*PLACES, *options, "--require", "precision>=0.5", "--fail-on", "copying")
    assert code == 3
    text = Path("ci/comment.md").read_text()
    assert text.startswith("### ❌ Novum: Copying found\n")
    assert "| passed | `--require precision>=0.5` |" in text
    assert "| **failed** | `--fail-on copying` |" in text
    assert "copies&#95;060&#95;secret.png" in text  # a name has no meaning in Markdown
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links.count("report/report.html") == 1 and len(links) == 9
    for place in links:
        assert Path("ci", place).is_file()
    with Image.open("ci/report/thumbnails/1.png") as pair:
        assert pair.width > 1.9 * pair.height
    suite = ElementTree.parse("ci/junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failed = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["--fail-on copying"]


def test_a_redacted_report_names_and_shows_nothing(sets, capsys):
    options = ("--markdown", "comment.md", "--json", "copy.json", "--junit", "j.xml")
    assert code_of(*PLACES, "--redacted", *options, "--output", "closed") == 0
    printed = "".join(capsys.readouterr())
    written = [path for path in Path("closed").rglob("*") if path.is_file()]
    assert {path.suffix for path in written if path.parent == Path("closed")} == {".html", ".json"}
    texts = [
        path.read_bytes()
        for path in [*written, Path("comment.md"), Path("copy.json"), Path("j.xml")]
    ]
    assert not any(b"_secret" in text for text in [*texts, printed.encode()])
    assert not any(b"<img" in text or b"data:image" in text for text in texts)
    report = json.loads(Path("copy.json").read_text())
    assert len(report["facts"]) == 20 and report["made_by"]["redacted"]
    first = blake2b(np.ascontiguousarray(sets["train"][0]), digest_size=8).hexdigest()
    assert report["facts"][0]["train"] == report["facts"][0]["sample"] == first
    assert report["copies"][0].keys() >= {"sample", "train", "q"}


def test_a_redacted_report_stands_beside_no_open_one(sets, capsys):
    assert code_of(*PLACES) == 0
    assert code_of(*PLACES, "--redacted") == 2
    assert "not redacted" in capsys.readouterr().err
    assert code_of(*PLACES, "--redacted", "--output", "closed") == 0
    assert code_of(*PLACES, "--redacted", "--output", "closed") == 0


def test_a_redacted_report_of_texts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("aeioubcdfghlmnprst"), 6)) for _ in range(3000)]
    for name in ("train", "heldout", "samples"):
        Path(f"{name}.txt").write_text(" ".join(rng.choice(words, 3000)))
    secret = Path("train.txt").read_text()[1000:3000]
    with Path("samples.txt").open("a") as file:
        file.write(f" {secret}")
    main(["samples.txt", "train.txt", "heldout.txt", "--kind", "text", "--redacted", "--markdown",
          "comment.md"])  # fmt: skip
    report = json.loads(Path("evaluation/report.json").read_text())
    assert report["finding"] == "copying" and report["facts"][0]["file"].startswith("sha256 ")
    main(["--verify", "evaluation/report.json"])  # 0: as judged
    texts = [p.read_bytes() for p in Path("evaluation").rglob("*") if p.is_file()]
    texts += [Path("comment.md").read_bytes(), "".join(capsys.readouterr()).encode()]
    assert not any(secret[100:160].encode() in text for text in texts)


def test_verify_says_which_input_changed(sets, capsys):
    assert code_of(*PLACES) == 0
    capsys.readouterr()
    main(["--verify", "evaluation/report.json"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "samples: as judged", "train: as judged", "heldout: as judged", "figures: as written",
        "code: the same",
    ]  # fmt: skip
    Path("train/train_299_secret.png").unlink()
    assert verified(capsys) == (5, {"train: changed"})
    Image.fromarray(sets["train"][299]).save("train/train_299_secret.png")
    assert verified(capsys) == (0, set())
    content = json.loads(Path("evaluation/report.json").read_text())
    content["finding"] = "none_found"
    Path("evaluation/report.json").write_text(json.dumps(content))
    assert verified(capsys) == (5, {"figures: changed after they were written"})


def verified(capsys) -> tuple[int, set[str]]:
    """Exit code of --verify, and what it says of changes."""
    code = 0
    try:
        main(["--verify", "evaluation/report.json"])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    lines = capsys.readouterr().out.splitlines()
    return code, {re.sub(r": judged.*", "", line) for line in lines if "changed" in line}


def test_a_function_of_this_folder_makes_samples(sets, monkeypatch, capsys):
    Path("mine_to_judge.py").write_text(
        "import numpy as np\n"
        "def draw(n, seed):\n"
        "    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)\n"
        "def broken(n, seed):\n"
        "    return {}['x']\n"
    )
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert code_of("mine_to_judge:draw", "train", "heldout.npy", "--num-samples", "60") == 0
    report = json.loads(Path("evaluation/report.json").read_text())
    assert report["samples"]["path"] == "mine_to_judge:draw" and report["samples"]["n"] == 60
    assert report["quality_finding"] == "poor"
    capsys.readouterr()
    assert code_of("mine_to_judge:broken", "train") == 2
    assert "KeyError: 'x' (mine_to_judge.py, line 5)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["--verify", "evaluation/report.json"])  # a report is data, and runs nothing
    assert exit_.value.code == 2 and "which would run: --trust" in capsys.readouterr().err
    main(["--verify", "evaluation/report.json", "--trust"])


def test_version(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["novum-evaluate"])
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0 and re.match(r"novum \d+\.\d+", capsys.readouterr().out)
