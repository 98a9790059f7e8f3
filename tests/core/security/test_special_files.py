"""Folders and files of a stranger: nothing outside is read, nothing hangs, memory is bounded."""

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from novum.core import memory
from novum.core.files import open_regular, read_blocks, read_regular
from novum.core.memory import Budget, available_bytes, memory_bytes
from novum.datamodules import (
    ImageDataModule,
    SingleImageDataModule,
    TextDataModule,
)
from novum.datamodules.resolve_source import open_images, open_references, read_array
from novum.datamodules.sources import decode, decode_all
from novum.datamodules.sources.builtin_datasets import IDX_FILES, load_mnist, read_idx
from novum.datamodules.sources.decode import ImageTransform, open_image
from novum.datamodules.sources.folders import image_files, load_celeba
from novum.datamodules.sources.walk import glob_files, walk
from novum.evaluation.text_sets import files_of, open_source, read_samples
from tests import programs
from tests.fuzz import strategies as hostile
from tests.project import ROOT

OUT = "links that lead out of it are left out"
IRREGULAR = "FIFOs, devices and sockets are left out"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_images("../outside", range(100, 104))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: str, values=range(4)) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for value in values:
        Path(folder, f"{value}.png").write_bytes(png(value))
    return Path(folder)


def grays(where: str, **options) -> list[int]:
    return open_images(where, **options).images[:][:, 0, 0, 0].tolist()


