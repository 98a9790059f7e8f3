"""Origin of a report: the code, the packages and the settings that it was made by."""

from importlib.metadata import version

from novum.core.run_record import code_version, novum_version
from novum.evaluation.request import Request
from novum.report.model import Provenance

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "opencv-python-headless")


def provenance(request: Request) -> Provenance:
    return Provenance(
        novum_version(),
        code_version(),
        {name: version(name) for name in PACKAGES},
        request.settings(),
        request.redacted,
    )
