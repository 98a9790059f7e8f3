"""Table and JSON of a benchmark's figures."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


def in_turn(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int = 5,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, the contestants in turn so that a slow spell hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(warm_up + rounds):
        for name, run in contestants.items():
            start = clock()
            run()
            if i >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over rounds of theirs / ours: how many times faster we are."""
    return statistics.median(t / o for o, t in zip(ours, theirs, strict=True))


def show(title: str, rows: list[dict[str, Any]], output: str | None) -> None:
    """Prints rows as a table and writes them with the machine's description to `output`."""
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key, justify="right" if key != next(iter(rows[0])) else "left")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=120).print(table)
    if output is not None:
        machine = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "processor": platform.processor() or platform.machine(),
        }
        content = {"title": title, "machine": machine, "rows": rows}
        Path(output).write_text(json.dumps(content, indent=2) + "\n")
