"""Kill runs at chosen moments, resume them each time, and compare them with the same runs left alone.

    python scripts/kill_and_resume.py --kills 20 algo=dqn env=cartpole total_timesteps=40000 checkpoint.freq=1000
    python scripts/kill_and_resume.py --kills 5 --signal TERM --phases probe,sweep algo=ppo env=cartpole
    python scripts/kill_and_resume.py --campaign

Everything behind the options goes to `rlrun`. A run is killed several times before it may finish; each phase in turn
(those of fuse.py, and `start`, the seconds in which a process starts) has its kills at random counts. `--campaign` does
so with several algorithms, one environment and four, in this process and in children: 100 kills, some ten minutes.

Exit code 0 if every run ended with the same bytes as the one left alone, weights and all other state in the last
checkpoint, metrics.csv and eval.csv, apart from what depends on the clock; if none came to a dead end, where neither
`resume` nor the same command goes on; and if nothing outlived a killed process or was left among the temporary files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rlrun.testing import differences

FUSE = [sys.executable, str(Path(__file__).with_name("fuse.py"))]
SCRIPT = Path(sys.executable).with_name("rlrun")
RLRUN = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "rlrun"]


# --- processes -------------------------------------------------------------------------------------------------------


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that what it leaves behind can be found; its output is in `folder/log`."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(temporary), "FUSE_LOG": str(folder / "fuse")}
    with (folder / "log").open("ab") as out:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def survivors(session: int) -> list[int]:
    """Processes of a session that are still alive (zombies do not count)."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended while we looked
            continue
        if int(its_session) == session and state != "Z":
            alive.append(int(stat.parent.name))
    return alive


