"""--compare reads reports of anybody."""

import json
from pathlib import Path

from hypothesis import given

from novum.cli import evaluate
from tests.fuzz import strategies as hostile
from tests.fuzz.outcome import empty_folder, ends_well, examples


@examples(150)
@given(hostile.report_files())
def test_compare(data):
    with empty_folder():
        Path("a.json").write_bytes(data)
        Path("b.json").write_text(json.dumps(hostile.report("<script>alert(1)</script>")))
        code = ends_well(
            "evaluate.py", lambda: evaluate.main(["--compare", "a.json", "b.json", "--output", "o"])
        )
        page = Path("o/compare.html")
        assert page.is_file() == (code == 0)
        if code == 0:
            text = page.read_text(encoding="utf-8")
            assert text.endswith("</html>\n") and "<script" not in text
