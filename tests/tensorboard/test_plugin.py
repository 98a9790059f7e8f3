"""Routes of the plugin: what they serve, and what they refuse."""

import json
import os
import shutil
import tomllib
from argparse import Namespace

import pytest
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client
from werkzeug.wrappers import Response

from novum.report.novelty_record import FOLDER
from novum.report.reviews import REVIEWS
from novum.tensorboard.plugin import STATIC, NoveltyPlugin
from novum.tensorboard.runs import Runs, places_of
from tests.project import ROOT
from tests.tensorboard.made_runs import image_run, pair, text_run


class Server:
    """The plugin's routes, as TensorBoard calls them."""

    def __init__(self, logdir) -> None:
        self.plugin = NoveltyPlugin(TBContext(logdir=str(logdir), flags=Namespace(logdir_spec="")))
        self.apps = self.plugin.get_plugin_apps()

    def get(self, route, **query) -> Response:
        return Client(self.apps[route]).get(route, query_string=query)

    def post(self, content, **headers) -> Response:
        sent = {"Content-Type": "application/json"} | headers
        data = content if isinstance(content, str) else json.dumps(content)
        return Client(self.apps["/review"]).post("/review", data=data, headers=sent)


@pytest.fixture
def server(tmp_path):
    image_run(tmp_path / "logs" / "gan" / "version_0")
    text_run(tmp_path / "logs" / "a run")
    return Server(tmp_path / "logs")


def test_the_entry_point_and_the_files_of_the_page_are_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["tensorboard_plugins"]
    assert points == {"novum": "novum.tensorboard.plugin:NoveltyPlugin"}
    packaged = project["tool"]["setuptools"]["package-data"]["novum.tensorboard"]
    suffixes = {f"*.{name.rsplit('.')[1]}" for name in STATIC}
    assert suffixes == set(packaged)


def test_runs_are_named_as_tensorboard_names_them(server):
    assert server.plugin.is_active()
    found = server.get("/runs").json["runs"]
    assert [run["name"] for run in found] == ["a run", "gan/version_0"]
    assert all(run["reviewable"] for run in found)


def test_a_folder_without_runs_has_no_tab(tmp_path):
    (tmp_path / FOLDER).mkdir()
    assert not Server(tmp_path).plugin.is_active()
    assert not Server(tmp_path / "nowhere").plugin.is_active()


def test_the_timeline_comes_without_rows_and_these_one_step_at_a_time(server):
    timeline = server.get("/timeline", run="gan/version_0").json
    assert [e["step"] for e in timeline["evaluations"]] == [100, 200, 300, 400, 500]
    third = timeline["evaluations"][2]
    assert third["finding"] == "copying" and third["copy_rate"] == pytest.approx([0.2, 0.1, 0.25])
    assert set(third["stored"]) == {"table", "rows", "grid"} and "images" not in third
    rows = server.get("/rows", run="gan/version_0", step=300).json
    assert [row["fact"] for row in rows["images"]] == ["identical"] * 2 + [None] * 4
    picture = server.get("/picture", run="gan/version_0", step=300, name="rows")
    assert picture.data.startswith(b"\x89PNG") and picture.mimetype == "image/png"
    assert picture.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("/timeline", {"run": "../outside"}),
        ("/timeline", {"run": "gan/../gan/version_0"}),
        ("/timeline", {"run": "/etc"}),
        ("/timeline", {}),
        ("/rows", {"run": "a run", "step": "../../x"}),
        ("/rows", {"run": "a run", "step": "-1"}),
        ("/rows", {"run": "a run", "step": "٣"}),
        ("/picture", {"run": "a run", "step": "1000", "name": "../../../etc/passwd"}),
        ("/picture", {"run": "a run", "step": "1000", "name": "rows"}),
    ],
)
def test_nothing_of_a_request_becomes_a_path(server, tmp_path, route, query):
    image_run(tmp_path / "outside", 1)
    answer = server.get(route, **query)
    assert answer.status_code in (400, 404) and set(answer.json) == {"error"}
    assert "\n" not in answer.json["error"] and str(tmp_path) not in answer.json["error"]


def test_links_out_of_a_run_are_not_followed(server, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    folder = tmp_path / "logs" / "gan" / "version_0" / FOLDER
    name = "000000000000700.rows.png"
    os.symlink(secret, folder / name)
    query = {"run": "gan/version_0", "step": "700", "name": "rows"}
    assert server.get("/picture", **query).status_code == 404
    (folder / name).unlink()
    (folder / name).write_bytes(b"<html>")
    assert server.get("/picture", **query).status_code == 404  # whatever its name says
    os.remove(folder / name)
    os.mkfifo(folder / name)
    assert server.get("/picture", **query).status_code == 404


def test_a_linked_run_is_shown_but_not_written_to(tmp_path):
    image_run(tmp_path / "elsewhere", 1)
    (tmp_path / "logs").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "logs" / "linked")
    os.symlink(tmp_path / "logs", tmp_path / "logs" / "again")  # a circle
    server = Server(tmp_path / "logs")
    assert server.get("/runs").json["runs"][0]["name"] == "linked"
    assert not server.get("/runs").json["runs"][0]["reviewable"]
    answer = server.post({"run": "linked", "pair": pair(1), "decision": "confirmed"})
    assert answer.status_code == 403
    assert not (tmp_path / "elsewhere" / REVIEWS).exists()


