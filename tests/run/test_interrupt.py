"""Signals: what `Interrupt` makes of them, and that a run answers them whatever it is at."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import pydoc
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlrun import cli, interrupt
from rlrun.run.callbacks import evaluate as evaluation_callback
from rlrun.testing import differences

PREEMPTED, INTERRUPTED = 75, 130
MIDDLE = "in the middle of something"

SCRIPT = """
import os, signal, sys, threading, time
from rlrun import interrupt as module
from rlrun.errors import Abandoned, Interrupted
from rlrun.interrupt import Interrupt

sent = threading.Event()

def send(*signals):  # names with the seconds to wait before each
    def later():
        for name, seconds in signals:
            time.sleep(seconds)
            os.kill(os.getpid(), getattr(signal, name))
        sent.set()
    threading.Thread(target=later, daemon=True).start()

def answer(interrupt):  # once all signals have come
    while not sent.is_set():
        time.sleep(0.01)
    interrupt.check()

def work():  # that answers nothing
    while True:
        time.sleep(0.01)

def stubborn():
    while True:
        try:
            time.sleep(20)
        except BaseException:
            pass

interrupt = Interrupt(grace=0.2)
interrupt.last_words = lambda error, where: print("last words:", error, "stubborn" in where, flush=True)
try:
    with interrupt:
        exec(sys.argv[1])
except Interrupted as error:
    print("left:", error, flush=True)
    sys.exit(error.exit_code)
