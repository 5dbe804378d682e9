"""The wheel works on its own: in an empty environment, from another directory, with read-only site-packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

PIP = ["--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    options = [*PIP, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (built,) = folder.iterdir()
    return built


def test_it_holds_the_package_and_every_yaml_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "rlrun").rglob("*.py")}
    configs = {f"rlrun/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(modules) > 30
    assert len(configs) > 20
    assert {name for name in names if ".dist-info/" not in name} == modules | configs | {"rlrun/py.typed"}


@pytest.mark.slow
@pytest.mark.wheel
def test_it_trains_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    home, work = tmp_path / "venv", tmp_path / "work"
    venv.create(home, with_pip=True)
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([home / "bin" / "pip", "install", *PIP, *constraints, str(wheel)], check=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    before = snapshot(site)
    work.mkdir()
    environment = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    command = [str(home / "bin" / "rlrun"), "algo=dqn", "env=cartpole", "total_timesteps=2000", "hydra.run.dir=run"]
    subprocess.run(["chmod", "-R", "a-w", str(site)], check=True)
    try:
        subprocess.run(command, cwd=work, env=environment, check=True)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(site)], check=True)
    assert json.loads((work / "run" / "status.json").read_text())["state"] == "finished"
    assert (work / "run" / "checkpoints" / "last" / "manifest.json").is_file()
    assert snapshot(site) == before, "root may write where it should not"


def snapshot(folder: Path) -> dict[Path, int]:
    """Every file with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
