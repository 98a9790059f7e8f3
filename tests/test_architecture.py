"""Rooms and arrows of docs/architecture.md: no import points up, and none makes a circle."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import programs
from tests.project import ROOT

ROOMS = {  # what each room may import from, beside itself
    "core": set(),
    "lightning_modules": {"core"},
    "datamodules": {"core"},
    "metrics": {"core", "datamodules"},
    "report": {"core", "datamodules", "metrics"},
    "tensorboard": {"core", "report"},
    "evaluation": {"core", "datamodules", "metrics", "report"},
    "callbacks": {"core", "datamodules", "metrics", "report", "evaluation", "lightning_modules"},
    "cli": {
        "core", "datamodules", "metrics", "report", "evaluation", "lightning_modules", "callbacks",
    },
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for room in ROOMS:
        for path in (ROOT / "novum" / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            found[name] = path
    return found


def imports(path: Path, anywhere: bool) -> Iterator[str]:
    """Novum modules that a module imports: when it is imported, or anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if anywhere else iter(tree.body)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("novum"):
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("novum"))


def graph(anywhere: bool) -> dict[str, set[str]]:
    known = modules()
    edges: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for target in imports(path, anywhere):
            while target not in known and "." in target:
                target = target.rpartition(".")[0]
            targets.add(target)
        edges[name] = {t for t in targets if t in known} - {name}
    return edges


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_import_points_up():
    wrong = {
        (source, target)
        for source, targets in graph(anywhere=True).items()
        for target in targets
        if room(target) != room(source) and room(target) not in ROOMS[room(source)]
    }
    assert wrong == set()


def test_no_circles():
    try:
        TopologicalSorter(graph(anywhere=False)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", ROOMS)
def test_no_file_name_occurs_twice_in_a_room(name):
    own = (ROOT / "novum" / name).rglob("*.py")
    twice = {stem for stem, n in Counter(path.stem for path in own).items() if n > 1}
    assert twice - {"__init__"} == set()


TECHNIQUES = {  # class -> module or package of it
    "Adversarial": "adversarial",
    "CharLSTM": "char_lstm",
    "CharTransformer": "char_transformer",
    "ClassVisualisation": "dreams",
    "Classifier": "classifier",
    "DeepDream": "dreams",
    "FlowMatching": "flow_matching",
    "GAN": "gan",
    "StyleGAN": "stylegan",
    "StyleTransfer": "style_transfer",
}
PLACES = set(TECHNIQUES.values()) - {"adversarial", "classifier", "gan"}  # other things' names, too
NAMING = {  # all other files of what techniques share know them by protocols alone
    "core/security/places.py",  # a list: arguments of classes that name files
    "callbacks/latent_space.py",  # style spaces
    "cli/explore_commands.py",  # style spaces
    "cli/explore_export.py",  # how a graph is told its solver's steps
}


def named_in(path: Path) -> set[str]:
    """Techniques that a module's code names or imports; not those of docstrings and messages."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            named.add(node.id)
        elif isinstance(node, ast.Attribute):
            named.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value.rsplit(".", 1)[-1])
        elif isinstance(node, ast.Import | ast.ImportFrom):
            whole = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            named |= {part for name in whole for part in name.split(".")}
    return {x for x, place in TECHNIQUES.items() if x in named or place in named & PLACES}


def test_a_technique_is_a_module_its_networks_a_config_a_test_and_a_page():
    """So adding one changes no file but these and lists."""
    from novum import lightning_modules

    classes = {name: getattr(lightning_modules, name) for name in lightning_modules.__all__}
    known = {name for name, cls in classes.items() if hasattr(cls, "training_step")}
    assert set(TECHNIQUES) == known
    shared = [path for path in modules().values() if "lightning_modules" not in path.parts]
    naming = {str(path.relative_to(ROOT / "novum")) for path in shared if named_in(path)}
    assert naming == NAMING


QUESTION = re.compile(r"(What|Whether|Of|Where|Which|How|When|Why|Who)\b")
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_docstrings_open_with_a_noun_or_a_verb():
    paths = [*modules().values(), *(ROOT / "benchmarks").glob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, DEFINITIONS) and QUESTION.match(text := ast.get_docstring(node) or "")
    ]
    assert wrong == []


def loaded_by(code: str) -> set[str]:
    """Modules that a fresh interpreter has after this code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


HEAVY = {
    "datasets", "matplotlib", "pytorch_lightning", "scipy", "sklearn", "tensorboard", "timm",
    "torch_fidelity", "torchmetrics", "torchvision",
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import novum", HEAVY | {"torch"}),
        ("import novum.metrics", HEAVY),
        ("from novum.metrics import frechet_distance, copy_test", HEAVY),
        ("import novum.metrics.registry; novum.metrics.registry.metrics()", HEAVY - {"datasets"}),
        (
            "from novum.cli import train, evaluate, generate, explore",
            HEAVY | {"torch"},
        ),
    ],
)
def test_what_is_not_asked_for_is_not_imported(code, absent):
    assert loaded_by(code) & absent == set()


def of_novum_loaded_by(code: str) -> set[str]:
    """The same of Novum alone, which a forked program starts without."""
    done = programs.run("-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n')", cwd=ROOT)
    done.check_returncode()
    return {name for name in done.stdout.split() if name.startswith("novum.")}


@pytest.mark.slow
def test_an_evaluation_loads_no_technique():
    loaded = of_novum_loaded_by("import novum.evaluation.images")
    techniques = [m for m in loaded if "lightning_mod" in m]
    assert "novum.evaluation.images" in loaded
    assert techniques == []


@pytest.mark.slow
def test_a_dcgan_loads_no_other_technique():
    code = "from novum.core.security.allowed import find_allowed\n" + "\n".join(
        f"find_allowed('novum.lightning_modules.{name}')"
        for name in ("GAN", "networks.DCGANGenerator", "networks.DCGANDiscriminator")
    )
    loaded = of_novum_loaded_by(code)
    techniques = (
        "stylegan",
        "dreams",
        "style_transfer",
        "char_lstm",
        "char_transformer",
        "adversarial",
        "classifier",
    )
    others = tuple(f"novum.lightning_modules.{name}" for name in techniques)
    assert "novum.lightning_modules.gan" in loaded
    assert [m for m in loaded if m.startswith(others) and "adversarial_training" not in m] == []
