"""Files of a report."""

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
    """Whole or not at all: written beside, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
