"""A set of shards larger than the memory that may be used: is its use bounded, and resume exact?

    python benchmarks/larger_than_memory.py [--gigabytes 5] [--limit 1.0] [--output FILE.json]

Writes noise PNGs of 64 px as parquet and as tar shards (and removes them), passes over all of them
once with two workers, stops in the middle, goes on in new processes and compares. The limit (GB) is
what the kernel lets each process have beside torch and what it imports (RLIMIT_DATA); the peak is
what all of them have together, a shared page counted once, and the images are read at 32 px. Arrow
takes memory as it needs it: its own allocator would reserve 1 GB of addresses in advance.
"""

import argparse
import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from _shards import write_shards
from _tables import show

BATCH, IMAGE_BYTES = 64, 12_600


def resident(pid: int) -> int:
    """Bytes of a process and its children, each shared page counted once."""
    total = 0
    for task in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        try:
            lines = Path(f"/proc/{task}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def watch(pid: int, peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], resident(pid))
        time.sleep(0.2)


def passes(path: str, first: int, batches: int, limit: float) -> dict:
    """In a process of its own: digests of batches `first` and on, the time, and the peak."""
    from novum.datamodules import ImageDataModule

    status = Path("/proc/self/status").read_text().split("VmData:")[1]
    size = int(status.split()[0]) * 1024 + int(limit * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))  # workers inherit it
    begin = time.perf_counter()
    data = ImageDataModule(
        "huggingface", path, 32, batch_size=BATCH, streaming=True, heldout_fraction=0.01
    )
    opened = time.perf_counter()
    base, peak = resident(os.getpid()), [0]
    threading.Thread(target=watch, args=(os.getpid(), peak), daemon=True).start()
    found = data._stream.batches(BATCH, 0, 0, 1, first, 2)
    digests, times = [], []
    count = batches or len(data._stream.train) // BATCH - first
    for batch in itertools.islice(found, count):
        times.append(time.perf_counter())
        digests.append(hashlib.sha256(batch["image"].numpy()).hexdigest())
    return {
        "opening": opened - begin,
        "first batch": times[0] - opened,
        "images/s": BATCH * (count - 1) / (times[-1] - times[0]) if count > 1 else 0.0,
        "peak": peak[0],
        "before": base,
        "images": len(data._stream.train),
        "digests": digests,
    }


def in_child(*arguments: object) -> dict:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measure(form: str, gigabytes: float, limit: float, folder: Path) -> dict:
    written = write_shards(folder / form, form, int(gigabytes * 1e9 / IMAGE_BYTES), 64)
    whole = in_child(folder / form, 0, 0, limit)
    middle = len(whole["digests"]) // 2
    rest = in_child(folder / form, middle, 50, limit)
    same = rest["digests"] == whole["digests"][middle : middle + 50]
    assert len(set(whole["digests"])) == len(whole["digests"])
    return {
        "shards": form,
        "GB on disk": written / 1e9,
        "images": whole["images"],
        "images/s": whole["images/s"],
        "peak of all processes, MB": max(whole["peak"], rest["peak"]) / 1e6,
        "of that before reading, MB": whole["before"] / 1e6,
        "opening, first time and again, s": f"{whole['opening']:.1f}, {rest['opening']:.1f}",
        "first batch at start, in mid-epoch, s": (
            f"{whole['first batch']:.1f}, {rest['first batch']:.1f}"
        ),
        "resumed the same": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--form", choices=["parquet", "tar"], help="only one of them")
    parser.add_argument("--folder", help="where the shards are written for a while")
    parser.add_argument("--output")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        path, first, batches, limit = args.child
        print(json.dumps(passes(path, int(first), int(batches), float(limit))))
        return
    rows = []
    for form in [args.form] if args.form else ["parquet", "tar"]:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows.append(measure(form, args.gigabytes, args.limit, Path(folder)))
    show(
        f"Shards under a limit of {args.limit} GB a process, beside what it imports",
        rows,
        args.output,
    )


if __name__ == "__main__":
    main()
