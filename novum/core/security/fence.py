"""The second fence: jsonargparse imports only what is on the list while an untrusted config is in.

The first is that such a config was parsed against the hints before (`specs`); this one holds where
jsonargparse reads more out of a value than we did.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from novum.core.security.allowed import allowed_names

DOTTED = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


@contextmanager
def fenced(trusted: Iterable[str]) -> Iterator[None]:
    """Deny jsonargparse every import that is neither on the list nor named by the user.

    Args:
        trusted: What the user typed, and the texts of the user's configs.
    """
    from jsonargparse import set_parsing_settings
    from jsonargparse._common import parsing_settings  # which has no getter for all of them

    before = dict(parsing_settings)
    try:
        set_parsing_settings(
            import_path_denylist=["*"],
            import_path_allowlist=[*_modules_named(trusted), *allowed_names()],
            instantiate_subclass_spec_in_any=False,
        )
        yield
    finally:
        parsing_settings.clear()
        parsing_settings.update(before)


def _modules_named(texts: Iterable[str]) -> list[str]:
    """The modules of what texts name, where classes are often defined in a module below."""
    names = {name for text in texts for name in DOTTED.findall(text)}
    modules = {name.rpartition(".")[0] for name in names}
    return sorted(m for m in modules if m.partition(".")[0] not in ("jsonargparse", "novum"))
