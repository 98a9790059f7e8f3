"""Where Novum keeps what can be had again: weights, downloads, references, recipes of pictures."""

import os
from pathlib import Path

RECIPE = "novum:config"  # the text of a PNG of ours that holds the config which made it


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()
