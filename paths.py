"""Where Novum keeps what can be had again: weights, downloads, reference features."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()