def within(seconds: float, code: str) -> subprocess.CompletedProcess:
    """Code run in a process of its own, which must end in that time."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


class TestFolders:
    def test_what_is_no_file_is_left_out_and_counted(self):
        write_images("x")
        os.mkfifo("x/fifo.png")
        server = socket.socket(socket.AF_UNIX)
        server.bind("x/socket.png")
        with pytest.warns(UserWarning, match=rf"{IRREGULAR}: 2 \(fifo.png, socket.png\)"):
            assert grays("x") == [0, 1, 2, 3]
        server.close()

    def test_training_leaves_out_the_same(self):
        write_images("x", range(8))
        os.mkfifo("x/fifo.png")
        with pytest.warns(UserWarning, match=IRREGULAR):
            data = ImageDataModule("folder", "x", image_size=8)
        assert len(data.train_reference()) + len(data.heldout_reference()) == 8

    def test_texts_too(self):
        Path("x").mkdir()
        Path("x/a.txt").write_text("abc" * 50)
        os.mkfifo("x/b.txt")
        for read in (lambda place: files_of(place).files,
                     lambda place: glob_files(f"{place}/*.txt"),
                     lambda place: glob_files(f"{place}/**/*.txt")):  # fmt: skip
            with pytest.warns(UserWarning, match=IRREGULAR):
                assert [p.resolve() for p in read("x")] == [Path("x/a.txt").resolve()]

    def test_links_in_circles_end_and_no_image_counts_twice(self):
        write_images("x")
        for name in ("a", "b", "c"):
            os.symlink(".", f"x/{name}")
        write_images("x/sub", range(10, 12))
        os.symlink("..", "x/sub/up")
        os.symlink("../sub", "x/sub/self")
        assert image_files(Path("x")) == ["0.png", "1.png", "2.png", "3.png", "sub/10.png",
                                          "sub/11.png"]  # fmt: skip
        texts = [Path("x", name) for name in image_files(Path("x"))]
        assert glob_files("x/**/*.png") == texts
        assert files_of("x").files == [path.resolve() for path in texts]

    def test_a_file_of_several_names_counts_once_by_its_own(self):
        write_images("x")
        os.symlink("0.png", "x/00.png")
        os.symlink(Path("x/1.png").resolve(), "x/01.png")
        os.link("x/2.png", "x/9.png")
        assert image_files(Path("x")) == ["0.png", "1.png", "2.png", "3.png"]

    def test_links_that_stay_inside_are_followed(self):
        write_images("x/.store")
        os.symlink(".store", "x/train")
        assert walk(Path("x"), lambda name: True) == [f"train/{i}.png" for i in range(4)]
        os.symlink("x", "link")  # the folder itself may be one
        assert grays("link") == [0, 1, 2, 3]

    @pytest.mark.parametrize("target", ["../outside", "../outside/100.png"])
    def test_links_that_lead_out_are_left_out_or_followed(self, target):
        write_images("x")
        os.symlink(Path(target).resolve() if target.endswith("e") else f"../{target}", "x/out.png")
        with pytest.warns(UserWarning, match=rf"x: {OUT}: 1 \(out.png\); set follow_links: true"):
            assert grays("x") == [0, 1, 2, 3]
        found = grays("x", follow_links=True)
        assert sorted(set(found) - {0, 1, 2, 3}) == ([100] if "png" in target else
                                                     [100, 101, 102, 103])  # fmt: skip

    def test_a_folder_of_nothing_but_such_links_is_an_error_that_says_how_to_follow(self):
        Path("x").mkdir()
        for i in (100, 101):
            os.symlink(f"../../outside/{i}.png", f"x/{i}.png")
        for option in ({}, {"side": "heldout"}):
            with pytest.raises(ValueError, match=f"x: {OUT}.*--follow-links"):
                open_images("x", **option)
        with pytest.raises(ValueError, match=f"{OUT}.*set follow_links: true"):
            ImageDataModule("folder", "x")
        data = ImageDataModule("folder", "x", image_size=8, follow_links=True)
        assert len(data.train_reference()) == 1

    def test_a_split_that_is_a_link_leads_out_too(self):
        write_images("x/test")
        os.symlink("../../outside", "x/train")
        with pytest.raises(ValueError, match="x/train is a link that leads out of x: set follow"):
            open_images("x")
        assert grays("x", follow_links=True) == [100, 101, 102, 103]

    def test_what_a_run_says_of_links_does_not_count(self):
        write_images("x")
        os.symlink("../../outside", "x/more")
        run = {"dataset": "folder", "path": "x", "follow_links": True}
        with pytest.warns(UserWarning, match=OUT):
            train, heldout = open_references("x", "x", 8, 1, run)
        assert len(train.images) + len(heldout.images) == 4
        train, heldout = open_references("x", "x", 8, 1, {**run, "follow_links": False}, True)
        assert len(train.images) + len(heldout.images) == 8

    def test_the_store_of_a_hubs_snapshot_is_no_outside(self):
        write_images("hub/blobs")
        Path("hub/snapshots/main").mkdir(parents=True)
        for i in range(4):
            os.symlink(f"../../blobs/{i}.png", f"hub/snapshots/main/{i}.png")
        assert grays("hub/snapshots/main") == [0, 1, 2, 3]

    def test_names_are_told_without_control_characters(self):
        write_images("x")
        os.mkfifo("x/\x1b[2J.png")
        with pytest.warns(UserWarning) as told:
            image_files(Path("x"))
        assert "\x1b" not in str(told[0].message) and "\\x1b[2J.png" in str(told[0].message)

    @pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.csv"])
    def test_lists_of_celeba_that_lead_out(self, name):
        write_images("x/img_align_celeba")
        Path("secret").write_text("image_id Smiling\n0.png 1\n")
        os.symlink("../secret", f"x/{name}")
        attribute = "Smiling" if "attr" in name else None
        with pytest.raises(ValueError, match=f"{name} is a link that leads out"):
            load_celeba(Path("x"), attribute)

    def test_idx_files_that_lead_out(self):
        Path("x").mkdir()
        for pair in IDX_FILES:
            for name, rank in zip(pair, (3, 1), strict=True):
                Path(name).write_bytes(hostile.idx_bytes(rank))
                os.symlink(f"../{name}", f"x/{name}")
        with pytest.raises(ValueError, match="is a link that leads out"):
            load_mnist("mnist", Path("x"))
        assert len(load_mnist("mnist", Path("x"), follow_links=True).train.rows) == 20


def special(kind: str, name: str) -> str:
    os.mkfifo(name) if kind == "fifo" else os.symlink("/dev/zero", name)
    return name


@pytest.mark.parametrize("kind", ["fifo", "device"])
class TestSpecialFiles:
    @pytest.mark.parametrize("suffix", ["npy", "npz", "png", "parquet", "tar", "txt"])
    def test_given_as_a_place(self, kind, suffix):
        name = special(kind, f"x.{suffix}")
        for read in (open_images, lambda n: read_samples(n), lambda n: open_source(n)):
            with pytest.raises(ValueError, match=f"{name} is not a regular file"):
                read(name)

    def test_given_by_name(self, kind):
        for read, name in (
            (lambda n: SingleImageDataModule(n), "x.png"),
            (lambda n: TextDataModule("files", n), "x.txt"),
            (lambda n: read_array(Path(n)), "x.npy"),
            (lambda n: read_idx(Path(n)), "x.gz"),
            (lambda n: read_regular(n, 10), "y"),
        ):
            with pytest.raises(ValueError, match="is not a regular file"):
                read(special(kind, name))

    def test_swapped_in_after_the_folder_was_read(self, kind):
        write_images("x")
        images = open_images("x").images
        lazy = ImageDataModule("folder", "x", image_size=8, memory_budget_gb=0)
        lazy.setup()
        Path("x/0.png").unlink()
        special(kind, "x/0.png")
        assert len(images[:]) == 4
        with pytest.raises(ValueError, match=r"0\.png.* is not a regular file"):
            for reference in (lazy.train_reference(), lazy.heldout_reference()):
                reference[:]


def test_a_fifo_swapped_in_at_the_last_moment_does_not_hang(monkeypatch):
    os.mkfifo("x")
    monkeypatch.setattr("novum.core.files.check_regular", lambda path: None)
    with pytest.raises(ValueError, match="x is not a regular file"):
        open_regular("x")


def test_no_more_is_read_than_a_file_says_it_has():
    for file in ("/proc/self/status", "/proc/kallsyms"):
        if Path(file).exists():
            with pytest.raises((ValueError, OSError)):
                read_regular(file, 100)
            assert b"".join(read_blocks("/proc/self/status")) == b""
    Path("x").write_bytes(bytes(10))
    blocks = read_blocks("x", 4)
    assert len(next(blocks)) == 4
    with open("x", "ab") as file:
        file.write(bytes(100))
    assert sum(map(len, blocks)) == 6
    with pytest.raises(ValueError, match="x has 110 bytes: at most 100 are read"):
        read_regular("x", 100)


def test_image_files_above_the_limit_are_not_read(monkeypatch):
    write_images("x")
    with open("x/0.png", "ab") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"0\.png.*1,099,511,627,776 bytes, more than an image"):
        open_images("x")


def big_png(width: int, height: int, depth: int, kind: int, channels: int) -> bytes:
    """A PNG of zeros, a few kB."""
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


PEAK = """
import resource
from pathlib import Path
from novum.datamodules.sources.decode import ImageTransform
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
ImageTransform(8, 3)(Path("small.png"))
before = peak()
ImageTransform(8, {channels})(Path("x.png"))
print(peak() - before)
"""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("depth", "kind", "stored"), [(16, 0, 1), (8, 6, 4), (8, 4, 2)])
def test_an_image_takes_no_more_memory_than_is_counted(depth, kind, stored, channels):
    """16 bits once took 19 bytes a pixel, transparency 12."""
    data = big_png(4000, 4000, depth, kind, stored)
    Path("x.png").write_bytes(data)
    Path("small.png").write_bytes(png(1))
    done = within(120, PEAK.format(channels=channels))
    counted = decode.peak_bytes(Image.open(io.BytesIO(data)))
    assert int(done.stdout) < counted + 2**24 <= 8 * 4000**2 + 2**24, done.stderr


@pytest.mark.parametrize("shape", [(1300, 1100), (3, 700_000)])
@pytest.mark.parametrize("channels", [1, 3])
def test_converting_in_parts_changes_no_pixel(shape, channels, monkeypatch):
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 65536, shape, np.uint16)),
        Image.fromarray(rng.integers(0, 256, (*shape, 4), np.uint8)),
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).quantize(16),
    ]
    images[2].info["transparency"] = 3
    parts = [np.asarray(decode.to_gray_or_rgb(image, channels)) for image in images]
    monkeypatch.setattr(decode, "BAND", 2**40)
    for image, part in zip(images, parts, strict=True):
        assert np.array_equal(np.asarray(decode.to_gray_or_rgb(image, channels)), part)


class TestBudget:
    def test_threads_wait_for_each_other(self):
        budget, held, most = Budget(lambda: 100), [0], [0]
        lock = threading.Lock()

        def work() -> None:
            with budget.hold(40):
                with lock:
                    held[0] += 40
                    most[0] = max(most[0], held[0])
                time.sleep(0.02)
                with lock:
                    held[0] -= 40

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [80]

    def test_what_never_fits_is_refused(self):
        budget = Budget(lambda: 10**9)
        with pytest.raises(ValueError, match="takes 2.0 GB of memory"), budget.hold(2 * 10**9):
            pass
        with budget.hold(10**9):  # nothing is held any more
            pass

    def test_large_images_are_decoded_one_after_the_other(self, monkeypatch):
        Path("x").mkdir()
        for i in range(6):
            Image.new("L", (2000, 2000), i).save(f"x/{i}.png")
        one = decode.peak_bytes(Image.open(io.BytesIO(Path("x/0.png").read_bytes())))
        assert one > decode.FREE_BYTES
        monkeypatch.setattr(decode, "_memory", Budget(lambda: int(1.5 * one)))
        monkeypatch.setattr(decode_all, "CHUNK", 1)
        at_once, most = [0], [0]
        upright = decode._upright

        def watched(image):
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.01)
            at_once[0] -= 1
            return upright(image)

        monkeypatch.setattr(decode, "_upright", watched)
        assert open_images("x", size=8).images[:].flatten(1)[:, 0].tolist() == list(range(6))
        assert most == [1]
        monkeypatch.setattr(decode, "_memory", Budget(lambda: one - 1))
        with pytest.raises(ValueError, match=r"0\.png: not a readable image \(decoding takes"):
            open_images("x", size=8)


def test_sets_that_do_not_fit_into_memory_are_read_lazily_and_that_is_told(monkeypatch):
    write_images("x")
    whole = open_images("x")
    monkeypatch.setattr("novum.datamodules.sources.decode_all.available_bytes", lambda: 4 * 64)
    with pytest.warns(UserWarning, match="do not fit into the .* GB of memory"):
        lazy = open_images("x")
    assert not hasattr(lazy.images, "images")
    assert torch.equal(lazy.images[:], whole.images[:])
    with pytest.warns(UserWarning, match="do not fit"):
        data = ImageDataModule("folder", "x", image_size=8)
        data.setup()
    assert not hasattr(data.train_reference(), "images")


def cgroup_files(root: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A machine of plenty with the control groups that a test writes."""
    root = tmp_path / "cgroups"
    monkeypatch.setattr(memory, "PROC", root / "proc")
    monkeypatch.setattr(memory, "CGROUPS", root / "sys")
    cgroup_files(root / "proc", {"meminfo": "MemTotal: 9 kB\nMemAvailable: 999999999999 kB"})
    return root


