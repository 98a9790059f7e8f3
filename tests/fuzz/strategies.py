"""Hostile inputs: bytes of every kind that is read, damaged; configs and reports gone astray."""

import copy
import gzip
import io
import json
import struct
import tarfile
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image

from novum.cli.train import CONFIGS
from novum.datamodules.sources.suffixes import AVIF

HUGE = (2**31, 2**63, 10**30, -1, -(2**40))
STRANGE_TEXT = (
    "",
    "\0",
    "../../x",
    "<script>",
    "[/x]",
    "\x1b[2J",
    "é\ud800",
    "os.system",
    "😀" * 9,
)


def image_bytes(kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    more = {"save_all": True, "append_images": [image.rotate(90)] * 2} if kind == "GIF" else {}
    image.save(buffer, kind, **more)
    return buffer.getvalue()


KINDS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP",
         "ppm": "PPM"} | ({"avif": "AVIF"} if AVIF else {})  # fmt: skip


def array_bytes(compressed: bool = False) -> bytes:
    buffer, pixels = io.BytesIO(), np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8)
    np.savez_compressed(buffer, images=pixels) if compressed else np.save(buffer, pixels)
    return buffer.getvalue()


def table_bytes() -> bytes:
    images = [{"bytes": image_bytes("PNG", i), "path": f"{i}.png"} for i in range(6)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": list(range(6))}), buffer)
    return buffer.getvalue()


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in range(4):
            for name, data in ((f"{i}.png", image_bytes("PNG", i)), (f"{i}.cls", b"1")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def idx_bytes(rank: int = 3) -> bytes:
    sizes = (20, 8, 8)[:rank]
    return struct.pack(f">HBB{rank}I", 0, 8, rank, *sizes) + bytes(20 * 8 ** (2 * (rank > 1)))


def gz_bytes(rank: int = 3) -> bytes:
    return gzip.compress(idx_bytes(rank), mtime=0)


@cache
def checkpoint_bytes(kind: str) -> bytes:
    """A tiny model's checkpoint, as Lightning lays it out."""
    made = {"images": _images, "text": _text}[kind]()
    buffer = io.BytesIO()
    torch.save(made, buffer)
    return buffer.getvalue()


def _images() -> dict:
    from tests.tiny import tiny_gan

    network = {"image_size": 8, "channels": 1, "width": 8}
    where = "novum.lightning_modules.networks."
    return {
        "state_dict": tiny_gan().state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "images_seen": 8,
        "hyper_parameters": {
            "_class_path": "novum.lightning_modules.GAN",
            "_instantiator": "pytorch_lightning.cli.instantiate_module",
            "generator": {
                "class_path": f"{where}DCGANGenerator", "init_args": {**network, "latent_dim": 4}
            },
            "discriminator": {"class_path": f"{where}DCGANDiscriminator", "init_args": network},
        },
    }  # fmt: skip


def _text() -> dict:
    from novum.lightning_modules import CharLSTM
    from novum.lightning_modules.networks import CharRNN

    torch.manual_seed(0)
    model = CharLSTM(CharRNN(vocab_size=5, hidden_size=8, layers=1), alphabet="\ufffdabc ")
    return {
        "state_dict": model.state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "tokens_seen": 8,
        "epochs": 0.0,
        "alphabet": "\ufffdabc ",
        "hyper_parameters": {
            "_class_path": "novum.lightning_modules.CharLSTM",
            "_instantiator": "pytorch_lightning.cli.instantiate_module",
            "alphabet": "\ufffdabc ",
            "network": {
                "class_path": "novum.lightning_modules.networks.CharRNN",
                "init_args": {"vocab_size": 5, "hidden_size": 8, "layers": 1},
            },
        },
    }


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bytes changed, left out or put in, or cut off; at times as it was."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            at = min(at, draw(st.integers(0, 200)))  # headers are what decides
        how = draw(st.sampled_from(("change", "change", "remove", "insert", "cut")))
        new = draw(st.binary(min_size=1, max_size=8))
        if how == "change":
            data[at : at + len(new)] = new
        elif how == "remove":
            del data[at : at + len(new)]
        elif how == "insert":
            data[at:at] = new
        else:
            del data[at:]
    return bytes(data)


strange = st.one_of(
    st.sampled_from(HUGE),
    st.sampled_from(STRANGE_TEXT),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just({"class_path": "os.system", "init_args": {"command": "true"}}),
    st.integers(1, 200).map(lambda depth: _nested(depth)),
)


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def astray(draw: st.DrawFn, whole: dict, most: int = 3) -> dict:
    """Nested values with some replaced, taken out, or under other keys."""
    changed = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        place = changed
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            how = draw(st.sampled_from(("replace", "replace", "remove", "rename")))
            if how == "replace":
                place[key] = copy.deepcopy(draw(strange))
            elif how == "rename" and isinstance(place, dict):
                place[draw(st.text(max_size=8))] = place.pop(key)
            else:
                del place[key]
            break
    return changed


def configs() -> st.SearchStrategy[dict]:
    """Those of configs/ that need no file and no download, astray."""
    names = ("dcgan_digits", "deep_dream", "adversarial", "style_transfer", "char_lstm_stdlib",
             "char_transformer_stdlib",
             "class_visualisation")  # fmt: skip
    wholes = [yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in names]
    return st.sampled_from(wholes).flatmap(astray)


def report(name: str = "pixels") -> dict:
    """A report.json as evaluate.py and train.py write it."""
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    side = {"path": "a", "n": 10, "shape": [1, 8, 8], "fingerprint": "f"}
    return {
        "schema": 1,
        "verdict": "No copying found: copy rate 0%. Quality is good.",
        "samples": side,
        "train": {**side},
        "heldout": {**side, "exchangeability_p": 0.5},
        "features": {
            name: {
                "extractor": "pixels",
                "quality": {"frechet_distance": {"value": 3.0}, "precision": dict(estimate)},
                "novelty": {"closer_to_train": dict(estimate), "copies_flagged": 0},
            }
        },
        "copies": [],
        "history": [
            {"images_seen": n, f"quality/frechet_distance/{name}": 9.0 - n} for n in (1, 2, 3)
        ],
        "cost": {"seconds": 1.0, "peak_rss_bytes": 10**9, "images_per_second": 10.0},
    }


def report_files() -> st.SearchStrategy[bytes]:
    """Reports astray, and their bytes damaged."""
    as_json = astray(report()).map(lambda r: json.dumps(r, default=str).encode())
    return st.one_of(as_json, damaged(json.dumps(report()).encode()))
