"""The Dockerfile by the rules that hadolint checks, and by what it copies and pins.

CI asks BuildKit too (`docker build --check`); this needs no Docker.
"""

import json
import re
import runpy
import shlex
import subprocess

import pytest

from tests.project import ROOT

INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its arguments, lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined]


def problems(text: str) -> list[str]:
    """Breaches of the rules, named by hadolint's numbers."""
    found, stages, arguments = [], {}, {}
    for line in re.findall(r"^# hadolint .*", text, re.M):
        if not re.fullmatch(r"# hadolint ignore=DL\d+(,DL\d+)*", line):
            found.append(f"{line}: hadolint reads no pragma with more behind it")
    kind, last_user = "", ""
    given = instructions(text)
    for kind, rest in given:
        words = shlex.split(rest) if kind not in ("RUN", "CMD") else []
        if kind not in INSTRUCTIONS:
            found.append(f"{kind} is not used here (DL3020, DL4000)")
        elif kind == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif kind == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], words[0])
            if image not in stages and not re.search(r":(?!latest)[\w.-]+$", image):
                found.append(f"FROM {image}: no version (DL3006, DL3007)")
            if len(words) == 3:
                stages[words[2]] = image
            last_user = ""
        elif kind == "USER":
            last_user = rest
            if not rest.isdecimal():
                found.append(f"USER {rest} is no number, which every host knows (DL3066)")
        elif kind == "WORKDIR" and not rest.startswith("/"):
            found.append(f"WORKDIR {rest} is relative (DL3000)")
        elif kind == "CMD" and not _is_json_list(rest):
            found.append("CMD is no JSON list (DL3025)")
        elif kind == "RUN":
            found += _of_run(rest)
        elif kind == "COPY":
            found += _of_copy(words, stages)
    if last_user in ("", "root", "0"):
        found.append("the last user is root (DL3002)")
    if [kind for kind, _ in given].count("CMD") != 1:
        found.append("one CMD (DL4003)")
    return found


def _is_json_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _of_run(command: str) -> list[str]:
    found = []
    if subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode:
        found.append(f"RUN {command}: not shell")
    if re.search(r"\b(sudo|cd|curl|wget|ssh|apt)\b", command):
        found.append(f"RUN {command}: sudo, cd, apt or a download (DL3003, DL3004, DL3027)")
    if "apt-get install" in command and "rm -rf /var/lib/apt/lists" not in command:
        found.append(f"RUN {command}: leaves lists of apt (DL3009)")
    if "|" in command.replace("||", ""):
        found.append(f"RUN {command}: a pipe without pipefail (DL4006)")
    for part in re.split(r"&&", command):
        if "pip install" in part and not {"--require-hashes", "--no-deps"} & {*part.split()}:
            found.append(f"RUN {part}: installs what is not pinned (DL3013)")
    return found


def _of_copy(words: list[str], stages: dict) -> list[str]:
    *sources, _ = [word for word in words if not word.startswith("--")]
    stage = next((w.removeprefix("--from=") for w in words if w.startswith("--from=")), None)
    if stage is not None:
        return [] if stage in stages else [f"COPY --from={stage}: no such stage (DL3022)"]
    missing = [source for source in sources if not (ROOT / source).exists()]
    return [f"COPY {source}: is not here" for source in missing]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_keeps_the_rules_for_either_device(device):
    text = (ROOT / "Dockerfile").read_text().replace("ARG DEVICE=cpu", f"ARG DEVICE={device}")
    assert problems(text) == []


@pytest.mark.parametrize(("line", "instead", "says"), [
    ("USER 1000\n", "", "DL3002"),
    ("USER 1000", "USER root", "DL3002"),
    ("USER 1000", "USER novum", "DL3066"),
    ("# hadolint ignore=DL3006", "# hadolint ignore=DL3006 -- a stage", "pragma"),
    ("3.11-slim-bookworm", "latest", "DL3006"),
    ("WORKDIR /data", "WORKDIR data", "DL3000"),
    ('CMD ["novum-evaluate", "--help"]', "CMD novum-evaluate", "DL3025"),
    ("COPY configs configs", "COPY config configs", "is not here"),
    ("COPY novum novum", "ADD novum novum", "DL3020"),
    ("--from=installed", "--from=instaled", "DL3022"),
    ("--require-hashes --only-binary :all: --requirement /tmp/cons", "--requirement /tmp/cons",
     "DL3013"),
    ("RUN useradd", "RUN curl x | sh && useradd", "DL4006"),
    ("RUN useradd", "RUN ( useradd", "not shell"),
    ("packages-${DEVICE}", "package-${DEVICE}", "DL3006"),
])  # fmt: skip
def test_a_breach_is_noticed(line, instead, says):
    text = (ROOT / "Dockerfile").read_text()
    assert line in text
    assert any(says in problem for problem in problems(text.replace(line, instead)))


def test_all_that_is_copied_is_let_through_and_makes_the_package():
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert let_through[0] == "*"
    sources = [
        source
        for kind, rest in instructions((ROOT / "Dockerfile").read_text())
        if kind == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {f"!{source}" for source in sources} == {x for x in let_through if x.startswith("!")}
    links = {path.name for path in (ROOT / "novum").iterdir() if path.is_symlink()}
    assert links <= set(sources)  # links of the package lead to folders beside it


def test_torch_alone_loses_its_hashes_and_cuda_is_left_out():
    parts = runpy.run_path(str(ROOT / ".ci" / "without_cuda.py"))["parts"]
    text = (ROOT / "constraints.txt").read_text()
    others, torch = parts(text)
    name = re.compile(r"^([a-z0-9-]+)==", re.M)
    every, kept, of_torch = (set(name.findall(x)) for x in (text, others, torch))
    assert of_torch == {"torch", "torchvision"} and "--hash" not in torch
    left_out = every - kept - of_torch
    assert left_out and all(x.startswith(("nvidia-", "cuda-", "triton")) for x in left_out)
    assert others.count("--hash") > len(kept) and {"numpy", "pytorch-lightning"} <= kept