MIB = 2**20


def test_memory_is_that_of_the_control_group(cgroups):
    machine = memory_bytes()
    cgroup_files(cgroups, {
        "proc/self/cgroup": "0::/a/b",
        "sys/a/memory.max": 100 * MIB, "sys/a/memory.high": "max",
        "sys/a/memory.current": 70 * MIB, "sys/a/memory.stat": f"anon 5\ninactive_file {20 * MIB}",
        "sys/a/b/memory.max": "max", "sys/a/b/memory.high": 80 * MIB,
        "sys/a/b/memory.current": 10 * MIB,
    })  # fmt: skip
    assert memory_bytes() == 80 * MIB  # the nearer one
    assert available_bytes() == 50 * MIB  # what the farther one has left, its cache not counted
    cgroup_files(cgroups, {"sys/a/memory.max": 10**30, "sys/a/b/memory.high": "max"})
    assert memory_bytes() == machine


def test_memory_is_that_of_the_control_group_of_version_1(cgroups):
    cgroup_files(cgroups, {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/",
        # as a container sees it: its own group is the root
        "sys/memory/memory.limit_in_bytes": 64 * MIB, "sys/memory/memory.usage_in_bytes": 60 * MIB,
        "sys/memory/memory.stat": f"total_inactive_file {6 * MIB}",
    })  # fmt: skip
    assert (memory_bytes(), available_bytes()) == (64 * MIB, 10 * MIB)
    cgroup_files(cgroups, {"proc/self/cgroup": "4:memory:/../..\nno line\n"})
    assert memory_bytes() > 0


