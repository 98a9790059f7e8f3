"""HTML from templates: what they are given is escaped, and pages load and run nothing."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from novum.report import figures
from novum.report.colours import follow_system
from novum.report.formatting import (
    columns,
    cost_facts,
    interval,
    number,
    plain,
    set_facts,
    shorten,
)

TEMPLATES = Path(__file__).parent / "templates"
# nothing can be loaded and no script can run, whatever a file name holds
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(template: str, **context: Any) -> str:
    """Return one page, complete in itself."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    environment.filters |= {
        "capital": lambda text: text[:1].upper() + text[1:],
        "number": number,
        "interval": interval,
        "shorten": shorten,
        "set_facts": set_facts,
        "cost_facts": cost_facts,
        "columns": columns,
    }
    environment.globals |= {
        "policy": POLICY,
        "style": Markup(follow_system() + (TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "picture": figures.picture,
        "share_bar": figures.share_bar,
    }
    return environment


def _printable(value: Any) -> Any:
    """Escape control characters, which a name from outside may hold."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
