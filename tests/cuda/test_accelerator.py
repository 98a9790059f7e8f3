"""The benchmark of accelerators is ready to run: a trial with tiny sizes, resumed."""

import json
import os
import subprocess
import sys

import pytest

from tests.project import ROOT


@pytest.mark.slow
def test_parts_are_measured_once_and_go_on(tmp_path):
    def run(*parts: str) -> str:
        command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "accelerator.py")]
        command += ["--tiny", "--device", "cpu", "--output", "out.json", "--parts", *parts]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "neighbours" in run("neighbours")
    out = run("neighbours", "throughput")
    assert "neighbours" not in out and "throughput" in out
    parts = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert [row["equal to exact"] for row in parts["neighbours"]["rows"]] == [1.0, 1.0]
    assert all(row["ms a step"] > 0 for row in parts["throughput"]["rows"])
    assert {part["end"] for part in parts.values()} == {"done"}
    assert "| char-LSTM |" in (tmp_path / "out.md").read_text()
