"""The tab as a person uses it, in a real browser: looked at, slid, sorted, filtered, reviewed."""

import json
import subprocess
import sys

import pytest

from novum.report.reviews import REVIEWS
from tests.project import ROOT
from tests.tensorboard.browser import Browser, find_chromium
from tests.tensorboard.made_runs import image_run, pair, text_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
PREFIX = "/board"
ROWS = "document.querySelectorAll('.row').length"
FIRST = "document.querySelector('.row small').textContent"
WHERE = "document.querySelector('output').textContent"


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs with spaces")
    image_run(folder / "<b>gan" / "version_0")
    image_run(folder / "wgan", steps=4, onset=9, rows=3)
    text_run(folder / "text")
    return folder


@pytest.fixture(scope="module")
def server(logs):
    """TensorBoard's address, as behind a proxy."""
    started = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "tensorboard" / "serve.py"),
            str(logs),
            f"--path_prefix={PREFIX}",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert started.stdout is not None
    lines = (line.strip() for line in started.stdout)
    yield next(line for line in lines if line.startswith("http"))
    started.terminate()
    started.wait()
    started.stdout.close()


@pytest.fixture
def browser(tmp_path):
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


@pytest.fixture
def tab(browser, server):
    """The tab alone, with the run of a GAN."""
    browser.open(f"{server}data/plugin_entry.html?name=novum_novelty")
    browser.wait(ROWS)
    only(browser, "<b>gan/version_0", 6)
    return browser


def only(browser: Browser, run: str, rows: int) -> None:
    """Choose one run, which has so many rows."""
    browser.get("document.querySelector('.menu').open = true")
    for name in browser.get("[...document.querySelectorAll('.runs input')].map(e => e.value)"):
        chosen = browser.get(
            f"document.querySelector('.runs input[value={json.dumps(name)}]').checked"
        )
        if chosen != (name == run):
            browser.get(f"document.querySelector('.runs input[value={json.dumps(name)}]').click()")
    browser.get("document.querySelector('.menu').open = false")
    browser.wait(
        f"document.querySelector('h3').textContent === {json.dumps(run)} && {ROWS} === {rows}"
    )


def names(browser: Browser) -> list[str]:
    """Training images of the rows, in order."""
    second = "e => e.querySelectorAll('small')[1].textContent"
    return browser.get(f"[...document.querySelectorAll('.row')].map({second})")


def test_the_tab_stands_in_tensorboard_and_asks_nobody_else(browser, server):
    browser.open(f"{server}#novum_novelty")
    inner = "document.querySelector('iframe')?.contentDocument"
    browser.wait(f"{inner}?.querySelectorAll('.row').length")
    theme = f"{inner}.documentElement.dataset.theme"
    assert browser.get(theme) == "light"
    browser.get("document.body.classList.add('dark-mode')")  # as its settings do
    browser.wait(f"{theme} === 'dark'")
    tabs = browser.get("document.body.innerText").upper()
    assert "NOVELTY" in tabs
    own = (server.removesuffix(f"{PREFIX}/"), "data:", "blob:")
    strangers = [url for url in browser.requests if not url.startswith(own)]
    assert strangers == []
    assert any("novum_novelty/rows?" in url for url in browser.requests)
    assert not [error for error in browser.errors if "novum" in error]


def test_sliding_shows_every_evaluation_with_its_pictures(tab):
    assert tab.get(WHERE) == "500 images" and tab.get(FIRST) == "s5_0.png"
    assert "Copying found" in tab.get("document.querySelector('.banner').textContent")
    tab.click("#step", at=0.5)
    tab.wait(f"{FIRST} === 's3_0.png'")
    tab.press("Home")
    tab.wait(f"{FIRST} === 's1_0.png'")
    assert "No copying found" in tab.get("document.querySelector('.banner').textContent")
    tab.click("[title='the next evaluation']")
    tab.wait(f"{FIRST} === 's2_0.png'")
    tab.get("document.activeElement.blur()")
    tab.press("ArrowRight")
    tab.wait(f"{FIRST} === 's3_0.png'")
    shown = tab.get("getComputedStyle(document.querySelector('.cell')).backgroundImage")
    assert "step=300" in shown and "name=rows" in shown
    tab.get("document.querySelector('section details').open = true")
    image = "document.querySelector('section details img')"
    grid = tab.wait(f"{image}?.naturalWidth && {image}.src")
    assert "step=300" in grid and "name=grid" in grid


def test_the_chart_marks_the_onset_and_leads_to_a_step(tab):
    assert tab.get("document.querySelector('#copies text.onset').textContent") == "copying from 300"
    assert tab.get("document.querySelectorAll('#copies circle').length") == 5
    assert tab.get("document.querySelectorAll('#copies .band').length") == 1
    tab.click("#copies svg", at=0.12)
    tab.wait(f"{FIRST} === 's1_0.png'")
    tab.choose("#figure", "novelty/copy_rate/pixels")
    tab.wait(
        "document.querySelector('#quality svg').getAttribute('aria-label').startsWith('novelty/')"
    )


