import pytest

from novum.core.files import write_json


def test_json_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}'
