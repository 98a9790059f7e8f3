"""Files of named arrays with a description, in the format of safetensors: nothing is unpickled.

Each array has its sha256 in the description, and the description has its own beside it, so that a
file that was cut off or has a changed bit is refused. Arrays are mapped, not read into memory.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core.errors import InputError
from novum.core.files import open_regular, whole_file

DTYPES = {
    "U8": np.uint8,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
LARGEST_HEADER = 1 << 26  # bytes
ALIGNED = 64  # arrays begin at multiples of so many bytes
AT_ONCE = 1 << 24  # bytes that are hashed or written at a time

Parts = Sequence[NDArray]  # of an array, one below the other


class DamagedFile(ValueError):
    """A file that is not as it was written; the message goes on from its name."""


def write_arrays(path: Path, arrays: Mapping[str, Parts], description: Mapping[str, Any]) -> None:
    """Write arrays, each in parts that may be mapped from other files; whole or not at all."""
    header, digests, start = {}, {}, 0
    # the widest first: each then begins at a multiple of the size of its numbers
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1][0].dtype.itemsize))
    for name, parts in arrays.items():
        shape = [sum(map(len, parts)), *parts[0].shape[1:]]
        size = sum(part.nbytes for part in parts)
        header[name] = {
            "dtype": NAMES[parts[0].dtype],
            "shape": shape,
            "data_offsets": [start, start + size],
        }
        digests[name] = _digest(_bytes(parts))
        start += size
    told = json.dumps({**description, "sha256": digests})
    header["__metadata__"] = {"novum": told, "sha256": hashlib.sha256(told.encode()).hexdigest()}
    head = json.dumps(header).encode()
    head += b" " * (-(8 + len(head)) % ALIGNED)
    with whole_file(path) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for parts in arrays.values():
            for block in _bytes(parts):
                file.write(block)


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description of such a file, and its arrays, mapped for this process alone.

    Raises:
        DamagedFile: If it is none, or is not as it was written.
    """
    described, header, start = _read_head(path)
    arrays = {name: _mapped(path, start, entry) for name, entry in header.items()}
    digests = described.get("sha256")
    if not isinstance(digests, dict) or digests.keys() != arrays.keys():
        raise DamagedFile("it does not hold the arrays that it lists")
    for name, array in arrays.items():
        if _digest(_bytes([array])) != digests[name]:
            raise DamagedFile(f"{name} is not as it was written")
    return described, {name: torch.from_numpy(array) for name, array in arrays.items()}


def read_description(path: Path) -> dict[str, Any]:
    """The description alone, with the sha256 of each array.

    Raises:
        DamagedFile: If there is none, or it is not as it was written.
    """
    return _read_head(path)[0]


def _read_head(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The description, the entries of the arrays, and the byte at which the first begins."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(LARGEST_HEADER, size - 8):
            raise DamagedFile("its header is cut off")
        head = file.read(length)
    try:
        header = json.loads(head)
        metadata = header.pop("__metadata__", {})
        if "novum" not in metadata:
            raise DamagedFile("Novum did not write it")
        told = metadata["novum"]
        whole = hashlib.sha256(told.encode()).hexdigest() == metadata["sha256"]
        described = json.loads(told)
        ends = [0, *(int(end) for entry in header.values() for end in entry["data_offsets"])]
    except DamagedFile:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile("its header cannot be read") from error
    if not whole or not isinstance(described, dict):
        raise DamagedFile("its description is not as it was written")
    if 8 + length + max(ends) != size:
        raise DamagedFile(f"it has {size:,} bytes and should have {8 + length + max(ends):,}")
    return described, header, 8 + length


def _mapped(path: Path, start: int, entry: Mapping[str, Any]) -> NDArray:
    try:
        dtype = np.dtype(DTYPES[entry["dtype"]])
        shape = tuple(int(n) for n in entry["shape"])
        first, last = (int(end) for end in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile("its header cannot be read") from error
    count = 1
    for n in shape:
        count *= n
    if first < 0 or min(shape, default=0) < 0 or count * dtype.itemsize != last - first:
        raise DamagedFile("its header does not fit its arrays")
    if not count:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "c", start + first, shape)


def _bytes(parts: Parts) -> Iterator[memoryview]:
    """The values of an array's parts, in blocks."""
    for part in parts:
        if not part.nbytes:
            continue
        rows = max(1, AT_ONCE // max(1, part[:1].nbytes))
        for first in range(0, len(part), rows):
            yield np.ascontiguousarray(part[first : first + rows]).data.cast("B")


def _digest(blocks: Iterator[memoryview]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def require_place(path: Path, needed: float) -> None:
    """Refuse work before it begins, where its file of so many bytes could not be written.

    Raises:
        InputError: If the folder is missing or cannot be written, or the disk has too little room.
    """
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"cannot write to {folder}: make the folder, or give another place")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{path} takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in"
            f" {folder}: make room, or give a place on a larger disk"
        )