def test_archives_are_held_against_the_control_group(cgroups):
    np.savez_compressed("x.npz", images=np.zeros((1000, 64, 64), np.uint8), labels=np.zeros(10**7))
    assert read_array(Path("x.npz")).shape == (1000, 64, 64)
    cgroup_files(cgroups, {
        "proc/self/cgroup": "0::/", "sys/memory.max": 100 * MIB, "sys/memory.current": 97 * MIB,
    })  # fmt: skip
    with pytest.raises(ValueError, match="x.npz cannot be read .*more than memory has room for"):
        read_array(Path("x.npz"))
    with zipfile.ZipFile("y.npz", "w", zipfile.ZIP_DEFLATED) as file:  # both are `images`
        file.writestr("images", bytes(10))
        file.writestr("images.npy", bytes(10 * MIB))
    with pytest.raises(ValueError, match="more than memory has room for"):
        read_array(Path("y.npz"))


def test_a_tile_larger_than_its_image_counts():
    """Such a TIFF of 8 x 8 pixels once took as much memory as its tile."""

    def tiff(side: int) -> bytes:
        data = zlib.compress(bytes(side**2 if side < 10**4 else 8), 9)
        tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side,
                324: 8 + 2 + 10 * 12 + 4, 325: len(data)}  # fmt: skip
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        head = b"II*\0" + struct.pack("<IH", 8, len(tags))
        return head + entries + bytes(4) + data

    assert decode.peak_bytes(decode.open_untrusted(io.BytesIO(tiff(3000)))) >= 3000**2
    assert ImageTransform(8, 1)(tiff(3000)).shape == (1, 8, 8)
    with pytest.raises(Image.DecompressionBombError, match="decompression bomb"):
        open_image(tiff(12_000))


