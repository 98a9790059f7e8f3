"""Images, arrays, tables, archives and texts of anybody: read whole, or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.cli.program import one_line_errors
from novum.core.errors import EXIT_BAD_INPUT
from novum.datamodules.resolve_source import open_images
from novum.datamodules.single_image import read_image
from novum.datamodules.sources.builtin_datasets import IDX_FILES, load_mnist
from novum.datamodules.sources.decode import read_header
from novum.datamodules.sources.text_documents import Reading
from novum.datamodules.sources.text_files import open_text
from novum.evaluation.text_sets import open_source
from tests.fuzz import strategies as hostile
from tests.fuzz.outcome import empty_folder, ends_well, examples

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of PIL, about what it makes of damage
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def told(work: Callable[[], object]) -> int:
    def run() -> None:
        with one_line_errors():
            work()

    return ends_well("evaluate.py", run)


def all_images(where: str) -> None:
    opened = open_images(where, size=8)
    images = opened.images[:]
    assert images.shape == (len(opened.images), *opened.images.shape)
    assert opened.images.fingerprint


def later_frames(data: bytes, alone: int) -> int:
    """A folder reads all frames, and stops at those that cannot be decoded."""
    return EXIT_BAD_INPUT if not alone and len(read_header(data).pages) > 1 else alone


@pytest.mark.parametrize("suffix", hostile.KINDS)
def test_image_files(suffix):
    whole = hostile.image_bytes(hostile.KINDS[suffix])

    @examples(20)
    @given(hostile.damaged(whole))
    def check(data: bytes) -> None:
        with empty_folder():
            Path("x").mkdir()
            Path(f"x/0.{suffix}").write_bytes(data)
            alone = told(lambda: read_image(f"x/0.{suffix}"))
            assert told(lambda: all_images("x")) in (alone, later_frames(data, alone))

    check()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays(suffix):
    @examples(60)
    @given(hostile.damaged(hostile.array_bytes(suffix == "npz")))
    def check(data: bytes) -> None:
        with empty_folder():
            Path(f"x.{suffix}").write_bytes(data)
            told(lambda: all_images(f"x.{suffix}"))

    check()


@pytest.mark.parametrize("suffix", ["parquet", "tar"])
def test_tables_and_archives(suffix):
    whole = {"parquet": hostile.table_bytes, "tar": hostile.tar_bytes}[suffix]()

    @examples(12)
    @given(hostile.damaged(whole))
    def check(data: bytes) -> None:
        with empty_folder():
            Path(f"x.{suffix}").write_bytes(data)
            told(lambda: all_images(f"x.{suffix}"))
            assert {p.name for p in Path().iterdir()} <= {f"x.{suffix}", "hf", "cache"}

    check()


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(zipped):
    make = hostile.gz_bytes if zipped else hostile.idx_bytes

    @examples(40)
    @given(hostile.damaged(make()), hostile.damaged(make(1)))
    def check(images: bytes, labels: bytes) -> None:
        with empty_folder():
            for pair in IDX_FILES:
                for name, data in zip(pair, (images, labels), strict=True):
                    Path(f"{name}.gz" if zipped else name).write_bytes(data)
            told(lambda: load_mnist("mnist", Path()))

    check()


@examples(60)
@given(
    st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda t: t.encode("utf-16"))),
    st.sampled_from(("utf-8", "latin-1", "utf-16", "utf-7", "zlib", "idna", "\0", "rot13", "")),
)
def test_texts(data, encoding):
    with empty_folder():
        Path("x.txt").write_bytes(data)
        told(lambda: open_text("files", "x.txt", how=Reading(encoding)))
        told(lambda: open_source("x.txt").text())


def test_whole_files_are_read():
    with empty_folder():
        Path("images").mkdir()
        for suffix, kind in hostile.KINDS.items():
            Path(f"images/0.{suffix}").write_bytes(hostile.image_bytes(kind))
        Path("x.npy").write_bytes(hostile.array_bytes())
        Path("x.npz").write_bytes(hostile.array_bytes(compressed=True))
        Path("x.parquet").write_bytes(hostile.table_bytes())
        Path("x.tar").write_bytes(hostile.tar_bytes())
        frames = len(hostile.KINDS) + 1  # the GIF has two
        for where, n in (("images", frames), ("x.npy", 12), ("x.npz", 12), ("x.parquet", 6),
                         ("x.tar", 4)):  # fmt: skip
            assert len(open_images(where).images[:]) == n
        for pair in IDX_FILES:
            for name, rank in zip(pair, (3, 1), strict=True):
                Path(f"{name}.gz").write_bytes(hostile.gz_bytes(rank))
        assert len(load_mnist("mnist", Path()).train.rows) == 20
