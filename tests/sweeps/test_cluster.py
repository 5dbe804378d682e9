"""Sweeps on a cluster: by Ray, by submitit, and by a scheduler of a few lines that needs neither.

The jobs are those of tests/support/fake_job.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch  # noqa: F401  the checks of jobs are forked, and have it from here
from conftest import SUPPORT

from rlrun import cli
from rlrun.commands import sweep
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import Sweep
from rlrun.sweeps import board, cluster, pool

SMOKE = ["algo=q_learning", "env=frozenlake", "+smoke=on", "hydra.sweep.dir=sweep"]


@dataclass
class Queued:
    """A keeper's call in a process, which has nothing of this one but the arguments."""

    args: tuple
    popen: subprocess.Popen | None = None

    def done(self):
        return self.popen.poll() is not None

    def result(self):
        if self.popen.returncode:
            raise cluster.Lost(f"the keeper ended with {self.popen.returncode}")
        return json.loads(self.popen.stdout.read())

    def cancel(self):
        self.popen.send_signal(signal.SIGINT)


class Plain(cluster.Cluster):
    def __init__(self, sweep, time_limit, cpus, gpus, *rest, **options):
        super().__init__(sweep, time_limit, cpus, gpus)

    def connect(self, stack):
        pass

    def submit(self, function, *args):
        call = (
            "import json, sys; from rlrun.sweeps import cluster; print(json.dumps(cluster.keep(*json.load(sys.stdin))))"
        )
        popen = subprocess.Popen([sys.executable, "-c", call], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        popen.stdin.write(json.dumps(args).encode())
        popen.stdin.close()
        return Queued(args, popen)


@pytest.fixture(params=["plain", "submitit", "ray"])
def on(request, monkeypatch):
    """The word that sends jobs to a cluster of this kind."""
    if request.param == "plain":
        monkeypatch.setattr(cluster, "OnSlurm", Plain)
        monkeypatch.setattr(cluster, "must_be_installed", lambda cluster: None)
        return "sweep.cluster=slurm"
    pytest.importorskip(request.param)
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return f"sweep.cluster={request.param}"


@pytest.fixture(autouse=True)
def deeds(tmp_path, monkeypatch):
    """Jobs are fake ones; called with pairs of seed and deed it says what they do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, str(SUPPORT / "fake_job.py")])
    monkeypatch.setattr(cluster, "TICK", 0.1)
    monkeypatch.setattr(cluster.Cluster, "tick", 0.1)

    def given(*pairs):
        monkeypatch.setenv("FAKE_DEEDS", ",".join(f"{seed}:{deed}" for seed, deed in pairs))

    given()
    return given


def outcomes():
    return {job.seed: outcome for job, outcome in Sweep.read(Path("sweep")).outcomes()}


def states():
    return [outcome.state for outcome in outcomes().values()]


def attempts():
    record = Sweep.read(Path("sweep"))
    return [json.loads(record.run(job).status.read_bytes())["attempts"] for job in record.jobs]


class Stopping(board.Lines):
    """A board that sends this process a signal when two jobs are at work."""

    sent = False

    def refresh(self):
        if not self.sent and len(list(self.sweep.path.glob("*/at_work"))) == 2:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)


def test_no_job_is_lost_on_a_cluster(on, deeds, monkeypatch, capsys):
    deeds((1, "exit"), (2, "kill"), (3, "refuse"), (4, "work"))
    assert cli.main(["-m", *SMOKE, "seed=range(5)", on, "sweep.cpus=0.5", "sweep.time_limit=5"]) == 1
    assert states() == ["finished", *["failed"] * 4]
    reasons = [outcome.reason for outcome in outcomes().values()]
    assert reasons[1:3] == ["ended with exit code 3 and without a word", "killed by SIGKILL"]
    assert reasons[3] == "algo.gamma: is not to my taste\ntry another"
    assert reasons[4] == "over its time limit of 5 s"
    out = capsys.readouterr().out
    assert "5 jobs, 5 at a time" in out and "job 1 of 5 finished: 0_s0: 0 ± 0.5000" in out

    deeds((1, "work"), (4, "work"))
    monkeypatch.setattr(sweep, "board", Stopping)
    for path in Path("sweep").glob("*/at_work"):
        path.unlink()
    assert cli.main(["resume", "sweep", "retry=failed", "sweep.time_limit=null"]) == 130
    assert (states()[1], states()[4]) == ("preempted", "preempted")
    monkeypatch.setattr(sweep, "board", board.Lines)
    deeds()
    assert cli.main(["resume", "sweep", "sweep.cluster=null"]) == 0
    assert states() == ["finished"] * 5 and attempts()[:2] == [1, 3]


def test_a_job_in_the_queue_is_taken_out(deeds, monkeypatch, request):
    ray = request.getfixturevalue("ray_cluster")
    deeds((0, "work"), (1, "work"))
    monkeypatch.setattr(sweep, "board", Stopping)
    cpus = ray.cluster_resources()["CPU"] / 2
    assert cli.main(["-m", *SMOKE, "seed=range(4)", "sweep.cluster=ray", f"sweep.cpus={cpus}"]) == 130
    assert states() == ["preempted", "preempted", "not started", "not started"]


def test_a_node_that_is_gone_costs_no_job(deeds, monkeypatch, request):
    request.getfixturevalue("ray_cluster")
    nodes = request.getfixturevalue("ray_nodes")
    node = nodes.add_node(num_cpus=3)
    deeds((0, "work"))

    class Killing(board.Lines):
        def refresh(self):
            if node in nodes.worker_nodes and list(self.sweep.path.glob("*/at_work")):
                nodes.remove_node(node, allow_graceful=False)

    monkeypatch.setattr(sweep, "board", Killing)
    assert cli.main(["-m", *SMOKE, "seed=0", "sweep.cluster=ray", "sweep.cpus=3"]) == 1
    assert states() == ["preempted"]
    monkeypatch.setattr(sweep, "board", board.Lines)
    deeds()
    assert cli.main(["resume", "sweep", "sweep.cpus=1"]) == 0
    assert states() == ["finished"]


def test_a_node_has_to_see_the_sweep(tmp_path):
    found = cluster.keep(str(tmp_path / "away"), 0, [], None, [], {})
    assert found["state"] == "failed" and "the nodes of a cluster have to share" in found["reason"]


@pytest.mark.parametrize(("on", "module", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")])
def test_what_a_cluster_needs_is_named(monkeypatch, capsys, on, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["-m", *SMOKE, "seed=0,1", f"sweep.cluster={on}"]) == 2
    err = capsys.readouterr().err
    assert "which is not installed" in err and f"pip install 'rlrun[{extra}]'" in err
    assert not Path("sweep").exists()


def test_without_slurm_there_is_none(monkeypatch, capsys):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["-m", *SMOKE, "seed=0,1", "sweep.cluster=slurm"]) == 1
    assert "sweep.cluster: there is no Slurm here" in capsys.readouterr().err


def test_a_real_job_is_the_same_on_a_cluster(monkeypatch, request):
    request.getfixturevalue("ray_cluster")
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-P", "-m", "rlrun.worker"])
    words = ["algo=random", "env=toy", "+smoke=on"]
    assert cli.main(["-m", *words, "seed=1,2", "hydra.sweep.dir=sweep", "sweep.cluster=ray", "sweep.jobs=1"]) == 0
    assert cli.main([*words, "seed=2", "hydra.run.dir=single"]) == 0
    job, single = RunDir("sweep/1_s2"), RunDir("single")
    for file in ("config.yaml", "overrides.yaml"):
        assert (job.path / file).read_bytes() == (single.path / file).read_bytes()
    finals = [json.loads(run.summary.read_text())["final_eval"] for run in (job, single)]
    assert finals[0] == finals[1]
    assert states() == ["finished"] * 2
