"""Models and data sets of the hub, by a small server that answers as the hub does."""

import hashlib
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants

from novum.cli import explore, generate
from novum.core.hub_places import dataset_name
from novum.datamodules.sources.hub import choose_file, fetch_model
from tests.tiny import tiny_gan
from tests.tiny_text import text_data, tiny_char_lstm

SHA = "ab" * 20


class Hub(BaseHTTPRequestHandler):
    """Answers for one repository, owner/gan."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.asked.append(self.path)
        head, content = {}, b'{"error": "Repository not found"}'
        found = True
        if self.path.startswith(f"/api/models/owner/gan/tree/{SHA}"):
            listed = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                }
                for name, data in self.files.items()
            ]
            content = json.dumps(listed).encode()
        elif self.path.startswith("/api/models/owner/gan"):
            names = [{"rfilename": name} for name in self.files]
            content = json.dumps({"id": "owner/gan", "sha": SHA, "siblings": names}).encode()
        elif self.path.startswith(f"/owner/gan/resolve/{SHA}/"):
            content = self.files[self.path.split(f"{SHA}/")[1]]
            head = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA}
        else:
            found = False
            head = {"X-Error-Code": "RepoNotFound"}
        self.send_response(200 if found else 404)
        for name, value in (head | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    Hub.asked, Hub.files = [], {
        "runs/gan/checkpoints/best.ckpt": b"weights",
        "runs/gan/checkpoints/last.ckpt": b"other",
        "runs/gan/config.yaml": b"model: {}",
        "README.md": b"card",
    }  # fmt: skip
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_checkpoint_comes_with_the_config_of_its_run_and_nothing_else(hub):
    path = fetch_model("hf://owner/gan")
    assert path.read_bytes() == b"weights" and not path.is_symlink()
    assert (path.parents[1] / "config.yaml").read_bytes() == b"model: {}"
    fetched = {file.split(f"{SHA}/")[1] for file in hub.asked if "/resolve/" in file}
    assert fetched == {"runs/gan/checkpoints/best.ckpt", "runs/gan/config.yaml"}
    assert fetch_model("hf://owner/gan") == path


def test_a_file_may_be_named(hub):
    assert fetch_model("hf://owner/gan/runs/gan/checkpoints/last.ckpt").read_bytes() == b"other"
    with pytest.raises(
        ValueError, match="has no a.ckpt: there are runs/gan/checkpoints/best.ckpt,"
    ):
        fetch_model("hf://owner/gan/a.ckpt")


@pytest.mark.parametrize(("place", "says"), [
    ("hf://owner/nobody", "cannot be fetched .*look at the name, the network"),
    ("hf://owner", "give a model as hf://OWNER/NAME"),
    ("hf://datasets/owner/name", "give a model as"),
    ("hf://owner/gan/../../x.ckpt", "has no ../../x.ckpt"),
    ("hf://owner/gan/README.md", "give a model as"),
])  # fmt: skip
def test_what_is_not_there_is_one_line(hub, place, says):
    with pytest.raises(ValueError, match=says) as error:
        fetch_model(place)
    assert "\n" not in str(error.value)


ROOM = "novum.lightning_modules"
ADDRESS = "hf://owner/gan"


def saved(module: torch.nn.Module, **arguments: object) -> bytes:
    """A checkpoint as the command line writes it."""
    content = {
        "state_dict": module.state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"_class_path": f"{ROOM}.{type(module).__name__}", **arguments},
    }
    module.on_save_checkpoint(content)
    torch.save(content, buffer := io.BytesIO())
    return buffer.getvalue()


def network(name: str, **arguments: object) -> dict:
    return {"class_path": f"{ROOM}.networks.{name}", "init_args": arguments}


def test_generate_and_explore_take_a_checkpoint_of_the_hub(hub, tmp_path, monkeypatch, capsys):
    data = text_data(tmp_path)
    data.prepare_data()
    data.setup("fit")
    rnn = network("CharRNN", vocab_size=data.vocab_size, hidden_size=8, layers=2)
    shape = dict(image_size=8, channels=1, width=8)
    generator = network("DCGANGenerator", latent_dim=4, **shape)
    discriminator = network("DCGANDiscriminator", **shape)
    hub.files = {
        "best.ckpt": saved(tiny_char_lstm(data), network=rnn, alphabet=data.alphabet),
        "gan.ckpt": saved(tiny_gan(), generator=generator, discriminator=discriminator),
    }
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    written = []
    for place in (ADDRESS, fetch_model(ADDRESS)):
        generate.main(["--checkpoint", str(place), "--length", "20", "--seed", "1"])
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] and len(written[0]) > 20

    monkeypatch.setattr(sys, "argv", ["explore.py"])
    explore.main(["interpolate", "--checkpoint", f"{ADDRESS}/gan.ckpt", "--output", str(tmp_path)])
    assert list(tmp_path.glob("*.gif"))
    for program, verb in ((generate, []), (explore, ["mix"])):
        capsys.readouterr()
        with pytest.raises(SystemExit) as error:
            program.main([*verb, "--checkpoint", "hf://owner/nobody"])
        said = capsys.readouterr().err.strip()
        assert error.value.code == 2 and "\n" not in said
        assert "--checkpoint hf://owner/nobody cannot be fetched" in said


def test_without_a_network_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"hf://a/b cannot be fetched \(ConnectError.*its path$"):
        fetch_model("hf://a/b")


def test_which_file_of_several():
    assert choose_file(["a/last.ckpt", "a/best.ckpt", "x.onnx"], "o/n") == "a/best.ckpt"
    assert choose_file(["README.md", "x.onnx"], "o/n") == "x.onnx"
    with pytest.raises(ValueError, match=r"has a/best.ckpt, b/best.ckpt: name one file"):
        choose_file(["a/best.ckpt", "b/best.ckpt"], "o/n")
    with pytest.raises(ValueError, match="no .ckpt and no .onnx"):
        choose_file(["model.safetensors"], "o/n")


def test_names_of_data_sets():
    assert dataset_name("hf://datasets/mnist") == "mnist"
    assert dataset_name("hf://datasets/ylecun/mnist:default/") == "ylecun/mnist:default"
    for place in (
        "hf://ylecun/mnist",
        "hf://datasets/",
        "hf://datasets/a/b/c",
        "hf://datasets/../x",
    ):
        with pytest.raises(ValueError, match="is no data set"):
            dataset_name(place)
