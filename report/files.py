"""Files of a report."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def prepare_output(folder: Path) -> None:
    """Creates the folder before the work: a mistake shall not cost its results."""
    probe = folder / "report.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}): change --output") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: written beside, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
