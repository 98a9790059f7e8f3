"""Synthetic shards for benchmarks: PNG images of random noise, no two alike."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS = 1000  # of a row group, as of a write


def noise(count: int, size: int, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        yield buffer.getvalue()


def write_shards(folder: Path, form: str, count: int, size: int, per_shard: int = 20_000) -> int:
    """`count` images in parquet or tar files; the bytes written."""
    folder.mkdir(parents=True)
    for shard, start in enumerate(range(0, count, per_shard)):
        images = noise(min(per_shard, count - start), size, shard)
        write = _write_parquet if form == "parquet" else _write_tar
        write(folder / f"train-{shard:05}.{form}", images)
    return sum(file.stat().st_size for file in folder.iterdir())


def _write_parquet(file: Path, images: Iterator[bytes]) -> None:
    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    with pq.ParquetWriter(file, pa.schema({"image": cell})) as writer:
        cells = [{"bytes": image, "path": None} for image in images]
        for start in range(0, len(cells), ROWS):
            part = pa.array(cells[start : start + ROWS], cell)
            writer.write_table(pa.table({"image": part}), row_group_size=ROWS)


def _write_tar(file: Path, images: Iterator[bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for number, image in enumerate(images):
            info = tarfile.TarInfo(f"{number:08}.png")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
