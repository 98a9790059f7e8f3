"""What is installed has the content that it was pinned with, and a licence on record."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"([a-z0-9-]+)==([^\s;]+)( ; [^#@]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")


def pins(text: str) -> dict[str, str]:
    """Package -> version; every line must be a pin with hashes, so no option or address passes."""
    lines = re.sub(r"\\\n", "", text).splitlines()
    found = {
        line: PIN.fullmatch(line) for line in lines if line and not line.lstrip().startswith("#")
    }
    assert all(found.values()), [line for line, match in found.items() if not match]
    return {match[1]: match[2] for match in found.values()}


def assert_satisfies(pinned: dict[str, str], requirements: list[str]) -> None:
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_every_dependency_is_pinned_with_hashes():
    project = PROJECT["project"]
    pinned = pins((ROOT / "constraints.txt").read_text())
    assert_satisfies(pinned, project["dependencies"])
    assert_satisfies(pinned, PROJECT["build-system"]["requires"])
    assert set(project["optional-dependencies"]) == {
        "completion", "docs", "onnx", "test", "video",
    }  # fmt: skip
    for extra in project["optional-dependencies"].values():
        assert_satisfies(pinned, extra)


def test_the_tools_are_pinned_with_hashes():
    pinned = pins((ROOT / ".ci" / "tools.txt").read_text())
    assert_satisfies(pinned, PROJECT["dependency-groups"]["tools"])


@pytest.mark.parametrize(
    "line",
    [
        "torch>=2.11 --hash=sha256:" + 64 * "0",
        "torch==2.15.0",
        "torch==2.15.0 --hash=md5:" + 32 * "0",
        "torch==2.15.0 --hash=sha256:" + 63 * "0",
        "torch @ https://example.org/torch.whl --hash=sha256:" + 64 * "0",
        "--extra-index-url https://example.org/simple",
        "--find-links wheels",
        "-e .",
    ],
)
def test_anything_else_than_a_pin_with_hashes_is_noticed(line):
    good = (
        "tqdm==4.70.1 ; sys_platform == 'linux' \\\n    --hash=sha256:"
        + 64 * "0"
        + "\n    # via x\n"
    )
    assert pins(good) == {"tqdm": "4.70.1"}
    with pytest.raises(AssertionError):
        pins(good + line)


def test_make_installs_nothing_that_is_not_pinned():
    """Each `pip install` checks hashes, or fetches nothing."""
    command = ["make", "--dry-run", "--always-make", "demo", "install-test", "lock", "audit"]
    environment = os.environ | {"MAKEFLAGS": ""}  # of the `make test` that may run this
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    installs = [line for line in run.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 3
    for line in installs:
        fetches_nothing = {"--no-index", "--no-deps", "--no-build-isolation"} <= {*line.split()}
        assert "--require-hashes --only-binary :all:" in line or fetches_nothing


def test_the_licence_of_every_package_is_on_record():
    page = (ROOT / "docs" / "licences.md").read_text()
    table = page.split("| package | licence | note |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| ([a-z0-9-]+) \| [^ |][^|]* \|", table, re.M)
    assert listed == sorted(pins((ROOT / "constraints.txt").read_text()))
