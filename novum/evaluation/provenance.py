"""Origin of a report: the code, the packages and the settings that it was made by."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import novum
from novum.evaluation.request import Request
from novum.report.model import Provenance

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "opencv-python-headless")


def provenance(request: Request) -> Provenance:
    return Provenance(
        novum_version(),
        code_hash(),
        {name: version(name) for name in PACKAGES},
        request.settings(),
        request.redacted,
    )


def novum_version() -> str:
    try:
        return version("novum")
    except PackageNotFoundError:  # run from a copy of the source
        return "unknown"


@cache
def code_hash() -> str:
    """sha256 of the source of the package, as it was imported."""
    found = hashlib.sha256()
    root = Path(novum.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()
