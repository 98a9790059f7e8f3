"""Limits on what untrusted files may ask for.

A config on the command line is code. The config inside a picture, the one beside a checkpoint and
the arguments within a checkpoint are data: they build what `allowed` lists, from values that
`specs` has parsed, and read and write where `places` lets them.
"""

from novum.core.security.configs import arguments_of_run, run_folder
from novum.core.security.specs import build, check_size
from novum.core.security.trust import trusting, trusts_all
from novum.core.security.untrusted import Untrusted

__all__ = [
    "Untrusted",
    "arguments_of_run",
    "build",
    "check_size",
    "run_folder",
    "trusting",
    "trusts_all",
]
