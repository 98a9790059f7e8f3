"""Notebooks run from their first cell to their last, in small, and carry no outputs."""

import ast
import json
import re

import pytest

from tests import programs
from tests.project import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {  # values in the place of those in the cell tagged `parameters`
    "judge_your_folder": {},
    "train_a_gan": {"STEPS": 4, "EVERY": 2, "NUM": 60},
    "deep_dream_and_style": {
        "OCTAVES": "[-6, -6]", "DREAM_STEPS": 1, "STYLE_SIZE": 64, "STYLE_STEPS": 1,
    },
    "char_model_and_its_copies": {"STEPS": 4, "NUM_TEXTS": 2},
    "evaluate_inside_your_module": {"EPOCHS": 10, "NUM": 60},
}  # fmt: skip
SAYS = {  # what is printed, in small too
    "judge_your_folder": "not released: Copying found",
    "train_a_gan": "Verdict:",
    "deep_dream_and_style": "Result:",
    "char_model_and_its_copies": "characters of",
    "evaluate_inside_your_module": "Verdict:",
}


def cells(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def small_program(path) -> str:
    """The cells of code as one program, with small numbers."""
    parts = []
    for cell in cells(path):
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell["source"])
        if "parameters" in cell["metadata"].get("tags", ()):
            names = [node.targets[0].id for node in ast.parse(text).body]
            assert set(names) == set(SMALL[path.stem])
            text = "\n".join(f"{name} = {value!r}" for name, value in SMALL[path.stem].items())
        parts.append(text)
    return "\n\n".join(parts)


def test_there_are_five():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_clean_and_opens_in_colab(path):
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["nbformat"] == 4 and path.stat().st_size < 20_000
    code = [cell for cell in whole["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    ids = [cell["id"] for cell in whole["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)
    assert f"/blob/main/notebooks/{path.name})" in "".join(whole["cells"][0]["source"])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(tmp_path, path):
    (tmp_path / "notebook.py").write_text(small_program(path), encoding="utf-8")
    env = {"NOVUM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = programs.run("notebook.py", cwd=tmp_path, env=env, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert SAYS[path.stem] in done.stdout
