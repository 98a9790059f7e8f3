"""What files of others may ask for."""

import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from novum.paths import RECIPE
from novum.train import expand_arguments
from novum.trust import Untrusted, check, read_config

OURS = {"class_path": "novum.lightning_modules.GAN", "init_args": {"lr": 0.1}}
TIMER = {"class_path": "pytorch_lightning.callbacks.Timer"}
ALLOWED = {"model": OURS, "trainer": {"callbacks": [TIMER]}}
REFUSED = [
    {"model": {"class_path": "mine.Model"}},
    {"model": OURS, "trainer": {"callbacks": [{"class_path": "subprocess.Popen"}]}},
    {"model": {**OURS, "init_args": {"schedule": "os.system"}}},
    {"model": {"class_path": "torch.hub.load"}},
    {"trainer": {"callbacks": [{"class_path": "novum.callbacks.WriteSamples",
                                "init_args": {"folder": "/etc"}}]}},
    {"trainer": {"default_root_dir": "a/../../b"}},
]  # fmt: skip


def test_our_classes_and_plain_values_are_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_config(yaml.safe_dump(ALLOWED)) == ALLOWED
    check({"image": "test.jpg", "act": "torch.nn.ReLU", "path": "data/train"})


@pytest.mark.parametrize("config", REFUSED)
def test_others_are_refused(config):
    with pytest.raises(Untrusted, match="names|writes to"):
        read_config(yaml.safe_dump(config))


def test_a_second_file_is_not_taken_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.yaml").write_text("class_path: os.system")
    with pytest.raises(Untrusted, match="takes in another file, more.yaml"):
        check({"generator": "more.yaml"})


def test_aliases_do_not_unfold_without_end():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(Untrusted, match="too large"):
        read_config("\n".join(lines))
    with pytest.raises(Untrusted):
        read_config("[" * 5000)


def picture(path, config) -> str:
    info = PngInfo()
    info.add_itxt(RECIPE, yaml.safe_dump(config))
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return str(path)


def test_the_recipe_of_a_picture_is_repeated_in_the_default_folder(tmp_path):
    config = {**ALLOWED, "trainer": {"max_steps": 3, "logger": {"init_args": {"save_dir": "/etc"}}}}
    _, _, place = expand_arguments(["fit", "--config", picture(tmp_path / "a.png", config)])
    with open(place) as file:
        assert yaml.safe_load(file) == {"model": OURS, "trainer": {"max_steps": 3}}


@pytest.mark.parametrize("config", REFUSED)
def test_a_picture_is_no_code(tmp_path, capsys, config):
    with pytest.raises(SystemExit) as exit_:
        expand_arguments(
            ["fit", "--config", picture(tmp_path / "a.png", {"model": OURS, **config})]
        )
    assert exit_.value.code == 2
    assert "a.png: its recipe " in capsys.readouterr().err


def test_a_picture_that_is_none_is_told(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"\x89PNG hello")
    with pytest.raises(SystemExit):
        expand_arguments(["fit", "--config", str(tmp_path / "a.png")])
    assert "a.png is not a readable picture" in capsys.readouterr().err


def test_the_config_beside_a_checkpoint_is_no_code(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(REFUSED[0]))
    checkpoint = str(tmp_path / "checkpoints" / "best.ckpt")
    with pytest.raises(SystemExit) as exit_:
        expand_arguments(["test", "--ckpt_path", checkpoint])
    assert exit_.value.code == 2
    assert "beside the checkpoint, names mine.Model" in capsys.readouterr().err
    given = ["test", "--config", str(tmp_path / "config.yaml"), "--ckpt_path", checkpoint]
    assert expand_arguments(given) == given
