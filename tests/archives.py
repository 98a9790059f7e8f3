"""Archives that tests read."""

import io
import tarfile
from collections.abc import Mapping
from typing import Any


def write_tar(path: Any, members: Mapping[str, bytes], **options: Any) -> Any:
    """A tar of these members by name; options are tarfile's. Returns its path."""
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