def test_rows_are_sorted_filtered_and_searched(tab):
    assert names(tab) == ["t0.png", "t1.png", "t2.png", "t3.png", "t4.png", "t5.png"]
    tab.choose("#sort", "realism")
    tab.wait("document.querySelector('#sort').value === 'realism'")
    tab.wait("document.querySelectorAll('.row')[0].textContent.includes('t2.png')")
    assert names(tab)[0] == "t2.png"  # of realism .4
    tab.choose("#sort", "unreal")
    tab.wait("document.querySelectorAll('.row')[0].textContent.includes('t0.png')")
    tab.choose("#filter", "facts")
    tab.wait(f"{ROWS} === 2")
    tab.choose("#filter", "ordinary")
    tab.wait(f"{ROWS} === 1")
    assert names(tab) == ["t5.png"]
    tab.choose("#filter", "all")
    tab.choose("#search", "H3.PNG")
    tab.wait(f"{ROWS} === 1")
    assert names(tab) == ["t3.png"]
    assert "1 of 6 rows" in tab.get("document.querySelector('.tools').textContent")


def test_pairs_are_reviewed_by_keys_and_by_buttons(tab, logs):
    path = logs / "<b>gan" / "version_0" / REVIEWS
    tab.press("j")
    tab.press("c")
    tab.wait("document.querySelector('.pill.confirmed') !== null")
    assert {k: v["decision"] for k, v in kept(path).items()} == {pair(500): "confirmed"}
    tab.press("j")
    tab.press("r")
    tab.wait("document.querySelector('.pill.rejected') !== null")
    tab.choose("#filter", "open")
    tab.wait(f"{ROWS} === 1")
    tab.choose("#filter", "all")
    tab.wait(f"{ROWS} === 6")
    tab.click(".row:nth-child(1) button[aria-pressed=true]")  # once more takes it back
    tab.wait("document.querySelector('.pill.confirmed') === null")
    assert list(kept(path)) == [pair(501)]
    for _ in range(4):
        tab.press("j")
    tab.press("c")  # a row that nobody named
    tab.wait("document.querySelector('.message').textContent.startsWith('Only pairs')")
    assert list(kept(path)) == [pair(501)]


def kept(path):
    return json.loads(path.read_text())["pairs"]


def test_runs_stand_side_by_side(tab):
    tab.get("document.querySelector('.menu').open = true")
    tab.get("document.querySelector('.runs input[value=wgan]').click()")
    tab.wait(f"document.querySelectorAll('section').length === 2 && {ROWS} === 9")
    heads = tab.get("[...document.querySelectorAll('h3')].slice(0, 2).map(e => e.textContent)")
    assert heads == ["<b>gan/version_0", "wgan"]
    tops = tab.get(
        "[...document.querySelectorAll('section')].map(e => e.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1]
    assert tab.get("document.querySelectorAll('#copies .curve').length") == 2
    tab.press("Home")
    texts = "[...document.querySelectorAll('.banner')].map(e => e.textContent)"
    tab.wait(f"{texts}.filter(text => text.includes('at 100 images')).length === 2")


def test_passages_stand_beside_their_sources_as_they_are(tab):
    only(tab, "text", 2)
    assert tab.get("document.querySelector('#copies').textContent").startswith(
        "Text that stands in training text, 95% interval"
    )
    marks = "[...document.querySelectorAll('.row:first-child mark')].map(e => e.textContent)"
    assert tab.get(marks) == ["the quick brown fox jumps", "the quick brown <b>dog</b> jumps"]
    differing = tab.get(
        "[...document.querySelectorAll('.row:first-child del')].map(e => e.textContent)"
    )
    assert differing == ["fox", "<b>dog</b>"]
    words = tab.get("document.querySelector('.row').textContent")
    assert "a<i>.txt, offset 34" in words and "80 bits" in words and "a fact" in words
    assert tab.get("document.querySelectorAll('pre b, pre i, figcaption i').length") == 0
    tab.choose("#search", "of course")
    tab.wait(f"{ROWS} === 1")
    assert tab.get("document.querySelectorAll('.row button').length") == 0


def test_keys_are_listed(tab):
    tab.press("?")
    tab.wait("document.querySelector('dialog').open")
    assert "confirm or reject" in tab.get("document.querySelector('dialog').innerText")
    tab.press("Escape")


def test_nothing_is_asked_for_before_it_is_shown(browser, tmp_path, server, logs):
    """Of fifty evaluations the timeline, and the rows of the one shown and of its neighbours."""
    image_run(logs / "long", steps=50, rows=64, onset=20, side=32)
    browser.open(f"{server}data/plugin_entry.html?name=novum_novelty")
    browser.wait(ROWS)
    only(browser, "long", 64)
    asked = [url for url in browser.requests if "run=long" in url]
    assert len([url for url in asked if "/rows?" in url]) <= 2
    assert len([url for url in asked if "/timeline?" in url]) == 1