print("done")
"""


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        ("interrupt.grace = 99; send(('SIGTERM', 0)); answer(interrupt)", PREEMPTED, "left: stopped by SIGTERM"),
        ("interrupt.grace = 99; send(('SIGHUP', 0)); answer(interrupt)", PREEMPTED, "left: stopped by SIGHUP"),
        ("interrupt.grace = 99; send(('SIGUSR2', 0)); answer(interrupt)", PREEMPTED, "left: stopped by SIGUSR2"),
        ("interrupt.grace = 99; send(('SIGXCPU', 0)); answer(interrupt)", PREEMPTED, "left: stopped by SIGXCPU"),
        ("send(('SIGTERM', 0)); work()", PREEMPTED, f"left: stopped by SIGTERM {MIDDLE}"),
        ("send(('SIGINT', 0)); time.sleep(20)", INTERRUPTED, f"left: stopped by SIGINT {MIDDLE}"),
        ("send(('SIGTERM', 0)); stubborn()", PREEMPTED, f"last words: stopped by SIGTERM {MIDDLE} True"),
    ],
)
def test_what_a_signal_does(action: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, action], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (said, code), done.stderr


@pytest.mark.parametrize(
    ("signals", "same", "action", "code", "said"),
    [
        ("('SIGINT', 0), ('SIGINT', 0.1)", 99, "answer(interrupt)", INTERRUPTED, "left: stopped by SIGINT"),
        ("('SIGTERM', 0), ('SIGINT', 0.1)", 99, "answer(interrupt)", PREEMPTED, "left: stopped by SIGTERM"),
        ("('SIGINT', 0), ('SIGINT', 0.2)", 0.1, "work()", INTERRUPTED, f"left: stopped by SIGINT {MIDDLE}"),
        ("*[('SIGINT', 0.05)] * 3", 99, "work()", INTERRUPTED, f"left: stopped by SIGINT {MIDDLE}"),
        ("*[('SIGTERM', 0.05)] * 4", 99, "answer(interrupt)", PREEMPTED, "left: stopped by SIGTERM"),
    ],
)
def test_a_second_ctrl_c_is_the_first_one_unless_it_is_impatience(
    signals: str, same: float, action: str, code: int, said: str
) -> None:
    """`same`: seconds within which a second one is the first."""
    script = f"interrupt.grace = 99; module.SAME = {same}; send({signals}); {action}"
    done = subprocess.run([sys.executable, "-c", SCRIPT, script], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (said, code), done.stderr


@pytest.mark.parametrize(
    "action",
    [
        # what is being saved is saved to its end, however long it takes
        "send(('SIGTERM', 0))\nwith interrupt.finishing():\n time.sleep(2.5)",
        # what can be given up without harm is given up alone, and time begins anew
        "interrupt.grace = 4; send(('SIGINT', 0))\ntry:\n with interrupt.dispensable(): time.sleep(20)\n"
        "except Interrupted: pass\ntime.sleep(1)",
        # a process that an environment forks ends by the signal, and its signals are none of ours
        "pid = os.fork()\nif not pid: time.sleep(20)\ntime.sleep(0.2); os.kill(pid, signal.SIGTERM)\n"
        "assert os.waitpid(pid, 0)[1] == signal.SIGTERM\ntime.sleep(0.5)\ninterrupt.check()",
    ],
)
def test_what_does_not_end_anything(action: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, action], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_nohup_stays_in_force() -> None:
    action = "send(('SIGHUP', 0)); time.sleep(0.5); interrupt.check()"
    command = ["nohup", sys.executable, "-c", SCRIPT, action]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_what_was_swallowed_is_raised_again_before_anything_is_saved() -> None:
    swallows = "try: time.sleep(20)\nexcept BaseException: pass\n"
    action = f"send(('SIGTERM', 0))\n{swallows}with interrupt.finishing(): print('saved')"
    done = subprocess.run([sys.executable, "-c", SCRIPT, action], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"left: stopped by SIGTERM {MIDDLE}\n", PREEMPTED)


# --- runs ------------------------------------------------------------------------------------------------------------

UNRULY = ["imports=[unruly]", "env.id=Unruly-v0", "env.kwargs.pid=-1"]
QUIET = ["logger.tensorboard=false", "logger.console=off"]
SHORT = [*QUIET, *"total_timesteps=60 eval.freq=40 eval.episodes=2 checkpoint.freq=20 checkpoint.grace=0.3".split()]
RULED = [*UNRULY, "env.kwargs.when=-1"]
PPO = ["algo=ppo", "algo.n_steps=20", "algo.batch_size=10", "network.hidden=[4]"]
DQN = ["algo=dqn", "algo.learning_starts=10", "algo.batch_size=4", "network.hidden=[4]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs go; and time to leave in order, however slow the machine: what is ended otherwise is this process."""
    monkeypatch.setattr(interrupt, "LEAVING", 100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ends_like_undisturbed(*training: str, saved: int) -> None:
    """Train; train again, be preempted with the state of `saved` env steps, and go on; both end with the same bytes."""
    Path("happened").touch()
    assert cli.main([*training, "hydra.run.dir=alone"]) == 0
    Path("happened").unlink()
    assert cli.main([*training, "hydra.run.dir=disturbed"]) == PREEMPTED
    status = json.loads(Path("disturbed/status.json").read_text())
    assert (status["state"], status["env_steps"]) == ("preempted", saved)
    assert "SIGTERM" in status["reason"]
    Path("happened").touch()
    assert cli.main(["resume", "disturbed"]) == 0
    assert differences(Path("alone"), Path("disturbed")) == []


@pytest.mark.parametrize(
    ("training", "saved"),
    [
        ([*PPO, "env.kwargs.what=hang", "env.kwargs.when=40"], 40),
        ([*PPO, "env.kwargs.what=spin", "env.kwargs.where=reset", "env.kwargs.when=20"], 20),
        # before there is anything to go on from; an environment that may tell masks is reset before that
        ([*PPO, "env.kwargs.what=hang", "env.kwargs.where=reset", "env.action_masks=false"], 0),
        (["algo=random", "env.kwargs.what=spin", "env.kwargs.when=40"], 40),
    ],
)
def test_an_environment_that_hangs(training: list[str], saved: int, folder: Path) -> None:
    ends_like_undisturbed(*training, *UNRULY, *SHORT, saved=saved)
    assert "unruly.py" in Path("disturbed/run.log").read_text()  # where it was


def test_an_environment_that_hangs_before_anything_is_begun(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hangs = ["env.kwargs.what=hang", "env.kwargs.where=init"]
    assert cli.main(["algo=random", *UNRULY, *hangs, "hydra.run.dir=disturbed"]) == PREEMPTED
    assert capsys.readouterr().err == "rlrun: stopped by SIGTERM\n"
    assert not Path("disturbed").exists()


def test_an_evaluation_that_hangs_costs_nothing_but_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained since the last checkpoint is saved, and the evaluation is made up for."""

    def hang(*args: Any, **kwargs: Any) -> Any:
        if Path("disturbed").exists() and not Path("happened").exists():
            Path("happened").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(100)
        return evaluate(*args, **kwargs)

    evaluate = evaluation_callback.evaluate
    monkeypatch.setattr(evaluation_callback, "evaluate", hang)
    ends_like_undisturbed(*PPO, *RULED, *SHORT, saved=40)


@pytest.mark.parametrize(("where", "saved"), [("step", 40), ("reset", 60)])  # the next reset is the final evaluation's
def test_a_child_that_hangs(where: str, saved: int, folder: Path) -> None:
    """The signal comes from the child, at the moment when it hangs."""
    hangs = [f"env.kwargs.pid={os.getpid()}", "env.kwargs.what=hang", "env.kwargs.when=40", f"env.kwargs.where={where}"]
    children = ["env.vector=subprocess", "env.num_envs=2"]
    ends_like_undisturbed("algo=random", *UNRULY, *SHORT, *hangs, *children, saved=saved)
    assert multiprocessing.active_children() == []


def endless_from(saved: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which comes to no end once, after a signal: when the disturbed run has saved `saved` env steps."""

    def begins() -> bool:
        if Path("happened").exists() or not Path(f"disturbed/checkpoints/step_{saved:09d}").exists():
            return False
        Path("happened").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    def batches(*args: Any, **kwargs: Any) -> Iterator[Any]:
        endless = begins()
        yield from function(*args, **kwargs)
        while endless:
            yield from function(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        endless = begins()
        while endless:
            function(*args, **kwargs)
        return function(*args, **kwargs)

    return batches if inspect.isgeneratorfunction(function) else call


@pytest.mark.parametrize(
    ("training", "where", "saved"),
    [
        ([*PPO, *RULED], "rlrun.buffers.minibatches.Minibatches.flat", 20),
        ([*DQN, *RULED], "rlrun.buffers.replay.Replay.bursts", 20),
        (["algo=neural_greedy", "env=bandit/iris"], "rlrun.algos.contextual.neural.NeuralLearner.batches", 20),
        (["algo=value_iteration", "env=frozenlake"], "rlrun.algos.tabular.planning.MDP.backup", 20),
    ],
)
def test_an_update_that_takes_long(
    training: list[str], where: str, saved: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up where it is, and what was saved before knows nothing of it."""
    monkeypatch.setattr(where, endless_from(saved, pydoc.locate(where)))
    ends_like_undisturbed(*training, *SHORT, saved=saved)
