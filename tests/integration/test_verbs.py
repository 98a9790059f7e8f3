"""Every verb, on a checkpoint of every technique: it works, or says why not."""

import csv
import json
import sys

import pytest
import torch
import yaml
from PIL import Image

from novum.cli import evaluate, explore, generate
from novum.cli.train import CONFIGS, main
from novum.lightning_modules import Classifier
from tests.integration.test_device import all_run
from tests.tiny_text import small_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*treespec.*", "ignore:.*litlogger.*", "ignore:Trying to infer the `batch_size`"
    ),
]

DIGITS = ["--data.dataset=digits", "--data.image_size=8", "--data.batch_size=16"]
ONE_IMAGE = "predict writes the image that the checkpoint holds"
NO_STYLES, NO_TEXT = "explore.py needs a generator with styles", "is not a text generator"
SMALL = {  # config -> what makes it small
    "dcgan_digits": DIGITS,
    "stylegan_cifar10": [
        *DIGITS,
        "--model.generator.init_args.max_width=16",
        "--model.discriminator.init_args.max_width=16",
    ],
    "classifier_fashion_mnist": [*DIGITS, "--model.network.init_args.width=4"],
    "flow_digits": [
        *DIGITS,
        "--model.network.init_args.width=8",
        "--model.likelihood_images=4",
    ],
    "char_lstm_shakespeare": [
        "--data.files=text.txt",
        "--data.chunk_length=10",
        "--model.network.init_args.hidden_size=16",
        "--model.predict_length=20",
    ],
    "char_transformer_shakespeare": [
        "--data.files=text.txt",
        "--data.chunk_length=10",
        "--model.network.init_args.width=16",
        "--model.predict_length=20",
    ],
    "deep_dream": ["--data.size=64", "--model.octaves=[0,0]"],
    "class_visualisation": ["--model.per_class=1", "--model.size=32", "--model.view_size=32"],
    "style_transfer": ["--data.size=64", "--model.min_scale=64"],
    "adversarial": ["--data.size=64"],
}