def test_jpegs_of_countless_scans_and_images_spelt_out_are_refused():
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert open_image(data).size == (64, 64)
    with pytest.raises(ValueError, match="scans, as in a decompression bomb"):
        open_image(data[:-2] + 1000 * scan + data[-2:])
    digits = b"P3 3000 3000 255\n" + b"1 " * (3 * 3000**2)
    with pytest.raises(ValueError, match="a PPM of digits"):
        open_image(digits + bytes(decode.MOST_DIGITS))
    assert open_image(b"P3 1 2 255\n1 2 3 4 5 6").size == (1, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_text_in_a_png_unpacks_to_little():
    """PIL's own limit, which is what all of this relies on."""
    packed = zlib.compress(bytes(10**8), 9)
    whole = png(7)
    for name, start in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        chunk = name + start + packed
        more = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = whole[:33] + more + whole[33:]
        try:
            pixels = ImageTransform(8, 1)(data)
        except ValueError as error:
            assert "too large" in str(error).lower()
        else:
            assert pixels.unique().tolist() == [7]


def evaluate(*arguments: str) -> subprocess.CompletedProcess:
    return programs.run(
        ROOT / "evaluate.py", *arguments, "--features", "pixels@8",
        "--heldout", "none", "--output", "result", timeout=60,
    )  # fmt: skip


FOLDERS = {
    "a FIFO": (lambda: os.mkfifo("x/x.png"), f"{IRREGULAR}: 1 (x.png)"),
    "a device": (lambda: os.symlink("/dev/zero", "x/x.png"), f"{OUT}: 1 (x.png)"),
    "circles": (lambda: [os.symlink(".", f"x/{name}") for name in "ab"], ""),
    "a link to images outside": (lambda: os.symlink("../../outside", "x/more"), f"{OUT}: 1 (more)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_the_real_command_line_reads_such_folders(kind):
    write_images("x", range(0, 60, 3))
    write_images("train", range(1, 60, 3))
    make, told = FOLDERS[kind]
    make()
    done = evaluate("--samples", "x", "--train", "train")
    assert done.returncode == 0, done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr
    assert '"n": 20' in Path("result/report.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.png"])
def test_the_real_command_line_refuses_a_fifo(name):
    os.mkfifo(name)
    write_images("train")
    done = evaluate("--samples", name, "--train", "train")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and f"{name} is not a regular file" in done.stderr
