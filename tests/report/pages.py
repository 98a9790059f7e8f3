"""A strict reader of our pages: what it cannot make sense of fails the test."""

from html.parser import HTMLParser
from typing import NamedTuple

VOID = {"meta", "img", "br"}
SHAPES = {"path", "line", "circle", "rect", "polyline", "polygon"}


class Page(NamedTuple):
    """What stands on a page, and what it is made of."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]]
    sections: list[str]  # titles in order

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self.titles.append("")

    def handle_startendtag(self, tag, attrs):
        assert tag in SHAPES, f"<{tag}/>"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.texts.append(data)
        if "h2" in self.open:
            self.titles[-1] += data


def read(page: str) -> Page:
    """Parses a page: every tag closed in order, nothing loaded, nothing that runs."""
    page.encode("utf-8")
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "base", "form", "a"}
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes), tag
        assert attributes.get("src", "data:").startswith("data:")
        assert "alt" in attributes or tag != "img"
    assert "url(" not in page and "@import" not in page
    return Page("".join(reader.texts), reader.tags, reader.titles)
