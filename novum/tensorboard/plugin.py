"""TensorBoard plugin: serves what runs have in `novelty/`, and keeps a person's reviews.

Nothing of a request becomes part of a path: runs are looked up by name, pictures by their step.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from novum.core.errors import InputError, first_line
from novum.core.files import read_regular
from novum.report.colours import follow_attribute
from novum.report.novelty_record import (
    FOLDER,
    MOST_BYTES,
    SUFFIXES,
    Evaluation,
    picture_path,
    read_rows,
)
from novum.report.reviews import decide, read_reviews
from novum.tensorboard.runs import Run, Runs, places_of

STATIC = {"novelty.js": "text/javascript", "novelty.css": "text/css"}
TYPES = {"png": "image/png", "jpg": "image/jpeg"}
PICTURES = ("rows", "grid")
STORED = re.compile(r"(\d{15})\.(rows|grid)\.(json|png|jpg)")  # in a run's folder
MOST_ASKED = 10_000  # bytes of a review
KEPT_BY_BROWSER = 3600  # seconds; a picture that is written again has another address


class Refused(Exception):
    """A request that is not answered, with the status of HTTP and a line that says why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoveltyPlugin(base_plugin.TBPlugin):
    """The Novelty tab."""

    plugin_name = "novum_novelty"

    def __init__(self, context: base_plugin.TBContext) -> None:
        spec = getattr(context.flags, "logdir_spec", "") or ""
        self._runs = Runs(places_of(context.logdir or "", spec))

    def get_plugin_apps(self) -> dict[str, Any]:
        answers = {"/runs": self._list, "/timeline": self._timeline, "/rows": self._rows}
        apps = {route: _app(answer) for route, answer in answers.items()}
        apps |= {"/picture": _app(self._picture), "/review": _app(self._review, "POST")}
        return apps | {f"/{name}": _app(_static(name)) for name in STATIC}

    def is_active(self) -> bool:
        return bool(self._runs.find())

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        return base_plugin.FrontendMetadata(es_module_path="/novelty.js", tab_name="Novelty")

    def _list(self, request: wrappers.Request) -> wrappers.Response:
        found = [
            {"name": name, "version": self._runs.version(name), "reviewable": run.inside}
            for name, run in self._runs.find().items()
        ]
        return http_util.Respond(request, {"runs": found}, "application/json")

    def _timeline(self, request: wrappers.Request) -> wrappers.Response:
        name, run = self._asked(request)
        stored = _stored(run.folder)
        content = {
            "evaluations": [_brief(e, stored.get(e.step, {})) for e in self._runs.timeline(name)],
            "reviews": read_reviews(run.folder),
        }
        text = json.dumps(content)  # TensorBoard's own way is slow with thousands of evaluations
        return http_util.Respond(request, text, "application/json")

    def _rows(self, request: wrappers.Request) -> wrappers.Response:
        _, run = self._asked(request)
        content = asdict(read_rows(run.folder, _step(request)))
        return http_util.Respond(request, content, "application/json")

    def _picture(self, request: wrappers.Request) -> wrappers.Response:
        _, run = self._asked(request)
        name = request.args.get("name", "")
        path = picture_path(run.folder, _step(request), name) if name in PICTURES else None
        if path is None:
            raise Refused(404, "no such picture")
        data = read_regular(path, MOST_BYTES)
        kind = TYPES[SUFFIXES[data[:4]]] if data[:4] in SUFFIXES else None
        if kind is None:
            raise Refused(404, "the file is no PNG or JPEG")
        return http_util.Respond(request, data, kind, expires=KEPT_BY_BROWSER)

    def _review(self, request: wrappers.Request) -> wrappers.Response:
        _require_own_page(request)
        if (request.content_length or 0) > MOST_ASKED:
            raise Refused(413, "a review is a run, a pair and a decision")
        try:
            asked = json.loads(request.get_data())
            name, pair, decision = asked["run"], asked["pair"], asked["decision"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Refused(400, "a review is JSON of run, pair and decision") from error
        run = self._run(name)
        if not run.inside:
            raise Refused(403, "this run is a link out of the log folder: open it where it is")
        content = {"reviews": decide(run.folder, pair, decision)}
        return http_util.Respond(request, content, "application/json")

    def _asked(self, request: wrappers.Request) -> tuple[str, Run]:
        name = request.args.get("run", "")
        return name, self._run(name)

    def _run(self, name: Any) -> Run:
        run = self._runs.find().get(name) if isinstance(name, str) else None
        if run is None:
            raise Refused(404, "no such run")
        return run


def _app(answer: Callable[[wrappers.Request], wrappers.Response], method: str = "GET") -> Any:
    """A WSGI application that says in one line what it refuses."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        try:
            if request.method != method:
                raise Refused(405, f"{method} is the one method here")
            return answer(request)
        except (Refused, InputError, OSError) as error:
            code = error.code if isinstance(error, Refused) else 400
            message = {"error": first_line(error)}
            return http_util.Respond(request, message, "application/json", code=code)

    return app


def _static(name: str) -> Callable[[wrappers.Request], wrappers.Response]:
    def answer(request: wrappers.Request) -> wrappers.Response:
        data = (Path(__file__).parent / name).read_text(encoding="utf-8")
        if name.endswith(".css"):
            data = follow_attribute() + data
        return http_util.Respond(request, data, STATIC[name])

    return answer


def _step(request: wrappers.Request) -> int:
    text = request.args.get("step", "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(400, "step is a whole number")
    return int(text)


def _stored(folder: Path) -> dict[int, dict[str, int]]:
    """Time of the last change of each picture, and of rows, by step."""
    found: dict[int, dict[str, int]] = {}
    for path in (folder / FOLDER).iterdir():
        if match := STORED.fullmatch(path.name):
            step, name, suffix = match.groups()
            name = "table" if suffix == "json" else name
            found.setdefault(int(step), {})[name] = path.lstat().st_mtime_ns
    return found


def _brief(evaluation: Evaluation, stored: dict[str, int]) -> dict[str, Any]:
    """An evaluation as the page wants it: estimates as [value, low, high]."""
    content: dict[str, Any] = dict(vars(evaluation))
    rate = evaluation.copy_rate
    content["copy_rate"] = rate and [rate.value, rate.low, rate.high]
    figures = evaluation.figures.items()
    content["figures"] = {
        tag: [e.value] if e.low is None and e.high is None else [e.value, e.low, e.high]
        for tag, e in figures
    }
    return content | {"stored": {name: str(changed) for name, changed in stored.items()}}


def _require_own_page(request: wrappers.Request) -> None:
    """Refuse what a page from elsewhere may send with a visitor's browser."""
    if request.mimetype != "application/json":  # a form or a script of another page cannot send it
        raise Refused(415, "a review is sent as application/json")
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = site is not None and site not in ("same-origin", "none")
    if site is None and origin is not None:
        foreign = urlsplit(origin).netloc != request.host
    if foreign:
        raise Refused(403, "reviews are taken from TensorBoard's own page alone")
