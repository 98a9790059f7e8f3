"""The wheel installs under one name and trains from another folder."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import programs
from tests.project import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds what `pip install` of the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__"),
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(copy)], check=True, capture_output=True)
    (wheel,) = folder.glob("novum-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_only_novum_lands_in_site_packages(site):
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"novum"}
    assert not (site / "novum" / "tests").exists()
    assert (site / "novum" / "configs" / "dcgan_digits.yaml").is_file()
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "novum-train = novum.cli.train:main" in entry_points.read_text()
    assert "novum-evaluate = novum.cli.evaluate:main" in entry_points.read_text()
    assert "novum = novum.tensorboard.plugin:NoveltyPlugin" in entry_points.read_text()
    assert {"novelty.js", "novelty.css"} < {p.name for p in (site / "novum/tensorboard").iterdir()}


@pytest.mark.slow
def test_installed_command_trains_a_config_by_name(site, tmp_path):
    script = tmp_path / "novum-train"  # what pip writes for an entry point
    script.write_text("import sys\nfrom novum.cli.train import main\nsys.exit(main())\n")
    done = subprocess.run(
        [sys.executable, str(script), "fit", "--config", "dcgan_digits",
         "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONVERBOSE": ""},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    where = subprocess.run(
        [sys.executable, "-c", "import novum.cli.train; print(novum.cli.train.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip().startswith(str(site))
    command = (script, "fit", "--config", "nowhere")
    mistake = programs.run(*command, cwd=tmp_path, env={"PYTHONPATH": str(site)})
    assert mistake.returncode == 2
    assert mistake.stderr.splitlines()[-1].startswith("novum-train: ")
