"""Files of a report."""

import json
from pathlib import Path
from typing import Any

from novum.core.errors import InputError
from novum.core.files import remove_partial_files, whole_file


def prepare_output(folder: Path) -> None:
    """Creates the folder before the work: a mistake shall not cost its results."""
    probe = folder / "report.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        remove_partial_files(folder)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): change --output") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text.encode())