@pytest.fixture(scope="module", params=SMALL)
def run_of(request, tmp_path_factory):
    """Name, folder and checkpoint of a run of one step."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["trainer"]["callbacks+"] = []
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    (folder / "text.txt").write_text(small_text(3000), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))  # of the key that signs configs
        main(["fit", "--config", "small.yaml", *SMALL[name], "--trainer.accelerator=cpu",
              "--trainer.max_steps=1", "--trainer.val_check_interval=1",
              "--trainer.limit_val_batches=1", "--trainer.precision=32-true"])  # fmt: skip
    return name, folder, next(folder.glob("runs/**/last.ckpt"))


SAMPLES, LABELS, NOTHING = "Samples: ", "Labels: ", "measured nothing"
NO_IMAGES = "is not a generator checkpoint"
OF_REAL = "val/discriminator_loss"
NO_NEW = "--samples needs a generator that makes new images"
FOUND = "Report: "
TABLE = {  # technique -> what train.py's three, generate.py, explore.py and evaluate.py print
    "dcgan_digits": (OF_REAL, OF_REAL, SAMPLES, NO_TEXT, NO_STYLES, FOUND),
    "stylegan_cifar10": (OF_REAL, OF_REAL, SAMPLES, NO_TEXT, "style_mixing.png", FOUND),
    "classifier_fashion_mnist": (
        "val/accuracy",
        "val/accuracy",
        LABELS,
        NO_TEXT,
        NO_IMAGES,
        NO_IMAGES,
    ),
    "flow_digits": ("val/bits_per_dim", "val/train_loss", SAMPLES, NO_TEXT, NO_STYLES, FOUND),
    "char_lstm_shakespeare": ("val/nats", "val/nats", SAMPLES, "Texts: out", NO_IMAGES, FOUND),
    "char_transformer_shakespeare": (
        "val/nats",
        "val/nats",
        SAMPLES,
        "Texts: out",
        NO_IMAGES,
        FOUND,
    ),
    "deep_dream": (NOTHING, NOTHING, ONE_IMAGE, NO_TEXT, NO_STYLES, NO_NEW),
    "class_visualisation": (NOTHING, NOTHING, ONE_IMAGE, NO_TEXT, NO_STYLES, NO_NEW),
    "style_transfer": (NOTHING, NOTHING, ONE_IMAGE, NO_TEXT, NO_STYLES, NO_NEW),
    "adversarial": (NOTHING, NOTHING, ONE_IMAGE, NO_TEXT, NO_STYLES, NO_NEW),
}
OF_TRAIN = ("validate", "test", "predict")
VERBS = (*OF_TRAIN, "generate", "explore", "evaluate")
OF_IMAGES = ["--num-samples", "40", "--features", "pixels"]


@pytest.mark.parametrize("verb", VERBS)
def test_works_or_says_why_not(run_of, verb, monkeypatch, capsys):
    name, folder, checkpoint = run_of
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    capsys.readouterr()
    given = str(checkpoint)
    try:
        if verb in OF_TRAIN:
            main([verb, "--ckpt_path", given, "--trainer.accelerator=cpu"])
        elif verb == "generate":
            generate.main(["--checkpoint", given, "--output", "out", "--length", "20"])
        elif verb == "explore":
            explore.main(["mix", "--checkpoint", given, "--output", "out", "--rows", "2"])
        else:
            kind = ["--kind", "text", "--num-samples", "2"] if name in OF_TEXT else OF_IMAGES
            evaluate.main(["--samples", given, "--output", "judged", *kind])
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    says = TABLE[name][VERBS.index(verb)]
    if code:
        mistakes = [x for x in err.splitlines() if x.startswith("python ") or ": error: " in x]
        assert code == 2 and len(mistakes) == 1 and says and says in mistakes[0], err
    else:
        assert says in out, out
        assert says not in (NO_TEXT, NO_STYLES, NO_IMAGES, NO_NEW)


def test_samples_of_the_other_kind(run_of, monkeypatch, capsys):
    name, folder, checkpoint = run_of
    if name not in (*OF_TEXT, *WITH_LATENTS):
        pytest.skip("of generators of new items alone")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as exit_:
        kind = "image" if name in OF_TEXT else "text"
        evaluate.main(["--samples", str(checkpoint), "--output", "judged", "--kind", kind])
    says = "give --kind text" if name in OF_TEXT else "leave out --kind text"
    assert exit_.value.code == 2 and says in capsys.readouterr().err.strip().splitlines()[-1]


def test_labels_of_a_folder(run_of, monkeypatch, capsys):
    """A classifier names images of any size and kind, held-out ones if none are given."""
    name, folder, checkpoint = run_of
    if name != "classifier_fashion_mnist":
        pytest.skip("of classifiers alone")
    monkeypatch.chdir(folder)
    (folder / "asked").mkdir(exist_ok=True)
    for i, size in enumerate((20, 30, 40)):
        Image.new("RGB", (size, size), (80 * i, 0, 0)).save(folder / "asked" / f"a,{i}.png")
    main(["predict", "--ckpt_path", str(checkpoint), "--trainer.accelerator=cpu",
          "--data.predict_path=asked"])  # fmt: skip
    assert "Labels: " in capsys.readouterr().out
    with (checkpoint.parents[1] / "samples" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a,0.png", "a,1.png", "a,2.png"]
    model = Classifier.load_from_checkpoint(checkpoint)
    sides = (20, 30, 40)
    for i, (row, side) in enumerate(zip(rows, sides, strict=True)):
        image = torch.tensor([80 * i, 0, 0]).byte()[None, :, None, None].expand(1, 3, side, side)
        sure, found = model.classify(image).max(1)
        assert row["class"] == model.class_names[int(found)]
        assert float(row["probability"]) == pytest.approx(float(sure), abs=0.02)


WITH_STYLES = ("stylegan_cifar10",)
WITH_LATENTS = ("dcgan_digits", "stylegan_cifar10", "flow_digits")
OF_TEXT = ("char_lstm_shakespeare", "char_transformer_shakespeare")
EXPLORED = {  # command of explore.py -> what it writes, for whom, and what it says to the others
    "mix": ("style_mixing.png", WITH_STYLES, NO_STYLES),
    "truncate": ("truncation.png", WITH_STYLES, NO_STYLES),
    "walk": ("walk.gif", WITH_STYLES, NO_STYLES),
    "directions": ("directions.png", WITH_STYLES, NO_STYLES),
    "project": ("projections.png", WITH_STYLES, NO_STYLES),
    "measure": ("measures.json", WITH_STYLES, NO_STYLES),
    "extract": (
        "extraction.json",
        (*WITH_LATENTS, *OF_TEXT),
        "explore.py extract needs a generator that makes new images",
    ),
    "export": (".onnx", (*WITH_LATENTS, "char_lstm_shakespeare"), " holds a "),
    "interpolate": (
        "interpolation.gif",
        WITH_LATENTS,
        "explore.py interpolate needs a generator with latents",
    ),
    "inpaint": (
        "inpainting.png",
        ("flow_digits",),
        "explore.py inpaint needs a generator that changes images",
    ),
    "vary": (
        "variations.png",
        ("flow_digits",),
        "explore.py vary needs a generator that changes images",
    ),
}


QUICK = {  # command -> what makes it quick
    "project": ["--num-images", "2", "--steps", "2"],
    "measure": ["--num-paths", "8"],
    "extract": ["--num-samples", "300"],
}
QUICK_TEXT = ["--num-prompts", "2", "--prefixes", "5", "--suffix", "5", "--tries", "1"]


def test_every_command_is_in_the_table():
    assert set(EXPLORED) == set(explore.COMMANDS)


@pytest.mark.parametrize("command", EXPLORED)
def test_explores_or_says_why_not(run_of, command, monkeypatch, capsys):
    name, folder, checkpoint = run_of
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    capsys.readouterr()
    picture, able, says = EXPLORED[command]
    arguments = [command, "--checkpoint", str(checkpoint), "--output", f"out_{command}"]
    arguments += ["--rows", "2"] if command in explore.HEEDED["rows"] else []
    arguments += QUICK_TEXT if command == "extract" and name in OF_TEXT else QUICK.get(command, [])
    if name in able:
        explore.main(arguments)
        assert picture in capsys.readouterr().out
        (written,) = (folder / f"out_{command}").glob(f"*{picture}")
        if picture == ".onnx":
            assert written.stat().st_size > 1000
            return
        if picture.endswith(".json"):
            assert json.loads(written.read_text())
            return
        with Image.open(written) as image:
            assert image.width > 64
        return
    with pytest.raises(SystemExit) as exit_:
        explore.main(arguments)
    err = capsys.readouterr().err.strip().splitlines()
    assert exit_.value.code == 2 and len(err) == 1
    no_images = name.startswith(("classifier", "char")) and command != "export"
    assert (NO_IMAGES if no_images else says) in err[0]


def test_options_that_would_change_nothing_are_refused(run_of, monkeypatch, capsys):
    name, folder, checkpoint = run_of
    monkeypatch.chdir(folder)
    values = {"space": "w", "format": "torch", "follow_links": None}
    for option, commands in explore.HEEDED.items():
        flag = "--class" if option == "label" else f"--{option.replace('_', '-')}"
        given = [flag, *([values.get(option, "7")] if option != "follow_links" else [])]
        for command in set(explore.COMMANDS) - set(commands):
            with pytest.raises(SystemExit) as exit_:
                explore.main([command, "--checkpoint", str(checkpoint), *given])
            err = capsys.readouterr().err.strip().splitlines()
            assert exit_.value.code == 2 and len(err) == 1
            assert f"{flag} is not for {command}: leave it out" in err[0]
    if name not in (*OF_TEXT, *WITH_LATENTS):
        return
    flag, kind = ("--num-samples", "images") if name in OF_TEXT else ("--tries", "text")
    with pytest.raises(SystemExit) as exit_:
        explore.main(["extract", "--checkpoint", str(checkpoint), flag, "7"])
    err = capsys.readouterr().err
    assert exit_.value.code == 2 and f"{flag} is of generators of {kind}: leave it out" in err


def test_what_images_are_changed_and_where(run_of, monkeypatch, capsys):
    """Given images, a class and a mask; each mistake in one line."""
    name, folder, checkpoint = run_of
    if name != "flow_digits":
        pytest.skip("of flow matching alone")
    monkeypatch.chdir(folder)
    (folder / "given").mkdir(exist_ok=True)
    Image.new("L", (30, 30), 200).save(folder / "given" / "a.png")
    for picture, colour in (("white.png", 255), ("black.png", 0)):
        Image.new("L", (8, 8), colour).save(folder / picture)
    common = ["--checkpoint", str(checkpoint), "--output", "given_out", "--images", "given"]
    made = []
    for more in ([], ["--class", "3"], ["--mask", "white.png"]):
        explore.main(["inpaint", *common, *more])
        made.append((folder / "given_out" / "inpainting.png").read_bytes())
    assert made[2] not in made[:2]
    for command, more, says in (
        ("vary", ["--class", "10"], "has classes 0 to 9"),
        ("inpaint", ["--mask", "black.png"], "is white nowhere"),
        ("inpaint", ["--mask", "none.png"], "No such file or directory: 'none.png'; give an image"),
        ("inpaint", ["--mask", "small.yaml"], "small.yaml: cannot identify"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            explore.main([command, *common, *more])
        err = capsys.readouterr().err.strip().splitlines()
        assert exit_.value.code == 2 and len(err) == 1 and says in err[0]


def test_texts_on_another_device_are_those_of_the_cpu(run_of, monkeypatch, tmp_path):
    """Chance comes from the host, so that a seed means the same text."""
    name, folder, checkpoint = run_of
    if name not in OF_TEXT:
        pytest.skip("of text alone")
    monkeypatch.chdir(folder)
    given = ["--checkpoint", str(checkpoint)]
    seeded = ["--length", "20", "--samples", "2", "--seed", "1", "--output"]
    generate.main([*given, *seeded, "on_cpu"])
    sides = ["--train", "text.txt", "--heldout", "text.txt", "--output", "on_device_too"]
    commands = {
        "generate": ["generate", *given, *seeded, "on_device"],
        "extract": ["explore", "extract", *given, *sides, *QUICK_TEXT],
    }
    all_run({name: [str(folder), *command] for name, command in commands.items()}, tmp_path)
    for text in ("000000.txt", "000001.txt"):
        assert (folder / "on_device" / text).read_bytes() == (folder / "on_cpu" / text).read_bytes()
