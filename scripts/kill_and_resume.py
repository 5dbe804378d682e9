"""Kill a run at random moments, resume it each time, and compare it with the same run left alone.

    python scripts/kill_and_resume.py --kills 20 algo=dqn env=cartpole total_timesteps=40000 checkpoint.freq=1000
    python scripts/kill_and_resume.py --kills 5 --signal TERM algo=ppo env=cartpole

Everything after the options goes to `rlrun`. Exit code 0 if both runs end with the same bytes: weights and all other
state in the last checkpoint, metrics.csv and eval.csv, apart from what depends on the clock.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

SCRIPT = Path(sys.executable).with_name("rlrun")
RLRUN = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "rlrun"]
CLOCK = ("time", "wall_seconds", "seconds")  # how keys begin whose value depends on the clock


# --- processes -------------------------------------------------------------------------------------------------------


def start(args: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """`rlrun args`, its output added to `log`, in a session of its own so that what it leaves behind can be found."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [*RLRUN, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
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


def wait_until_alone(session: int, seconds: float = 5.0) -> list[int]:
    """Who is left of a session after its leader ended; empty as soon as nobody is."""
    deadline = time.monotonic() + seconds
    while (alive := survivors(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def finish(args: Sequence[str], log: Path) -> float:
    """Run to the end and return the seconds it took; SystemExit with the end of its output if it fails."""
    begun = time.monotonic()
    code = start(args, log).wait()
    if code != 0:
        raise SystemExit(f"rlrun {' '.join(args)} ended with {code}:\n{log.read_text()[-3000:]}")
    return time.monotonic() - begun


# --- comparison ------------------------------------------------------------------------------------------------------


def status(run: Path) -> dict[str, Any]:
    """The run's status.json; {} before there is one."""
    path = run / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(path: Path) -> list[list[str]]:
    """Header and rows of a CSV file without the columns that depend on the clock, every cell as the text it is."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    keep = [n for n, key in enumerate(header) if not key.startswith(CLOCK)]
    return [[row[n] for n in keep] for row in [header, *rows]]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its path, apart from the clock's."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for key, child in items:
        if not str(key).startswith(CLOCK):
            yield from leaves(child, f"{path}/{key}")


def state(checkpoint: Path) -> dict[str, Any]:
    """Everything a checkpoint holds as `file:path -> bytes or value`."""
    found: dict[str, Any] = {}
    for path in sorted(checkpoint.rglob("*.safetensors")):
        for name, array in load_file(path).items():
            found[f"{path.name}:{name}"] = (array.dtype.str, array.shape, array.tobytes())
    for path in sorted(checkpoint.rglob("*.json")):
        if path.name != "manifest.json":  # hashes of the other files, the clock's values included
            found |= {f"{path.name}:{key}": value for key, value in leaves(json.loads(path.read_text()))}
    return found


def differences(one: Path, two: Path) -> list[str]:
    """What two finished runs do not share; empty if resuming was exact."""
    found = []
    for name in ("metrics.csv", "eval.csv"):
        rows, others = table(one / name), table(two / name)
        if len(rows) != len(others):
            found.append(f"{name}: {len(rows)} and {len(others)} rows")
        found += [f"{name}: row {n}: {a} != {b}" for n, (a, b) in enumerate(zip(rows, others, strict=False)) if a != b][
            :3
        ]
    here, there = state(one / "checkpoints" / "last"), state(two / "checkpoints" / "last")
    if not any(".safetensors:" in key for key in here):
        found.append(f"no weights in {one / 'checkpoints' / 'last'}")
    return found + [
        f"checkpoint: {key}" for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)
    ]


# --- the experiment --------------------------------------------------------------------------------------------------


def disturbed(overrides: Sequence[str], run: Path, kills: int, sig: int, alone: Path, rng: random.Random) -> int:
    """Train in `run`, send `sig` at `kills` random moments and resume each time; return how many hit a living process.

    Most moments are spread over the env steps of the run, a quarter over the seconds of a start-up.
    """
    log = run.with_suffix(".log")
    total = status(alone)["env_steps"]
    hits = 0
    for step in sorted(rng.uniform(0, 0.95 * total) for _ in range(kills)):
        resuming = (run / "config.yaml").exists()
        if not resuming:  # killed before there was anything to resume
            shutil.rmtree(run, ignore_errors=True)
        process = start(["resume", str(run)] if resuming else [*overrides, f"hydra.run.dir={run}"], log)
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, STARTUP_SECONDS))
        else:
            while process.poll() is None and last_step(run) < step:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))
        if process.poll() is None:
            os.kill(process.pid, sig)
            hits += 1
        process.wait()
        if left := wait_until_alone(process.pid):
            raise SystemExit(f"processes {left} outlived the run they belonged to")
        print(f"  after step {last_step(run):>8,}: {status(run).get('state', 'not begun')}", flush=True)
    if status(run)["state"] != "finished":
        finish(["resume", str(run)], log)
    return hits


def last_step(run: Path) -> int:
    """The env steps of the last row of metrics.csv; 0 before there is one."""
    path = run / "metrics.csv"
    cell = path.read_text().strip().rpartition("\n")[2].partition(",")[0] if path.exists() else ""
    return int(cell) if cell.isdigit() else 0


STARTUP_SECONDS = 3.0  # about what importing torch and building a run take


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("overrides", nargs="*", help="what to train")
    options, rest = parser.parse_known_args(argv)
    overrides = options.overrides + rest or ["algo=dqn", "env=cartpole", "checkpoint.freq=1000"]

    with tempfile.TemporaryDirectory(prefix="rlrun-kill-") as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        seconds = finish([*overrides, f"hydra.run.dir={alone}"], alone.with_suffix(".log"))
        print(f"undisturbed: {status(alone)['env_steps']} steps in {seconds:.1f} s")
        sig = signal.Signals[f"SIG{options.signal}"]
        hits = disturbed(overrides, killed, options.kills, sig, alone, random.Random(options.seed))
        found = differences(alone, killed)
        print(f"{hits} of {options.kills} signals hit; {'identical' if not found else 'DIFFERENT'}")
        print("\n".join(found[:20]), end="\n" if found else "")
        return 1 if found or hits < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
