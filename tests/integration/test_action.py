"""action.yml and its workflow: the shell of their steps, run as a runner would."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.project import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/novelty.yml").read_text())
STEPS = WORKFLOW["jobs"]["gate"]["steps"]
USES = [step for step in STEPS if step.get("uses") == "./"]


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A folder with the digits, and a function that runs the action's step there."""
    subprocess.run(
        [sys.executable, ROOT / ".github/plant_copies.py"], cwd=tmp_path, check=True, timeout=120
    )
    shim = tmp_path / "bin" / "novum-evaluate"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m novum.cli.evaluate "$@"\n')
    shim.chmod(0o755)
    (judge,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "judge")

    def run(given: dict[str, str]) -> tuple[int, str, str]:
        values = {name: str(x.get("default", "")) for name, x in ACTION["inputs"].items()} | given
        env = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: values[m[1]], text)
            for name, text in judge["env"].items()
        }
        files = {"GITHUB_STEP_SUMMARY": tmp_path / "summary", "GITHUB_OUTPUT": tmp_path / "outputs"}
        for path in files.values():
            path.write_text("")
        path = f"{shim.parent}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", judge["run"]],
            env={**env, **{k: str(v) for k, v in files.items()}, "PATH": path,
                 "PYTHONPATH": str(ROOT), "NOVUM_CACHE": str(tmp_path / "cache"),
                 "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return (done.returncode, *(path.read_text() for path in files.values()))

    return run


def test_the_workflow_gives_inputs_that_the_action_has():
    required = {name for name, x in ACTION["inputs"].items() if x.get("required")}
    assert len(USES) == 2
    for step in USES:
        assert required <= set(step["with"]) <= set(ACTION["inputs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "code", "finding"), [(0, 0, "too_little_evidence"), (1, 3, "copying")]
)
def test_the_gate_is_red_on_planted_copies_and_green_without(step, code, finding, runner, tmp_path):
    found, summary, outputs = runner(USES[step]["with"])
    assert found == code
    assert outputs == f"finding={finding}\n"
    assert summary.startswith("### ") and ("Copying found" in summary) == bool(code)
    assert (tmp_path / USES[step]["with"]["output"] / "junit.xml").is_file()


@pytest.mark.slow
def test_inputs_are_no_code(runner, tmp_path):
    """A name from a pull request is a name, whatever is in it."""
    names = {"samples": "x; touch hacked", "train": "$(touch hacked)", "heldout": "none"}
    code, _, _ = runner(names | {"arguments": "--seed 1;touch hacked"})
    assert code == 2 and not (tmp_path / "hacked").exists()


RECORD = """#!/bin/sh
for word in "$@"; do echo "$word" >> words; done
exit 2
"""


@pytest.fixture
def recorded(runner, tmp_path):
    """A function that runs the step with a program that judges nothing, for its arguments."""
    (tmp_path / "bin" / "novum-evaluate").write_text(RECORD)
    words = tmp_path / "words"

    def run(given: dict[str, str]) -> tuple[int, list[str]]:
        words.write_text("")
        code, summary, outputs = runner(dict(samples="s", train="t", heldout="h") | given)
        assert summary == outputs == ""
        return code, words.read_text().splitlines()[12:]  # after sets and files

    return run


def test_options_reach_the_program_one_by_one(recorded):
    gate = ["--fail-on", "copying"]
    assert recorded({}) == (2, gate)
    assert recorded({"fail-on": "", "arguments": " \n "}) == (2, [])
    assert recorded({"redacted": "true"}) == (2, ["--redacted", *gate])
    lines = """--require "precision>=0.7"\n--groups 'a b' --seed 1\n"""
    options = ["--require", "precision>=0.7", "--groups", "a b", "--seed", "1"]
    assert recorded({"arguments": lines}) == (2, [*gate, *options])


@pytest.mark.parametrize("given", [{"arguments": '--seed 1 --require "x>1'}, {"redacted": "yes"}])
def test_what_would_weaken_the_gate_unseen_is_refused(given, recorded):
    assert recorded(given) == (2, [])


def test_a_report_of_an_earlier_step_is_not_shown_for_this_one(recorded, tmp_path):
    (tmp_path / "novum-report").mkdir()
    (tmp_path / "novum-report" / "comment.md").write_text("earlier")
    (tmp_path / "novum-report" / "report.json").write_text('{\n  "finding": "none_found",\n}')
    assert recorded({})[0] == 2


def test_no_step_puts_an_expression_into_its_shell():
    every = [*ACTION["runs"]["steps"], *STEPS]
    texts = [step["run"] for step in every if "run" in step]
    assert texts and all("${{ inputs" not in text for text in texts)
