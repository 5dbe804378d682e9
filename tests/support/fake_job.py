"""A job of a sweep that takes no time: it writes what a run writes, and does what FAKE_DEEDS says for its seed.

    python tests/support/fake_job.py FD WORD...

FAKE_DEEDS is `seed:deed,seed:deed`; a job without a deed finishes. It stands in for `python -m rlrun.worker`, which it
becomes if its deed is `train`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from rlrun.rundir.layout import RunDir
from rlrun.sweeps.tether import follow

STEPS = 500


def main(words: list[str]) -> int:
    """Returns an exit code as `rlrun` would."""
    if words[0] == "resume":
        run = RunDir.open(words[-1])
        seed = int(run.config.read_text().removeprefix("seed: "))
        run.begin_attempt()
    else:
        given = dict(word.split("=", 1) for word in words if "=" in word)
        seed = int(given["seed"]) if given["seed"].isdigit() else 0
    deeds = dict(pair.split(":") for pair in os.environ.get("FAKE_DEEDS", "").split(",") if pair)
    deed = deeds.get(str(seed), "")
    if deed == "train":
        os.execv(sys.executable, [sys.executable, "-P", "-m", "rlrun.worker", sys.argv[1], *words])
    if deed == "refuse":
        print("rlrun: algo.gamma: is not to my taste\ntry another")
        return 2
    if words[0] != "resume":
        run = RunDir.create(given["hydra.run.dir"], {"config.yaml": f"seed: {seed}"})
    match deed:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            raise KeyboardInterrupt
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            wait(run)
        case "work":
            try:
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
                wait(run)
            except (SystemExit, KeyboardInterrupt) as stop:
                run.set_status("preempted", env_steps=STEPS // 2, reason="stopped")
                return 75 if isinstance(stop, SystemExit) else 130
    evaluation = {"env_steps": STEPS, "mean": float(seed), "std": 0.5, "episodes": 2}
    run.write_json(run.summary, {"final_eval": evaluation, "wall_seconds": 1.5, "state": "finished"})
    run.set_status("finished", env_steps=STEPS)
    return 0


def wait(run: RunDir) -> None:
    """Be at work for ever."""
    (run.path / "at_work").touch()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        follow(int(sys.argv[1]))
        sys.exit(main(sys.argv[2:]))
