"""No step of training waits for the device, and what a step sends to other ranks is known."""

import json
import subprocess
import sys

import pytest

from tests.integration.test_train_cli import EXPERIMENTS, small_data
from tests.project import ROOT

TECHNIQUES = (
    "gan",
    "gan, images in the host's memory",
    "stylegan",
    "stylegan, ada bgcfnc",
    "classifier",
    "classifier, adversarial",
    "char lstm",
    "char transformer",
    "flow matching",
    "flow matching, EDM",
    "deep dream",
    "class visualisation",
    "adversarial",
    "style transfer, gram",
    "style transfer, wasserstein",
)


def run(script: str, folder, *arguments: str) -> dict:
    """What a program of this folder writes; it finds what stands beside tests/tiny.py."""
    import os

    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    out = folder / "found.json"
    command = [sys.executable, str(ROOT / "tests" / "integration" / script), str(out), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def waits(tmp_path_factory) -> dict:
    return run("device_steps.py", tmp_path_factory.mktemp("device"))


@pytest.mark.slow
def test_the_device_counts_what_waits(waits):
    assert waits["known"] == {"copies": 4, "reads": 5}


@pytest.mark.slow
@pytest.mark.parametrize("name", TECHNIQUES)
def test_no_step_between_logs_waits_for_the_device(waits, name):
    found = waits[name]
    assert found["on the device"] and found["finite"] and found["operations"] > 50
    assert found["copies"] == {}
    reads = dict(found["reads"])
    if name == "style transfer, wasserstein":  # torch looks at the status of eigh, each layer's
        reads = {k: v for k, v in reads.items() if not k.endswith("aten::_linalg_eigh")}
    assert reads == {}


@pytest.mark.slow
@pytest.mark.parametrize("half", [0, 1])
def test_every_config_runs_on_another_device(tmp_path, half):
    """With its callbacks and all that follows training: what was left on the host raises."""
    commands = {}
    for name in EXPERIMENTS[half::2]:
        folder = tmp_path / name
        folder.mkdir()
        small = ("--trainer.fast_dev_run=true", *small_data(name, folder))
        commands[name] = [str(folder), "train", "fit", "--config", name, *small]
    all_run(commands, tmp_path)


def all_run(commands: dict[str, list[str]], folder) -> None:
    """No command ends with a traceback."""
    listed = folder / "commands.json"
    listed.write_text(json.dumps(commands))
    found = run("device_programs.py", folder, str(listed))
    failed = {name: error[-1500:] for name, error in found.items() if error}
    assert found.keys() == commands.keys()
    assert not failed, "\n".join(f"{name}: {error}" for name, error in failed.items())


@pytest.mark.slow
def test_judging_stays_on_the_device_with_the_figures_of_the_cpu(tmp_path):
    """Every figure of a space, with its neighbours by other blocks and another screening."""
    found = run("device_judging.py", tmp_path)
    assert len(found["cpu"]) > 25
    assert found["device"] == pytest.approx(found["cpu"], rel=1e-9)
    assert found["neighbours are equal"] and found["features stay"]
    assert found["fld"][0] == pytest.approx(found["fld"][1], rel=1e-9)
    assert found["features differ by"] < 1e-5
    assert found["reads of a search for candidates"] == {}


SHARED_OUT = ("gan", "stylegan", "classifier", "char lstm", "char transformer", "flow matching")


@pytest.fixture(scope="module")
def collectives(tmp_path_factory) -> dict:
    return run("collective_steps.py", tmp_path_factory.mktemp("collectives"), *SHARED_OUT)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED_OUT)
def test_collectives_and_bytes_of_a_step(collectives, name):
    """As docs/scaling.md has them; the first step may also make ranks alike."""
    found = collectives[name]
    steps = [[tuple(call) for call in step] for step in found["steps"]]
    size = found["networks"]
    logged = ("all_reduce", 4)  # the loss, at the last step
    if name == "gan":
        once = [("all_reduce", size["discriminator"]), ("all_reduce", size["generator"])]
        assert steps[1:-1] == [once] * 6
        assert steps[-1] == [*once, ("all_reduce", 2 * 4)]
    elif name == "stylegan":  # R1 each 4th step, path length each 2nd
        g, d, style = size["generator"], size["discriminator"], 4 * 4  # w has four numbers
        d -= 4  # the bias of the logits has no gradient in R1
        for i, step in enumerate(steps[1:], 1):
            expected = [("all_reduce", d)] * (i % 4 == 0)
            if i % 2 == 0:
                expected += [("all_reduce", 4), step[len(expected) + 1]]
                assert g - 64 <= expected[-1][1] <= g + style
            # the sign of the logits; the mean w
            expected += [("all_reduce", d + 4 + 4), ("all_reduce", g + style)]
            # at a log: is a loss not finite on any rank; the four losses
            assert step == expected + [("all_reduce", 4), ("all_reduce", 4 * 4)] * (i == 7)
    elif name == "classifier":
        statistics = steps[1][0][1]
        assert 0 < statistics < 1000
        once = [("_broadcast_coalesced", statistics), ("all_reduce", size["network"])]
        assert steps[1:-1] == [once] * 6
        assert steps[-1] == [once[0], logged, once[1]]
    elif name == "flow matching":
        once = [("all_reduce", size["network"])]
        assert steps[1:-1] == [once] * 6
        assert steps[-1] == [logged, *once]
    else:
        once = [("all_reduce", size["network"])]
        assert steps[1:] == [once] * 6 + [[logged, *once]]
