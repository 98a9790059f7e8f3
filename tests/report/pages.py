"""A strict reader of our pages: what it cannot make sense of fails the test."""

import re
from html.parser import HTMLParser
from typing import NamedTuple

JARGON = (
    "p-value", "p =", "q <", "q-value", "margin", "permutation", "exchangeab", "Bonferroni", "null",
    "bits",
)  # fmt: skip
CLAIM = re.compile(  # that there is copying, or none
    r"\b(?:means?|proves?|is|are|was|were|be) (?:not? )?(?:an? )?cop(?:y|ies|ied|ying)\b"
    r"|\bmeans? (?:passages|overfit)"
    r"|\bno copying\b|\bnone is\b|\bno sample (?:is|was)\b|\bno passage stands\b"
    r"|[^.]*\bshaded\b[^.]*",
    re.IGNORECASE,
)
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


def first_screen(page: str) -> str:
    """Words of the banners, without what is folded away."""
    banners = page[page.index("<header>") : page.index("<section>")]
    return read_text(re.sub(r"<details>.*?</details>", "", banners, flags=re.DOTALL))


def check_against_verdict(page: str, report: dict) -> None:
    """The verdict alone says whether there is copying: no word and no picture says it again.

    Args:
        report: Contents of its report.json.
    """
    below = page[page.index("<section>") : page.rindex("</main>")]
    screen = first_screen(page)
    assert not [word for word in JARGON if word in screen], screen
    assert not CLAIM.findall(read_text(below))
    if report.get("kind") == "text":
        return
    named, judged = bool(report.get("copies")), report.get("gate") is not None
    assert ("named by the test, the surest first" in below) == named
    assert ("The test names no sample" in below) == (judged and not named)
    if not named:
        marks = re.findall(r'class="([^"]*)"', below)
        assert not {"tone", "alarm", "bad"} & set(" ".join(marks).split())
        assert "named as copies" not in re.findall(r"</i>([^<]*)</span>", below)  # of a legend
    if report["finding"] != "copying":
        assert "Copying" not in report["conclusion"]["quality"]
        assert not report.get("facts") or "no evidence of copying in this data" in below
    if report["finding"] == "cannot_judge":
        assert report["quality_finding"] == "unknown"


def read_text(page: str) -> str:
    """All text of a page or of a part of one."""
    reader = _Reader()
    reader.feed(page)
    return re.sub(r"\s+", " ", "".join(reader.texts))


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