def wait_until_alone(session: int, seconds: float = 60.0) -> list[int]:
    """Who is left of a session after its leader ended; empty as soon as nobody is."""
    deadline = time.monotonic() + seconds
    while (alive := survivors(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


# --- the experiment --------------------------------------------------------------------------------------------------

PHASES = ("claim", "probe", "sweep", "evaluation", "save", "start")
STARTUP_SECONDS = 3.0  # about what importing torch and building a run take
PER_RUN = 8  # kills of one run
MOST_RUNS = 1000

SMALL = "+smoke=on total_timesteps=800 logger.freq=100 checkpoint.freq=200 eval.freq=300 eval.episodes=3"
CAMPAIGN = [
    f"{training} {SMALL}"
    for training in (
        "algo=dqn env=cartpole",
        "algo=dqn env=cartpole env.num_envs=4",
        "algo=dqn env=cartpole env.num_envs=4 env.vector=subprocess",
        "algo=dqn env=cartpole env.num_envs=1 env.vector=subprocess",
        "algo=ppo env=cartpole env.num_envs=1",
        "algo=ppo env=cartpole env.num_envs=4",
        "algo=ppo env=cartpole env.num_envs=4 env.vector=subprocess",
        "algo=q_learning env=frozenlake",
        "algo=q_learning env=frozenlake env.num_envs=4",
        "algo=q_learning env=frozenlake env.num_envs=4 env.vector=subprocess",
        "algo=ucb env=bandit/gaussian",
        "algo=thompson env=bandit/bernoulli env.num_envs=4",
        "algo=neural_greedy env=bandit/iris",
    )
]


STOPPED = (75, 143)  # what SIGTERM ends with: preempted, or killed before there was anybody to answer


class DeadEnd(Exception):
    """A run that was killed can neither be resumed nor begun again, or the killed process did not end."""


class Trial:
    """One training that is killed again and again, beside the same one left alone.

    Args:
        overrides: what to train.
        alone: the directory of the run left alone.
        folder: where to be; made here.
    """

    def __init__(self, overrides: Sequence[str], alone: Path, folder: Path):
        self.overrides, self.alone, self.folder = overrides, alone, folder
        self.run = folder / "run"
        self.hits = 0
        folder.mkdir()

    def kill(self, phase: str, count: int, sig: signal.Signals, delay: float) -> bool:
        """Begin or resume the run and send it a signal; whether that hit it before it was through."""
        words = self._words()
        if phase == "start":
            process = start([*RLRUN, *words], self.folder)
            time.sleep(delay)
            process.send_signal(sig)
        else:
            process = start([*FUSE, f"{phase}:{count}:{sig.name.removeprefix('SIG')}", *words], self.folder)
        hit = self._ended(process, words, (0, -sig, *(STOPPED if sig == signal.SIGTERM else ()))) != 0
        self.hits += hit
        return hit

    def finish(self) -> None:
        """Let the run go on to its end."""
        words = self._words()
        self._ended(start([*RLRUN, *words], self.folder), words, (0,))

    def faults(self) -> list[str]:
        """In what it differs from the run left alone, and what it left behind."""
        left = [*(self.folder / "tmp").iterdir(), *self.folder.glob(".*")]
        return [f"left behind: {path}" for path in left] + differences(self.alone, self.run)

    def _words(self) -> list[str]:
        """What a user types next: where there is a run, resume; else the same command again."""
        if self.run.exists():
            return ["resume", str(self.run)]
        return [*self.overrides, f"hydra.run.dir={self.run}"]

    def _ended(self, process: subprocess.Popen[bytes], words: Sequence[str], expected: Collection[int]) -> int:
        code = process.wait()
        if code not in expected:
            said = (self.folder / "log").read_text(errors="replace")[-1000:]
            raise DeadEnd(f"rlrun {' '.join(words)} ended with {code}:\n{said}")
        if left := wait_until_alone(process.pid):
            raise DeadEnd(f"processes {left} outlived the run they belonged to")
        return code


def leave_alone(overrides: Sequence[str], folder: Path) -> tuple[Path, dict[str, int]]:
    """Train undisturbed; returns the run's directory and how far each phase counts."""
    folder.mkdir()
    run = folder / "alone"
    process = start([*FUSE, "count", *overrides, f"hydra.run.dir={run}"], folder)
    if process.wait() != 0:
        raise SystemExit(f"rlrun {' '.join(overrides)} failed:\n{(folder / 'log').read_text()[-3000:]}")
    return run, json.loads((folder / "fuse").read_text())


def disturb(
    trial: Trial, plan: Sequence[str], counts: Mapping[str, int], sig: signal.Signals, rng: random.Random
) -> None:
    """Kill a run once in each phase of the plan, or until it is through, and then let it end."""
    for phase in plan:
        most = counts.get(phase, 1) // (3 if phase == "sweep" else 1)  # so that there is something left to kill
        if not trial.kill(phase, rng.randint(1, max(1, most)), sig, rng.uniform(0, STARTUP_SECONDS)):
            break
    trial.finish()


def campaign(
    trainings: Sequence[Sequence[str]], kills: int, phases: Sequence[str], sig: signal.Signals, rng: random.Random
) -> int:
    """Disturb runs of the trainings in turn until so many signals have hit; returns the exit code."""
    hits, different, dead_ends = 0, 0, 0
    alone: dict[int, tuple[Path, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory(prefix="rlrun-kill-") as place:
        for number in range(MOST_RUNS):
            which = number % len(trainings)
            folder = Path(place) / str(which)
            if which not in alone:
                alone[which] = leave_alone(trainings[which], folder)
            run, counts = alone[which]
            trial = Trial(trainings[which], run, folder / f"trial{number}")
            there = [phase for phase in phases if phase == "start" or counts.get(phase)] or ["start"]
            plan = sorted((there[n % len(there)] for n in range(min(PER_RUN, kills - hits))), key=PHASES.index)
            try:
                disturb(trial, plan, counts, sig, rng)
                found = trial.faults()
                different += bool(found)
            except DeadEnd as error:
                found = [f"DEAD END: {error}"]
                dead_ends += 1
            hits += trial.hits
            print(
                f"{' '.join(trainings[which])}: {trial.hits} kills, {'DIFFERENT' if found else 'identical'}", flush=True
            )
            print("\n".join(found[:20]), end="\n" if found else "", flush=True)
            if hits >= kills or dead_ends >= 3:
                break
    runs = number + 1
    identical = runs - different - dead_ends
    print(f"{hits} kills in {runs} runs: {identical} identical, {different} different, {dead_ends} dead ends")
    return int(bool(different or dead_ends) or hits < kills)


def phases(word: str) -> list[str]:
    """`claim,probe` as a list."""
    if unknown := sorted(set(word.split(",")) - set(PHASES)):
        raise argparse.ArgumentTypeError(f"there is no phase {unknown[0]!r}")
    return word.split(",")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--campaign", action="store_true", help="several algorithms in turn")
    parser.add_argument("--kills", type=int, help="20; of a campaign 100")
    parser.add_argument("--phases", type=phases, default=PHASES, help=f"some of {','.join(PHASES)}")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("overrides", nargs="*", help="what to train")
    options, rest = parser.parse_known_args(argv)
    one = [options.overrides + rest or ["algo=dqn", "env=cartpole", "checkpoint.freq=1000"]]
    trainings = [training.split() for training in CAMPAIGN] if options.campaign else one
    kills = options.kills or (100 if options.campaign else 20)
    sig = signal.Signals[f"SIG{options.signal}"]
    return campaign(trainings, kills, options.phases, sig, random.Random(options.seed))


if __name__ == "__main__":
    sys.exit(main())
