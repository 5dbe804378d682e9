"""Shared by all tests: one torch thread, no display, and the real console command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT, DATA, SUPPORT = TESTS.parent, TESTS / "data", TESTS / "support"
CONSOLE_SCRIPT = Path(sys.executable).with_name("rlrun")
RLRUN = [str(CONSOLE_SCRIPT)] if CONSOLE_SCRIPT.exists() else [sys.executable, "-m", "rlrun"]

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="rlrun-tests-")  # the key that runs are signed with
os.environ.pop("DISPLAY", None)
os.environ.pop("RLRUN_CONF", None)
os.environ.pop("RLRUN_DEBUG", None)
sys.path[:0] = [str(SUPPORT), str(ROOT / "scripts")]


def algorithms() -> dict[str, str]:
    """Every algorithm of this package with an environment for it: one it has tuned values for, else one that fits."""
    from rlrun import registry
    from rlrun.config import folders, plugins

    plugins.load_installed()
    tuned = folders.conf_dir() / "tuned"
    pairs = sorted(str(file.relative_to(tuned).with_suffix("")) for file in tuned.rglob("*.yaml"))
    found = {}
    for entry in (registry.get("algo", name) for name in registry.names("algo")):
        if entry.factory.__module__.startswith("rlrun."):
            envs = [pair.removeprefix(f"{entry.name}-") for pair in pairs if pair.startswith(f"{entry.name}-")]
            fitting = "cartpole" if "box" in entry.capabilities.get("obs", {"box"}) else "frozenlake"
            found[entry.name] = envs[0] if envs else fitting
    return found


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that has finished; copy it before you change it."""
    from rlrun import cli

    path = tmp_path_factory.mktemp("finished") / "run"
    words = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.console=off", f"hydra.run.dir={path}"]
    assert cli.main(words) == 0
    return path


Rlrun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rlrun(tmp_path: Path) -> Rlrun:
    """`rlrun("algo=dqn", …)` in `tmp_path`; `code` is the exit code it must have, other keywords are environment."""

    def run(*args: str, code: int = 0, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*RLRUN, *args],
            cwd=tmp_path,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == code, f"exit {done.returncode}, wanted {code}\n{done.stdout}\n{done.stderr}"
        return done

    return run
