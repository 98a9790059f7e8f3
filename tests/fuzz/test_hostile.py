"""Files made to do harm: each is refused, and nothing in it is run."""

import gzip
import importlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from novum.callbacks.text_samples import verbatim
from novum.cli.program import one_line_errors, stop
from novum.core.checkpoints import load_module, read_checkpoint
from novum.core.pretrained import load_weights
from novum.datamodules.resolve_source import open_images, read_array
from novum.datamodules.sources.builtin_datasets import load_cifar10, read_idx
from novum.datamodules.sources.decode import open_image
from novum.lightning_modules.weight_transfer import read_weights
from novum.metrics.features import load_extractor
from novum.report.events import literal
from tests import programs
from tests.fuzz import strategies as hostile
from tests.fuzz.outcome import ends_well
from tests.project import ROOT


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: load_module(path, "sample"),
        read_checkpoint,
        lambda path: read_weights(str(path)),
        load_weights,
        lambda path: load_extractor(f"checkpoint:{path.resolve()}"),
    ],
)
def test_no_checkpoint_is_unpickled(read, plain):
    evil = {"state_dict": Payload(), "pytorch-lightning_version": "2.6.6"}
    Path("x.ckpt").write_bytes(pickle.dumps(evil)) if plain else torch.save(evil, "x.ckpt")
    with pytest.raises(ValueError, match="x.ckpt"):
        read(Path("x.ckpt"))
    assert not Path("ran").exists()


def test_no_array_is_unpickled():
    np.save("x.npy", np.array([Payload()], dtype=object))
    np.savez("x.npz", images=np.array([Payload()], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_array(Path(name))
    assert not Path("ran").exists()


def test_cifar10_is_unpickled_only_if_it_is_its_authors():
    Path("cifar-10-batches-py").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        Path("cifar-10-batches-py", name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(FileNotFoundError, match="does not hold cifar10, or a damaged copy"):
        load_cifar10(Path())
    assert not Path("ran").exists()


def test_torch_fidelity_unpickles_no_file_of_a_user():
    with pytest.raises(ValueError, match="torch-fidelity would unpickle them"):
        load_extractor("vgg16", "x.pth")


def test_postscript_is_no_image():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "EPS")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(buffer.getvalue())


def png_header(width: int, height: int) -> bytes:
    """All of a PNG that says how large it is, and no pixels."""
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = zlib.crc32(chunk).to_bytes(4)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + rest + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("size", [(10_000, 10_000), (2**31 - 1, 2**31 - 1), (1, 2**30)])
def test_huge_images_are_refused_before_they_are_decoded(size):
    with pytest.raises(Exception, match="decompression bomb"):
        open_image(png_header(*size))


def test_a_strip_is_no_bomb():
    Path("x").mkdir()
    for i in range(2):
        Image.new("L", (1, 60000), i).save(f"x/{i}.png")
    assert open_images("x").images[:].shape == (2, 1, 1, 1)


def test_arrays_that_claim_terabytes():
    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 8, 8)}
    np.lib.format.write_array_header_1_0(header, claim)
    Path("x.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile("x.npz", "w") as file:
        file.writestr("images.npy", header.getvalue())
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_array(Path(name))


def test_idx_files_unpack_no_more_than_their_header_claims():
    many = struct.pack(">HBB3I", 0, 8, 3, 2**20, 2**10, 2**10)
    few = struct.pack(">HBB1I", 0, 8, 1, 10)
    for name, header in (("many.gz", many), ("few.gz", few)):
        Path(name).write_bytes(gzip.compress(header + bytes(10**7)))
        with pytest.raises(ValueError, match=f"{name}: not an IDX file"):
            read_idx(Path(name))


def test_a_table_names_no_file_outside_of_its_folder(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    Image.new("L", (8, 8)).save("secret.png")
    Path("shared").mkdir()
    for path in (str(Path("secret.png").resolve()), "../secret.png", "http://x/y.png",
                 "file:///etc/passwd", "zip://a.png::file:///b.zip"):  # fmt: skip
        images = [{"bytes": None, "path": path}] * 2
        schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
        pq.write_table(pa.table({"image": images}, schema=schema), "shared/x.parquet")
        with pytest.raises(ValueError, match="outside of its own folder|only files of its hub"):
            open_images("shared/x.parquet")


def test_a_terminal_obeys_no_message(capsys):
    with pytest.raises(SystemExit):
        stop("p", "no file \x1b[2Jx\r\ny")
    assert capsys.readouterr().err == "p: no file \\x1b[2Jx y\n"


def test_files_that_cannot_be_read_and_memory_that_is_not_there_are_told(capsys):
    for work, line in (
        (Path("none").read_bytes, "none: No such file"),
        (lambda: bytearray(2**60), "not enough memory"),
        (lambda: torch.zeros(2**60), "not enough memory"),
    ):
        with pytest.raises(SystemExit) as exit_, one_line_errors():
            work()
        assert exit_.value.code == 2 and line in capsys.readouterr().err


def test_markdown_means_nothing():
    assert literal("![x](http://y)\n<b>") == (
        "&#33;&#91;x&#93;&#40;http&#58;&#47;&#47;y&#41;\n&#60;b&#62;"
    )
    assert verbatim("a\r![x](y)\r\nb") == "    a\n    ![x](y)\n    b"


COMMANDS = [
    ("generate.py", ["--checkpoint", "x.ckpt"]),
    ("evaluate.py", ["--compare", "x.json", "x.ckpt"]),
    ("train.py", ["fit", "--config", "dcgan_digits", "--trainer.logger", "false",
                  "--ckpt_path", "x.ckpt"]),
    ("evaluate.py", ["--samples", "x.npz", "--train", "digits", "--heldout", "digits"]),
    ("explore.py", ["mix", "--checkpoint", "x.ckpt"]),
    ("train.py", ["fit", "--config", "x.png"]),
]  # fmt: skip


def hostile_files() -> None:
    torch.save({"state_dict": Payload(), "pytorch-lightning_version": "2.6.6"}, "x.ckpt")
    Path("x.npz").write_bytes(hostile.array_bytes(compressed=True)[:300])
    Path("x.json").write_text('{"schema": 1, "verdict": 3, "features": {}}')
    Path("x.png").write_bytes(hostile.image_bytes("PNG")[:60])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_commands_refuse_hostile_files(program, arguments):
    hostile_files()
    main = importlib.import_module(f"novum.cli.{program.removesuffix('.py')}").main
    assert ends_well(program, lambda: main(arguments)) == 2
    assert not Path("ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("program", "arguments"), COMMANDS[:3])
def test_real_command_lines_refuse_hostile_files(program, arguments):
    hostile_files()
    done = programs.run(ROOT / program, *arguments)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"python {program}: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    assert not Path("ran").exists()
