"""pytest plugin: judge a generator in a test.

@pytest.mark.novelty(train="data/train", heldout="data/test")
def test_it_copies_nothing(novum_verdict):
    novum_verdict("out/").assert_no_copying()
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from novum.report.model import Report

MARKER = (
    "novelty(samples=..., train=..., heldout=..., **settings): what `novum_verdict` judges, where"
    " the test itself says nothing; the arguments of novum.evaluate. `-m novelty` runs these tests."
)
REPORTS = pytest.StashKey[list[tuple[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def novum_verdict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Callable[..., Report]":
    """A function that takes what `novum.evaluate` takes, and returns its report.

    What the test leaves out is taken from `@pytest.mark.novelty`, of the function first, then of
    its class and module. Each page is written
    into pytest's temporary folder, and named if the test fails; the finding is a property of the
    test in JUnit XML.
    """
    defaults: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("novelty"))):
        if marker.args:
            raise pytest.UsageError(
                "@pytest.mark.novelty takes names: samples=..., train=..., heldout=..."
            )
        defaults |= marker.kwargs

    def verdict(*places: Any, **settings: Any) -> "Report":
        from novum.evaluation.api import evaluate  # imports torch

        named = dict(zip(("samples", "train", "heldout"), places, strict=False))
        if len(places) > len(named):
            raise TypeError("novum_verdict takes samples, train and heldout, then names")
        given = {"output": tmp_path_factory.mktemp("novum"), **defaults, **named, **settings}
        report = evaluate(**given)
        request.node.user_properties.append(("novum_finding", str(report.finding)))
        page = f"{given['output']}/report.html" if given["output"] else "no page was written"
        text = f"{report.verdict.text}\n{page}"
        request.node.stash.setdefault(REPORTS, []).append(("novum", text))
        return report

    return verdict


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the verdict and the place of the page below a test that failed."""
    outcome = yield
    if outcome.when == "call" and outcome.failed:
        outcome.sections += item.stash.get(REPORTS, [])
    return outcome
