"""What one's own runs wrote works as before: pictures, configs beside checkpoints, checkpoints."""

import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
import yaml

from novum.cli import evaluate, explore, generate, train
from novum.cli.train import Configs, expand_arguments
from novum.core.checkpoints import load_module
from novum.core.security import trusting
from novum.core.security.configs import parse_config
from novum.core.security.signature import sign
from novum.lightning_modules import GAN
from tests.core.security import attacks
from tests.core.security.attacks import built_by
from tests.fuzz.outcome import ends_well

QUICK = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def train_tiny(*more: str) -> Path:
    """A run of two steps on a folder of images elsewhere; its folder."""
    from PIL import Image

    Path("images").mkdir(exist_ok=True)
    for i in range(40):
        Image.new("L", (8, 8), 6 * i).save(f"images/{i}.png")
    values = attacks.with_data(dataset="folder", path=str(Path("images").absolute()))
    Path("tiny.yaml").write_text(yaml.safe_dump(values))
    train.main(["fit", "--config", "tiny.yaml", *QUICK, "--trainer.val_check_interval=1", *more])
    return Path("runs/tiny/version_0")


def last(run: Path) -> str:
    return str(run / "checkpoints" / "last.ckpt")


def test_an_own_run_is_recognised_by_its_signature(capsys):
    run = train_tiny()
    config = (run / "config.yaml").read_text()
    assert parse_config(config).trusted and "# written here: " in config
    key = Path("config/novum/key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    # its images are elsewhere, and are read all the same
    train.main(["test", "--ckpt_path", last(run), *QUICK])
    evaluate.main(["--samples", last(run), "--num-samples=4", "--features=pixels@8"])
    # changed, it is anybody's
    (run / "config.yaml").write_text(config.replace("batch_size: 64", "batch_size: 32"))
    for work in (
        lambda: train.main(["test", "--ckpt_path", last(run), *QUICK]),
        lambda: evaluate.main(["--samples", last(run), "--num-samples=4"]),
    ):
        assert ends_well("train.py", work) == 2
    # and so it is on another machine
    (run / "config.yaml").write_text(config)
    key.unlink()
    assert not parse_config(config).trusted
    assert ends_well("x.py", lambda: train.main(["test", "--ckpt_path", last(run), *QUICK])) == 2
    train.main(["test", "--ckpt_path", last(run), "--trust", *QUICK])


def test_a_run_that_was_moved_is_tested_in_its_new_place():
    run = train_tiny("--data.init_args.dataset=digits", "--data.init_args.path=null")
    shutil.move(run, "moved")
    Path("config/novum/key").unlink()
    train.main(["test", "--ckpt_path", "moved/checkpoints/last.ckpt", *QUICK])
    assert not Path("runs/tiny/version_1").exists()
    assert list(Path("moved").glob("events*"))


def test_no_home_means_no_signature(monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", "file")
    assert sign("a: 1") == ""
    assert not parse_config("a: 1\n# written here: " + "0" * 64).trusted


def test_a_signature_is_of_the_whole_config():
    text = "a: 1\nb: [x, y]\n"
    signed = text + sign(text)
    assert parse_config(signed).trusted
    assert parse_config("# made by novum\n" + signed).trusted  # a comment says nothing
    for changed in (signed.replace("1", "2"), signed.replace("y]", "y, z]"), "c: 1\n" + signed):
        assert not parse_config(changed).trusted


def test_an_own_picture_is_made_again():
    """From one's own photograph, which is elsewhere."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    Path("photos").mkdir()
    Image.fromarray(load_sample_image("china.jpg")[:48, :64]).save("photos/a.png")
    arguments = ["--model.init_args.steps=1", "--model.init_args.octaves=[0,0]", *QUICK]
    image = f"--data.init_args.image={Path('photos/a.png').absolute()}"
    train.main(["fit", "--config", "deep_dream", image, *arguments])
    (made,) = Path("runs/deep_dream/version_0").glob("*.png")
    Path("given").mkdir()
    shutil.copy(made, "given/x.png")
    train.main(["fit", "--config", "given/x.png"])
    (again,) = Path("runs/deep_dream/version_1").glob("*.png")
    from novum.datamodules.single_image import read_image

    assert torch.equal(read_image(str(made)), read_image(str(again)))
    os.unlink("config/novum/key")  # a stranger's picture reads none of the user's photographs
    assert ends_well("x.py", lambda: train.main(["fit", "--config", "given/x.png"])) == 2


def test_a_recipe_is_repeated_in_the_default_folder():
    values = attacks.with_trainer(logger={"init_args": {"save_dir": "/etc", "name": "../x"}})
    path = attacks.picture(Path("a.png"), values)
    (_, _, place), typed = expand_arguments(["fit", "--config", str(path)])
    assert yaml.safe_load(Path(place).read_text()) == attacks.config()
    assert Path(place).name == "x.yaml" and typed == ["fit", "--config", "a.png"]


def test_pictures_that_carry_nothing_are_named(capsys):
    Path("a.png").write_bytes(b"\x89PNG hello")
    with pytest.raises(SystemExit):
        Configs().resolve("a.png")
    assert "a.png is not a readable picture" in capsys.readouterr().err


def test_what_is_not_on_the_list_is_named_with_the_mend(capsys):
    mine = built_by("mine.Model")
    attacks.run_of(Path("x"), attacks.config(model=mine))
    for arguments in (
        ["fit", "--config", str(attacks.picture(Path("a.png"), attacks.config(model=mine)))],
        ["test", "--ckpt_path", "x/checkpoints/best.ckpt"],
    ):
        with pytest.raises(SystemExit):
            expand_arguments(arguments)
        error = capsys.readouterr().err
        assert "names mine.Model as model, which is not on the list: add --trust" in error
    given = ["test", "--config", "x/config.yaml", "--ckpt_path", "x/checkpoints/best.ckpt"]
    assert expand_arguments(given) == (given, None)


# -- networks of one's own -------------------------------------------------------------------------

OWN = """
from novum.lightning_modules.networks import DCGANGenerator

class Generator(DCGANGenerator):
    pass
"""


@pytest.fixture()
def own_network(monkeypatch, tmp_path) -> Path:
    """A checkpoint whose generator is of the user's own class."""
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_networks.py").write_text(OWN)
    network = built_by("own_networks.Generator", image_size=8, channels=1, latent_dim=4, width=8)
    return attacks.checkpoint(Path("x.ckpt"), generator=network)


def test_trust_builds_networks_of_ones_own(own_network, capsys):
    arguments = ["--samples", "x.ckpt", "--train=digits", "--heldout=digits", "--num-samples=20",
                 "--features=pixels@8"]  # fmt: skip
    with pytest.raises(SystemExit):
        evaluate.main(arguments)
    error = capsys.readouterr().err
    assert "x.ckpt names own_networks.Generator" in error and "--trust if it is yours" in error
    evaluate.main([*arguments, "--trust"])
    for program, more in ((explore, ["mix"]), (generate, [])):
        with pytest.raises(SystemExit):
            program.main([*more, "--checkpoint", "x.ckpt", "--trust"])
        assert "own_networks" not in capsys.readouterr().err  # built; it is just no such model


def test_lightnings_own_call_trusts_no_more(own_network):
    with pytest.raises(ValueError, match="x.ckpt names own_networks.Generator"):
        GAN.load_from_checkpoint("x.ckpt")
    with pytest.raises(ValueError, match="are not taken"):
        GAN.load_from_checkpoint("x.ckpt", weights_only=False)
    with trusting(True):
        assert type(GAN.load_from_checkpoint("x.ckpt").generator).__name__ == "Generator"
    ours = attacks.checkpoint(Path("y.ckpt"))
    given = load_module(ours, "sample").generator
    assert GAN.load_from_checkpoint(own_network, generator=given).generator is given


def test_a_checkpoint_of_plain_arguments_takes_its_networks_from_code(tmp_path):
    """As from a Trainer in a program of one's own, which saves no class paths."""
    contents = torch.load(attacks.checkpoint(Path("x.ckpt")), weights_only=True)
    contents["hyper_parameters"] = {"lr": 0.5, "betas": (0.1, 0.2), "seed": 3}
    torch.save(contents, "x.ckpt")
    whole = load_module(attacks.checkpoint(Path("y.ckpt")), "sample")
    found = GAN.load_from_checkpoint(
        "x.ckpt", generator=whole.generator, discriminator=whole.discriminator
    )
    assert (found.lr, found.betas, found.seed) == (0.5, (0.1, 0.2), 3)
    assert torch.equal(found.sample(2, seed=0), whole.sample(2, seed=0))
