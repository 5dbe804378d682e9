"""Sweeps: what jobs are called, that none is lost whatever it does, and what the table at the end says.

Most of the jobs here are those of tests/support/fake_job.py, which start in a moment; at the end one is real.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch  # noqa: F401  the checks of jobs are forked, and have it from here
import yaml
from conftest import SUPPORT
from rich.console import Console

from rlrun import cli
from rlrun.commands import sweep
from rlrun.errors import Interrupted, RlrunError
from rlrun.rundir import find
from rlrun.rundir.layout import RunDir
from rlrun.rundir.sweep import RECORD, Job, Outcome, Sweep, label
from rlrun.sweeps import board, pool, preflight
from rlrun.sweeps import table as sweeps
from rlrun.sweeps.pool import Pool

FAKE = SUPPORT / "fake_job.py"
SMOKE = ["algo=q_learning", "env=frozenlake", "+smoke=on", "logger.tensorboard=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake(monkeypatch):
    """Jobs are fake ones; called with `0="exit"` and the like it says what those with these seeds do."""
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, str(FAKE)])

    def deeds(*given):
        monkeypatch.setenv("FAKE_DEEDS", ",".join(f"{seed}:{deed}" for seed, deed in given))

    deeds()
    return deeds


def states(path):
    return [outcome.state for _, outcome in Sweep.read(Path(path)).outcomes()]


def attempts(path):
    record = Sweep.read(Path(path))
    return [json.loads(record.run(job).status.read_bytes())["attempts"] for job in record.jobs]


def table(path):
    with (Path(path) / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def jobs(path, count, **varied):
    """A sweep of jobs that differ in their seed."""
    path.mkdir()
    record = Sweep(path, "rlrun -m", os.getcwd(), options={"jobs": 1, "time_limit": None})
    record.jobs = [Job(n, f"{n}_s{n}", [f"seed={n}"], {**varied, "seed": str(n)}, n, 500, 0.0) for n in range(count)]
    record.write()
    return record


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        ({"algo": "dqn", "seed": "0"}, "3_dqn_s0"),
        ({"seed": "2", "algo.learning_rate": "0.0001"}, "3_lr-1e-4_s2"),
        ({"algo.learning_rate": "0.00025"}, "3_lr-2.5e-4"),
        ({"algo.gamma": "0.99"}, "3_gamma-0.99"),
        ({"algo.learning_rate": "0.22012142460194475"}, "3_lr-0.2201"),
        ({"algo.learning_rate": "0.0022012142460194475"}, "3_lr-2.201e-3"),
        ({"env.drift": "-1"}, "3_drift--1"),
        ({"env": "bandit/bernoulli"}, "3_bandit-bernoulli"),
        ({"env.id": "mine:My Env-v0"}, "3_id-mine-My-Env-v0"),
        ({"network.hidden": "[64,64]"}, "3_hidden-64-64"),
        ({"a.start": "1", "b.start": "2"}, "3_a.start-1_b.start-2"),
        ({"total_timesteps": "100000"}, "3_total_timesteps-100000"),
        ({"env.kwargs.text": "'$(rm *) & ~'"}, "3_text-rm"),
        ({}, "3"),
    ],
)
def test_a_job_is_called_by_its_number_and_what_it_has_of_its_own(varied, name):
    assert label(3, varied) == name


def test_a_name_is_no_longer_than_a_line():
    assert len(label(3, {"a.text": "x" * 300})) == 80


def test_a_subdir_of_the_users_may_be_called_anything(folder, fake):
    words = ["-m", *SMOKE, "seed=1,2", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=by seed/s${seed}"]
    assert cli.main(words) == 0
    assert [row["directory"] for row in table("sweep")] == ["by seed/s1", "by seed/s2"]
    assert find.find("sweep/1") == Path("sweep/by seed/s2")  # the number is on record
    assert states("sweep") == ["finished", "finished"]


@pytest.mark.parametrize(
    ("subdir", "says"),
    [
        ("same", "jobs 0 and 1 would both go to same"),
        ("a/${oc.select:nothing,b}", "jobs 0 and 1 would both go to a/b"),
        ("${nothing}", "hydra.sweep.subdir: Interpolation key 'nothing' not found"),
        ("../s${seed}", "is no directory inside the sweep's"),
        (".", "is no directory inside the sweep's"),
    ],
)
def test_two_jobs_never_share_a_directory(folder, fake, capsys, subdir, says):
    assert cli.main(["-m", *SMOKE, "seed=1,2", f"hydra.sweep.subdir='{subdir}'"]) == 2
    assert says in capsys.readouterr().err
    assert list(folder.iterdir()) == []


# --- before the first job starts -------------------------------------------------------------------------------------


def test_mistakes_of_all_jobs_are_named_before_the_first_starts(folder, fake, capsys):
    words = ["algo=q_learning,random", "env=cartpole,frozenlake", "+smoke=on", "seed=0,-1"]
    assert cli.main(["-m", *words]) == 2
    header, spaces, seeds = capsys.readouterr().err.splitlines()
    assert header == "rlrun: 5 of 8 jobs cannot run; none was started"
    assert spaces.startswith("0_q_learning_cartpole_s0: algo: q_learning handles discrete obs spaces")
    named = "1_q_learning_cartpole_s-1, 3_q_learning_frozenlake_s-1, 5_random_cartpole_s-1 and 1 more"
    assert seeds.startswith(f"{named}: seed: must be")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["seed=1,2", "hydra.sweep.subdir=s${seed}"], 0, "all is well: 2 jobs"),
        (["seed=1,2", "hydra.sweep.subdir=s"], 2, "jobs 0 and 1 would both go to s"),
        (["seed=1,2", "hydra.sweep.dir=."], 2, "hydra.sweep.dir: . exists already"),
        (["algo=sarsa,q_learning", "init_from=nowhere"], 2, "0_sarsa, 1_q_learning: init_from: nowhere"),
        (["seed=1,2", "hydra/launcher=basic"], 0, "all is well: 2 jobs"),
    ],
)
def test_a_sweep_can_be_checked_without_running_it(folder, fake, capsys, words, code, says):
    assert cli.main(["-m", *SMOKE, *words, "--check"]) == code
    captured = capsys.readouterr()
    assert says in (captured.err if code else captured.out)
    assert list(folder.iterdir()) == []


def test_an_environment_that_ends_the_process_costs_the_check_of_its_job_alone(folder):
    (folder / "fatal.py").write_text(
        "import os\n"
        "import gymnasium as gym\n"
        "class Fatal(gym.Env):\n"
        "    observation_space = action_space = gym.spaces.Discrete(2)\n"
        "    def __init__(self, how):\n"
        "        if how: os._exit(3)\n"
        "gym.register('Fatal-v0', entry_point=Fatal, max_episode_steps=5)\n"
    )
    from rlrun.config import compose

    words = ["algo=q_learning", "env.id=Fatal-v0", "imports=[fatal]"]
    compose.set_up(words)
    found = preflight.check(
        [
            (n, [*words, f"env.kwargs.how={how}", *more])
            for n, how, more in (
                (0, "true", []),
                (1, "false", []),
                (2, "true", []),
                (3, "false", ["seed=-1"]),
            )
        ]
    )
    assert [finding.problem.partition(":")[0] for finding in found] == ["", "", "", "seed"]


def test_options_of_a_sweep_belong_to_sweeps(folder, fake, capsys):
    assert cli.main([*SMOKE, "sweep.jobs=2"]) == 2
    assert "sweep.jobs: is for sweeps\nadd -m" in capsys.readouterr().err
    assert cli.main(["-m", *SMOKE, "seed=1,2", "sweep.jobs=0"]) == 2
    assert "sweep.jobs: must be in [1, 1024], got 0" in capsys.readouterr().err
    assert cli.main(["-m", *SMOKE, "seed=1,2", "sweep.jobs=1,2"]) == 2
    assert "sweep.jobs: is the same for all jobs" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_an_experiment_file_may_say_how_its_sweep_is_run(folder, fake, capsys):
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nsweep:\n  jobs: 2\n")
    words = ["--config-dir", "conf", *SMOKE, "experiment=mine"]
    assert cli.main(["-m", *words, "seed=1,2", "hydra.sweep.dir=sweep"]) == 0
    assert "2 jobs, 2 at a time: sweep" in capsys.readouterr().out
    record = Sweep.read(folder / "sweep")
    assert record.options["jobs"] == 2 and record.flags == ["--config-dir", "conf"]
    assert record.jobs[0].words == [*SMOKE, "experiment=mine", "seed=1"]


def test_an_experiment_file_may_be_a_sweep(folder, fake):
    (folder / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 3,4\n"
    (folder / "conf" / "experiment" / "mine.yaml").write_text(text)
    assert cli.main(["--config-dir", "conf", *SMOKE, "experiment=mine", "hydra.sweep.dir=sweep"]) == 0
    record = Sweep.read(folder / "sweep")
    assert [job.folder for job in record.jobs] == ["0_s3", "1_s4"]
    assert record.jobs[0].words == [*SMOKE, "experiment=mine", "seed=3", "hydra.mode=RUN"]


# --- whatever a job does ---------------------------------------------------------------------------------------------


class Impatient(board.Lines):
    """A board for which hours pass once a job hangs."""

    def refresh(self):
        for process in self.pool._running.values():
            if (self.sweep.run(process.job).path / "at_work").exists():
                process.since = -math.inf


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(pool, "SAVING", 0.1)
    made = []

    def new(sweep, show, *args):
        made.append(Pool(sweep, show, *args))
        show.pool = made[-1]
        return made[-1]

    monkeypatch.setattr(sweep, "board", Impatient)
    monkeypatch.setattr(sweep, "Pool", new)


def test_no_job_is_lost_whatever_it_does(folder, fake, impatient, capsys):
    fake((1, "exit"), (2, "kill"), (3, "hang"), (4, "interrupt"), (5, "refuse"))
    words = ["-m", *SMOKE, "seed=range(7)", "hydra.sweep.dir=sweep", "sweep.jobs=3", "sweep.time_limit=3600"]
    assert cli.main(words) == 1
    failed = ["failed"] * 5
    assert states("sweep") == ["finished", *failed, "finished"]
    rows = table("sweep")
    assert [row["reason"] for row in rows[1:4]] == [
        "ended with exit code 3 and without a word",
        "killed by SIGKILL",
        "over its time limit of 3600 s",
    ]
    assert rows[5]["reason"] == "algo.gamma: is not to my taste try another"
    assert (rows[6]["seed"], rows[6]["mean"], rows[6]["std"], rows[6]["env_steps"]) == ("6", "6.0", "0.5", "500")
    out = capsys.readouterr().out
    assert "job 1 of 7 started: 0_s0" in out and "job 1 of 7 finished: 0_s0: 0 ± 0.5000" in out
    assert "3_s3: failed: over its time limit" in out
    assert "once more what failed: rlrun resume sweep retry=failed" in out

    assert cli.main(["resume", "sweep"]) == 1  # what failed is left alone
    assert attempts("sweep") == [1] * 7
    fake()
    for path in (folder / "sweep").glob("*/at_work"):
        path.unlink()
    assert cli.main(["resume", "sweep", "retry=failed", "sweep.jobs=2"]) == 0
    assert "5 of 7 jobs to do, 2 at a time" in capsys.readouterr().out
    assert attempts("sweep") == [1, 2, 2, 2, 2, 1, 1]
    assert states("sweep") == ["finished"] * 7


class Stopping(board.Lines):
    """A board that sends this process a signal when two jobs are at work."""

    signum = signal.SIGTERM

    def refresh(self):
        if len(list(self.sweep.path.glob("*/at_work"))) == 2 and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.signum)

    sent = False


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_jobs_at_work(folder, fake, signum):
    record = jobs(folder / "sweep", 3)
    fake((0, "work"), (1, "work"))
    show = Stopping(record, 2)
    show.signum = signum
    show.expect(record.jobs)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=signal.Signals(signum).name):
        Pool(record, show, 2).run([sweep.from_the_beginning(record, job) for job in record.jobs])
    assert states("sweep") == ["preempted", "preempted", "not started"]
    assert signal.getsignal(signum) == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_before_the_first_job_leaves_nothing(folder, fake, monkeypatch, signum, code):
    monkeypatch.setattr(preflight, "check", lambda jobs: os.kill(os.getpid(), signum) or time.sleep(300))
    assert cli.main(["-m", *SMOKE, "seed=1,2", "hydra.sweep.dir=sweep"]) == code
    assert list(folder.iterdir()) == []


def test_a_sweep_that_was_stopped_is_completed(folder, fake, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "board", Stopping)
    fake((1, "work"), (2, "work"))
    words = ["-m", *SMOKE, "seed=range(4)", "hydra.sweep.dir=sweep", "sweep.jobs=2"]
    assert cli.main(words) == 75
    assert states("sweep") == ["finished", "preempted", "preempted", "not started"]
    out = capsys.readouterr().out
    assert "3_s3: not started" in out and "complete it with: rlrun resume sweep" in out

    fake()
    monkeypatch.setattr(sweep, "board", board.Lines)
    assert cli.main(["resume", "sweep"]) == 0
    assert "3 of 4 jobs to do" in capsys.readouterr().out
    assert [(row["state"], row["env_steps"]) for row in table("sweep")] == [("finished", "500")] * 4
    assert attempts("sweep") == [1, 2, 2, 1]


def test_a_job_that_does_not_answer_a_signal_does_not_stay_running(folder, fake, monkeypatch):
    monkeypatch.setattr(pool, "SAVING", 0.1)
    record = jobs(folder / "sweep", 2)
    fake((0, "hang"), (1, "work"))
    show = Stopping(record, 2)
    show.expect(record.jobs)
    with pytest.raises(Interrupted):
        Pool(record, show, 2).run([sweep.from_the_beginning(record, job) for job in record.jobs])
    assert states("sweep")[0] == "preempted"


def test_a_sweep_that_is_killed_takes_its_jobs_along_and_nothing_is_done_twice(folder, fake, capsys, nursery):
    fake((1, "work"), (2, "work"))
    words = [*SMOKE, "seed=range(4)", "hydra.sweep.dir=sweep", "sweep.jobs=2"]
    driver = folder / "driver.py"
    driver.write_text(
        "import sys\n"
        "from rlrun import cli\n"
        "from rlrun.sweeps import pool\n"
        f"pool.COMMAND = {pool.COMMAND!r}\n"
        "cli.main(sys.argv[1:])\n"
    )
    deeds = {"FAKE_DEEDS": os.environ["FAKE_DEEDS"]}
    process = nursery.begin(str(driver), "-m", *words, folder=folder, **deeds)
    while len(list((folder / "sweep").glob("*/at_work"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    fake()
    assert cli.main(["resume", "sweep"]) == 0
    assert [(row["state"], row["env_steps"]) for row in table("sweep")] == [("finished", "500")] * 4
    assert attempts("sweep") == [1, 2, 2, 1]


def test_a_job_that_another_process_has_is_left_alone(folder, fake):
    """As when somebody resumed it by hand."""
    record = jobs(folder / "sweep", 2)
    run = RunDir.create(record.run(record.jobs[1]).path, {"config.yaml": "seed: 1"})  # by this process
    assert pool.settle(run, "gone", stopping=False, overdue=False).state == "running"
    assert sweep.to_do(record, record.jobs[1], False, []) is None
    assert run.read_status()["state"] == "running"


def test_a_sweep_goes_to_a_directory_of_its_own(folder, fake):
    assert cli.main(["-m", *SMOKE, "seed=1,2"]) == 0
    (path,) = (folder / "outputs" / "sweeps").iterdir()
    assert {job.name for job in path.iterdir() if (job / "config.yaml").exists()} == {"0_s1", "1_s2"}


def test_two_processes_never_work_on_the_same_sweep(folder, capsys):
    record = jobs(folder / "sweep", 1)
    with record.locked():
        assert cli.main(["resume", "sweep"]) == 2
    assert "another process is at work on this sweep" in capsys.readouterr().err


def test_a_damaged_record_is_refused_in_a_line(folder, capsys):
    jobs(folder / "sweep", 1)
    for text in ("a: [", "jobs: 3", "[]", "command: x\ncwd: y\nflags: []\noptions: {}\njobs: [3]"):
        (folder / "sweep" / RECORD).write_text(text)
        assert cli.main(["resume", "sweep", "--trust"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(RlrunError, match="not a sweep"):
        Sweep.read(folder)


def test_a_sweep_from_elsewhere_runs_nothing_unasked(folder, fake, capsys):
    record = jobs(folder / "sweep", 2)
    file = folder / "sweep" / RECORD
    file.write_text(file.read_text().replace("seed=1", "seed=7"))
    assert cli.main(["resume", "sweep"]) == 2
    assert "sweep was not made by you on this machine" in capsys.readouterr().err
    assert states("sweep") == ["not started"] * 2
    assert cli.main(["resume", "sweep", "--trust"]) == 0
    assert [row["mean"] for row in table("sweep")] == ["0.0", "7.0"]
    record.write()  # another batch
    assert cli.main(["resume", "sweep"]) == 0


def test_options_of_resuming_a_sweep_are_checked(folder, capsys):
    jobs(folder / "sweep", 1)
    for words, says in (
        (["retry=all"], "retry: there is no 'all'"),
        (["sweep.jobs=0"], "sweep.jobs"),
        (["eval.freq=5"], "resume sweep/0 eval.freq=5"),
        (["seed=1"], "its jobs are what they were"),  # a job would refuse it as well
    ):
        assert cli.main(["resume", "sweep", *words]) == 2
        assert says in capsys.readouterr().err


# --- how it is shown -------------------------------------------------------------------------------------------------


def test_the_live_table_shows_every_job(folder, monkeypatch):
    record = jobs(Path("sweep"), 3)
    run = RunDir.create("sweep/1_s1")
    run.metrics_jsonl.write_text('{"env_steps": 250, "rollout/ep_rew_mean": 187.3}\n{"env_steps": 250, "eval/x": 1}\n')
    show = board.Live(record, 1)
    show.expect(record.jobs)
    show.standings[0].state, show.standings[0].outcome = "finished", Outcome("finished", "", 500, 200.0, 1.0)
    show.standings[1].state, show.standings[1].begun = "running", time.monotonic() - 60
    show.look()
    text = io.StringIO()
    Console(file=text, width=80, height=24).print(show.table())
    lines = [line.split() for line in text.getvalue().splitlines() if line.strip()]
    assert " ".join(lines[0]).startswith("sweep: 1 of 3 jobs done, about 0:03:0")
    assert next(line for line in lines if "1_s1" in line)[:6] == ["1_s1", "running", "250", "/", "500", "187.3"]
    assert next(line for line in lines if "2_s2" in line) == ["2_s2", "waiting"]
    assert show.time_left() > 60  # a minute for the rest of this one, two for the next


def test_the_interval_is_students():
    assert sweeps.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / math.sqrt(3))
    assert math.isnan(sweeps.half_width([1.0]))
    many = [float(n % 2) for n in range(61)]  # 60 degrees of freedom: 2.000
    assert sweeps.half_width(many) == pytest.approx(2.0003 * math.sqrt(30 * 31 / 61 / 60) / math.sqrt(61), rel=1e-4)


def test_seeds_are_averaged_and_the_best_is_marked(folder, capsys):
    (folder / "sweep").mkdir()
    record = Sweep(folder / "sweep", "rlrun -m", os.getcwd())
    outcomes = []
    for n, (lr, seed, mean) in enumerate(
        [("0.1", 0, 1.0), ("0.1", 1, 3.0), ("0.2", 0, 10.0), ("0.2", 1, 12.0), ("0.3", 0, None), ("0.3", 1, 5.0)]
    ):
        varied = {"algo.learning_rate": lr, "seed": str(seed)}
        record.jobs.append(Job(n, label(n, varied), [], varied, seed, 500, 0.0))
        outcomes.append((record.jobs[-1], Outcome("finished", mean=mean) if mean else Outcome("failed", "gone\nwrong")))
    found = sweeps.groups(record, outcomes)
    assert [(group.varied, group.mean, len(group.scores)) for group in found] == [
        ({"algo.learning_rate": "0.2"}, 11.0, 2),
        ({"algo.learning_rate": "0.3"}, 5.0, 1),
        ({"algo.learning_rate": "0.1"}, 2.0, 2),
    ]
    sweeps.print_table(record, outcomes)
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if "learning_rate=" in line]
    assert lines == [
        ["learning_rate=0.2", "11.00", "±", "12.71", "2", "best"],
        ["learning_rate=0.3", "5.000", "1", "of", "2"],
        ["learning_rate=0.1", "2.000", "±", "12.706", "2"],
    ]
    assert "4_lr-0.3_s0: failed: gone; wrong\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_each_environment_has_a_best_of_its_own(folder, capsys):
    record = Sweep(folder, "rlrun -m", os.getcwd())
    outcomes = []
    jobs = [("a", "x", 1.0), ("b", "x", 2.0), ("a", "y", -5.0), ("b", "y", -6.0)]
    jobs += [("a", "tie", 3.0), ("b", "tie", 3.0), ("a", "alone", 9.0)]  # where none is better, none is best
    for n, (algo, env, mean) in enumerate(jobs):
        record.jobs.append(Job(n, str(n), [], {"algo": algo, "env": env}, 0, 500, 0.0))
        outcomes.append((record.jobs[-1], Outcome("finished", mean=mean)))
    sweeps.print_table(record, outcomes)
    marked = [line.split()[0:2] for line in capsys.readouterr().out.splitlines() if line.rstrip().endswith("best")]
    assert marked == [["algo=b", "env=x"], ["algo=a", "env=y"]]


# --- slots -----------------------------------------------------------------------------------------------------------


def test_several_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [pool.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1, 2)] == ["3", "5", "3"]
    assert pool.environment(None)["CUDA_VISIBLE_DEVICES"] == "3,5"  # the user chose one
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert pool.environment(1)["CUDA_VISIBLE_DEVICES"] == "3"


# --- real jobs -------------------------------------------------------------------------------------------------------


def test_a_job_is_what_the_same_words_are_as_a_single_run(folder, fake, monkeypatch):
    fake((2, "train"))
    returned = []
    launching = sweep.launcher.launching
    monkeypatch.setattr(
        sweep.launcher, "launching", lambda run: launching(lambda *args: returned.append(run(*args)) or returned[-1])
    )
    words = ["algo=random", "env=toy", "+smoke=on"]
    assert cli.main(["-m", *words, "seed=1,2", "hydra.sweep.dir=sweep", "sweep.jobs=2"]) == 0
    job = RunDir("sweep/1_s2")
    assert job.command.read_text() == "rlrun algo=random env=toy +smoke=on seed=2 hydra.run.dir=sweep/1_s2\n"
    assert cli.main([*words, "seed=2", "hydra.run.dir=single"]) == 0
    single = RunDir("single")
    for file in ("config.yaml", "overrides.yaml", ".hydra/config.yaml", ".hydra/overrides.yaml"):
        assert (job.path / file).read_bytes() == (single.path / file).read_bytes()
    names = [{path.name for path in run.path.iterdir()} for run in (job, single)]
    assert names[0] - names[1] == {pool.CONSOLE}
    finals = [json.loads(RunDir(f"sweep/{n}").summary.read_text())["final_eval"]["mean"] for n in ("0_s1", "1_s2")]
    assert returned == [finals]
    assert "sweep" not in yaml.safe_load(job.config.read_text())


def test_a_config_may_depend_on_the_number_of_its_job(folder, fake):
    assert cli.main(["-m", *SMOKE, "algo.gamma=0.9,0.8", "seed=${hydra:job.num}", "hydra.sweep.dir=sweep"]) == 0
    record = Sweep.read(folder / "sweep")
    assert [job.seed for job in record.jobs] == [0, 1]
    assert record.jobs[1].words[-2:] == ["hydra.job.num=1", "hydra.job.id=1"]


def test_other_launchers_lose_no_job_either(folder, fake):
    fake((1, "exit"), (2, "interrupt"))
    words = [*SMOKE, "seed=range(4)", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=s${seed}", "hydra/launcher=basic"]
    assert cli.main(["-m", *words]) == 1
    assert [row["directory"] for row in table("sweep")] == ["s0", "s1", "s2", "s3"]
    assert states("sweep") == ["finished", "failed", "failed", "finished"]
    assert {path.name for path in (folder / "sweep").iterdir() if path.is_dir()} == {"s0", "s1", "s2", "s3"}


@pytest.mark.slow
def test_workers_of_another_launcher_train_the_same(folder):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *SMOKE, "seed=1,2", "hydra.sweep.dir=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert cli.main(words) == 0
    assert cli.main([*SMOKE, "seed=2", "hydra.run.dir=single"]) == 0
    assert [row["state"] for row in table("sweep")] == ["finished"] * 2
    ones, others = (json.loads(RunDir(path).summary.read_text()) for path in ("sweep/1_s2", "single"))
    assert ones["final_eval"] == others["final_eval"]


def test_a_sweep_does_not_share_its_directory(folder, fake, capsys):
    (folder / "sweep").mkdir()
    assert cli.main(["-m", *SMOKE, "seed=1,2", "hydra.sweep.dir=sweep"]) == 2
    assert "hydra.sweep.dir: sweep exists already" in capsys.readouterr().err