def test_reviews_are_kept_beside_the_report_and_taken_back(server, tmp_path):
    ask = {"run": "gan/version_0", "pair": pair(300), "decision": "confirmed"}
    assert server.post(ask).json == {"reviews": {pair(300): "confirmed"}}
    path = tmp_path / "logs" / "gan" / "version_0" / REVIEWS
    assert set(json.loads(path.read_text())["pairs"]) == {pair(300)}
    assert server.get("/timeline", run="gan/version_0").json["reviews"] == {pair(300): "confirmed"}
    server.post(ask | {"pair": pair(301), "decision": "rejected"})
    assert server.post(ask | {"decision": None}).json == {"reviews": {pair(301): "rejected"}}


@pytest.mark.parametrize(
    "content",
    [
        {"run": "gan/version_0", "pair": "../../x", "decision": "confirmed"},
        {"run": "gan/version_0", "pair": pair(1), "decision": "<script>"},
        {"run": "gan/version_0", "pair": pair(1).upper() + "A", "decision": "rejected"},
        {"run": "gan/version_0", "pair": [pair(1)], "decision": "rejected"},
        {"run": ["gan/version_0"], "pair": pair(1), "decision": "rejected"},
        {"run": "../outside", "pair": pair(1), "decision": "rejected"},
        {"run": "gan/version_0", "pair": pair(1), "decision": ["rejected"]},
        {"pair": pair(1), "decision": "rejected"},
        [1],
        "not json",
        "[" * 5000,
    ],
)
def test_a_review_of_another_form_is_refused(server, tmp_path, content):
    answer = server.post(content)
    assert answer.status_code in (400, 404) and "\n" not in answer.json["error"]
    assert not list((tmp_path / "logs").rglob(REVIEWS))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_from_elsewhere_cannot_review(server, headers, code):
    ask = {"run": "gan/version_0", "pair": pair(300), "decision": "confirmed"}
    assert server.post(ask, **headers).status_code == code


def test_a_review_is_posted_and_not_asked_for(server):
    assert server.get("/review", run="a run").status_code == 405
    assert Client(server.apps["/runs"]).post("/runs").status_code == 405
    too_long = json.dumps({"run": "a run", "pair": "x" * 20_000, "decision": None})
    assert server.post(too_long).status_code == 413


def test_a_broken_list_of_reviews_is_told_and_kept(server, tmp_path):
    path = tmp_path / "logs" / "gan" / "version_0" / REVIEWS
    path.write_text("{")
    answer = server.post({"run": "gan/version_0", "pair": pair(1), "decision": "confirmed"})
    assert answer.status_code == 400 and "move it away" in answer.json["error"]
    assert path.read_text() == "{"


def test_a_run_that_goes_on_is_read_again(server, tmp_path):
    run = tmp_path / "logs" / "gan" / "version_0"
    before = server.get("/runs").json["runs"][1]["version"]
    assert len(server.get("/timeline", run="gan/version_0").json["evaluations"]) == 5
    image_run(run, 6)
    assert len(server.get("/timeline", run="gan/version_0").json["evaluations"]) == 6
    assert server.get("/runs").json["runs"][1]["version"] != before


def test_log_folders_may_be_several(tmp_path):
    image_run(tmp_path / "one", 1)
    image_run(tmp_path / "two" / "deep", 1)
    spec = f"a:{tmp_path / 'one'},b:{tmp_path / 'two'},c:gs://bucket/x"
    assert set(Runs(places_of("", spec)).find()) == {"a", "b/deep"}
    assert places_of("s3://bucket") == {} and places_of("") == {}
    assert list(Runs(places_of(str(tmp_path / "one"))).find()) == ["."]


def test_a_run_that_is_removed_meanwhile_breaks_nothing(server, tmp_path):
    assert len(server.get("/runs").json["runs"]) == 2
    shutil.rmtree(tmp_path / "logs" / "gan")
    answer = server.get("/runs")
    assert answer.status_code == 200 and answer.json["runs"][1]["version"] == "0-0"
    assert server.get("/timeline", run="gan/version_0").status_code in (200, 400)
    assert len(server.get("/timeline", run="a run").json["evaluations"]) == 1
