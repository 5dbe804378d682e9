"""What a GPU makes of rlrun, as a table, in eight minutes at most.

    scripts/gpu_check                         needs a GPU; without one it says so and returns 2
    scripts/gpu_check --device cpu --only dqn    what the script does, where there is none

First the tests that need a GPU, `pytest -m gpu`. Then runs, each in a process of its own that is ended when it takes
too long: eager, and compiled, where an update is one graph that is captured as a CUDA graph. A run is clocked for some
seconds once it has made `WARM` updates, so compiling comes before. "to learn" is how long that took. What is not
installed or not registered is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 480.0  # seconds of all
TESTS, RUN = 90.0, 75.0  # seconds of the tests, and of a run
WARM = 64  # updates before the clock starts

Row = dict[str, Any]

# name -> words, and what it takes: an algorithm, a module
RUNS = {
    "DQN, CartPole": ("algo=dqn env=cartpole", "dqn", ""),
    "PPO, CartPole": ("algo=ppo env=cartpole", "ppo", ""),
    "SAC, Pendulum": ("algo=sac env=pendulum", "sac", ""),
    "DQN, Pong": ("algo=dqn env=atari algo.learning_starts=1000 buffer.capacity=20000", "dqn", "ale_py"),
}
WAYS = {"eager": "device.compile=false", "compiled": "device.compile=true"}
QUIET = "logger.console=off eval.freq=0 eval.episodes=0 checkpoint.freq=0 total_timesteps=100000000"


def measure(words: Sequence[str], seconds: float) -> Row:
    """Train for so many seconds behind the first `WARM` updates: env steps and updates per second.

    Returns:
        steps_per_s, updates_per_s, to_learn (seconds until then), memory (bytes on the GPU, at most).
    """
    import torch
    from bench import make_run

    from rlrun.run.loop import loop

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    begun, first = now(), None
    with tempfile.TemporaryDirectory() as folder:
        run, callbacks = make_run([*words, *QUIET.split()], Path(folder) / "run")
        progress = run.progress
        with run.interrupt:
            for _ in loop(run, callbacks):
                if first is None and progress.gradient_steps >= WARM:
                    first = (now(), progress.env_steps, progress.gradient_steps)
                elif first is not None and time.perf_counter() - first[0] > seconds:
                    break
        ended = now()
        run.close()
    if first is None:
        raise RuntimeError(f"the run ended before its update {WARM}")
    took = ended - first[0]
    return {
        "steps_per_s": (progress.env_steps - first[1]) / took,
        "updates_per_s": (progress.gradient_steps - first[2]) / took,
        "to_learn": first[0] - begun,
        "memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def measured(words: str, seconds: float, limit: float) -> Row:
    """`measure` in a process of its own; {"failed": why} if it fails or takes longer than `limit`."""
    command = [sys.executable, __file__, "--worker", words, "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["without a word"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def missing(algo: str, module: str) -> str:
    """What a run would take that is not there; "" if all is."""
    from rlrun import registry
    from rlrun.config import plugins

    plugins.load_installed()
    if not registry.has("algo", algo):
        return f"there is no algo={algo}"
    return f"{module} is not installed" if module and importlib.util.find_spec(module) is None else ""


def run_tests(limit: float) -> tuple[bool, str]:
    """Whether `pytest -m gpu` passes, and what it says of it: what failed, and its last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return False, f"not done after {limit:.0f} s"
    said = (done.stdout or done.stderr).splitlines()
    failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
    return not done.returncode, "\n".join([*failed, *said[-1:]])


def cells(row: Row) -> list[str]:
    """What a run's line says behind its name."""
    if "failed" in row:
        return [row["failed"], "-", "-", "-"]
    numbers = [f"{row['steps_per_s']:,.0f}", f"{row['updates_per_s']:,.0f}", f"{row['to_learn']:.0f} s"]
    return [*numbers, f"{row['memory'] / 2**20:,.0f} MiB"]


def main(words: Sequence[str] | None = None) -> int:
    """Returns 0, 1 if a test or a run failed, 2 if there is no GPU or nothing to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", default="", metavar="WORD", help="runs that have this in their words")
    parser.add_argument("--ways", default=",".join(WAYS), choices=[*WAYS, ",".join(WAYS)], help="how they are run")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a run is clocked")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.worker:
        print(json.dumps(measure(given.worker.split(), given.seconds)))
        return 0
    runs = {name: run for name, run in RUNS.items() if given.only in run[0]}
    if not runs:
        print(f"gpu_check: no run has {given.only} in its words", file=sys.stderr)
        return 2
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: this machine has no GPU that torch can use; --device cpu tries the script", file=sys.stderr)
        return 2
    begun, failed = time.monotonic(), False

    def left(most: float) -> float:
        return max(1.0, min(most, LIMIT - (time.monotonic() - begun)))

    where = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}", flush=True)
    if given.device == "cuda":
        passed, said = run_tests(left(TESTS))
        failed |= not passed
        print("tests:", said, flush=True)
    print(
        "\n| run | way | env steps/s | updates/s | to learn | GPU memory |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for name, (what, algo, module) in runs.items():
        if reason := missing(algo, module):
            print(f"| {name} | - | {reason} | - | - | - |", flush=True)
            continue
        for way in given.ways.split(","):
            row = measured(f"{what} device={given.device} {WAYS[way]}", given.seconds, left(RUN))
            failed |= "failed" in row
            print(f"| {' | '.join([name, way, *cells(row)])} |", flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
