"""Shared by all tests: one torch thread, no display, and the command in this process and in one of its own."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

TESTS = Path(__file__).parent
ROOT, DATA, SUPPORT = TESTS.parent, TESTS / "data", TESTS / "support"
CONSOLE_SCRIPT = Path(sys.executable).with_name("rlrun")
RLRUN = [str(CONSOLE_SCRIPT)] if CONSOLE_SCRIPT.exists() else [sys.executable, "-m", "rlrun"]

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="rlrun-tests-")  # the key that runs are signed with
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every process that a test begins compiles the package anew
os.environ.pop("DISPLAY", None)
os.environ.pop("RLRUN_CONF", None)
os.environ.pop("RLRUN_DEBUG", None)
sys.path[:0] = [str(SUPPORT), str(ROOT / "scripts")]
for _signum, _handler in {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}.items():
    if signal.getsignal(_signum) is signal.SIG_IGN:  # nohup and a shell's & leave it so, and tests send it
        signal.signal(_signum, _handler)


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[Any]:
    """A cluster of Ray's whose nodes are all on this machine; it has one of two CPUs."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="session")
def ray_cluster(ray_nodes: Any) -> Iterator[Any]:
    """Ray, connected to it."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
    ray.init(address=ray_nodes.address, configure_logging=False, log_to_driver=False)
    signal.signal(signal.SIGTERM, handler)
    yield ray
    ray.shutdown()


BUDGET = 5.0  # CPU seconds of a test, its processes included: what costs more is told at the end


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", type=int, default=0, help="name the tests that cost most CPU time, so many of them")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Note what a test costs in CPU seconds: on a busy machine they are the same, unlike the clock's."""
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("cpu", cpu_seconds() - before))


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the last: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def cpu_seconds() -> float:
    """What this process has used so far, those that it has waited for, and the nursery's if there is one."""
    used = sum(os.times()[:4])
    for stat in Nursery.stat:
        used += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    return used


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    costs = sorted(
        ((cost, r.nodeid) for r in reports for name, cost in r.user_properties if name == "cpu"), reverse=True
    )
    dear = [(cost, test) for cost, test in costs if cost > BUDGET]
    if shown := costs[: max(config.getoption("--costs"), len(dear))]:
        terminalreporter.section(f"{len(dear)} tests cost more than {BUDGET:g} CPU seconds")
    for cost, test in shown:
        terminalreporter.line(f"{cost:6.2f}s {test}")


def algorithms() -> dict[str, str]:
    """Every algorithm of this package with an environment for it: one it has tuned values for, else one that fits."""
    from rlrun import registry, testing
    from rlrun.config import folders, plugins

    plugins.load_installed()
    tuned = folders.conf_dir() / "tuned"
    pairs = sorted(str(file.relative_to(tuned).with_suffix("")) for file in tuned.rglob("*.yaml"))
    found = {}
    for entry in (registry.get("algo", name) for name in registry.names("algo")):
        if entry.factory.__module__.startswith("rlrun."):
            envs = [pair.removeprefix(f"{entry.name}-") for pair in pairs if pair.startswith(f"{entry.name}-")]
            envs.sort(key=lambda env: env not in testing.FAST)  # stable: of the others the first
            fitting = "cartpole" if "box" in entry.needs.obs else "frozenlake"
            found[entry.name] = envs[0] if envs else fitting
    return found


@pytest.fixture(scope="session", autouse=True)
def painted() -> Iterator[Callable[[Any], bytes]]:
    """Figures of runs are drawn but not painted, which takes half the time of a small run. The function that does."""
    from rlrun.report import curves

    paint = curves.painted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "painted", lambda figure: b"")
        yield paint


@pytest.fixture
def paints(painted: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at the figure of a run."""
    monkeypatch.setattr("rlrun.report.curves.painted", painted)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that has finished; copy it before you change it."""
    from rlrun import cli

    path = tmp_path_factory.mktemp("finished") / "run"
    words = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.console=off", f"hydra.run.dir={path}"]
    assert cli.main(words) == 0
    return path


class Said(NamedTuple):
    """What a command wrote."""

    stdout: str
    stderr: str


Rlrun = Callable[..., Said]


@pytest.fixture
def rlrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rlrun:
    """`rlrun("algo=dqn", …)` in `tmp_path` and in this process; `code` is the exit code it must have."""
    from rlrun import cli

    monkeypatch.chdir(tmp_path)

    def run(*args: str, code: int = 0) -> Said:
        capsys.readouterr()
        found = cli.main(args)
        said = Said(*capsys.readouterr())
        assert found == code, f"exit {found}, wanted {code}\n{said.stdout}\n{said.stderr}"
        return said

    return run


@pytest.fixture
def process(tmp_path: Path) -> Rlrun:
    """The console script in `tmp_path` and in a process of its own, where every start costs two seconds."""

    def run(*args: str, code: int = 0) -> Said:
        done = subprocess.run([*RLRUN, *args], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == code, f"exit {done.returncode}, wanted {code}\n{done.stdout}\n{done.stderr}"
        return Said(done.stdout, done.stderr)

    return run


PATIENCE = 300.0  # seconds that a busy machine is given


class Warm:
    """A process that `nursery` has begun; what tests use of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int):
        self.nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ask(self.pid)
        return self.returncode

    def wait(self, seconds: float = PATIENCE) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, "it did not end"
            time.sleep(0.02)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Begins processes in no time, see support/nursery.py; what they say is in `folder/log`."""

    stat: ClassVar[list[Path]] = []  # where Linux says what it has used

    def __init__(self) -> None:
        command = [sys.executable, str(SUPPORT / "nursery.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stat[:] = [path for path in [Path(f"/proc/{self.process.pid}/stat")] if path.exists()]

    def begin(self, *program: str, folder: Path, **environment: str) -> Warm:
        """`python FILE WORD…` or `python -m MODULE WORD…` in a session of its own."""
        request = {"program": program, "folder": str(folder), "log": str(folder / "log"), "environment": environment}
        return Warm(self, self.ask(request))

    def ask(self, request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.stat.clear()
    made.process.communicate()


def session(
    folder: Path, *commands: Sequence[str], nursery: Nursery | None = None, **environment: str
) -> list[tuple[int, Said]]:
    """Commands one after the other in one process of their own, in a folder: exit codes and what each wrote.

    Without a nursery the process knows nothing beforehand, such as which packages are installed.
    """
    program = [str(SUPPORT / "session.py"), json.dumps(commands), "answers.json"]
    if nursery:
        assert nursery.begin(*program, folder=folder, **environment).wait() == 0, (folder / "log").read_text()
    else:
        variables = os.environ | environment
        done = subprocess.run([sys.executable, *program], cwd=folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return [(code, Said(*said)) for code, *said in json.loads((folder / "answers.json").read_text())]
