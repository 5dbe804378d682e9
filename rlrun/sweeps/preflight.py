"""The configs of a sweep's jobs are composed and checked before the first of them starts, as each job will do it.

That opens environments, which are foreign code. So it happens in a process of its own: an environment that ends it, or
hangs, costs the check of one job, which then has to find out by itself.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from rlrun.config import compose
from rlrun.config.validate import validate
from rlrun.errors import ConfigError, RlrunError
from rlrun.interrupt import SIGNALS, Interrupt
from rlrun.run import warmstart
from rlrun.run.prepare import prepared
from rlrun.sweeps.tether import follow, tether

PATIENCE = 60.0  # seconds that the check of one job may take


@dataclass
class Finding:
    """What composing and checking a job has shown."""

    subdir: str = ""  # where Hydra puts it, seen from the sweep's directory
    seed: int = 0
    total_timesteps: int = 0
    grace: float = 0.0  # seconds in which it answers a signal
    any_gpu: bool = True  # whether it takes whichever GPU it is given
    extra: list[str] = field(default_factory=list)  # words without which a single run would not be the same
    init_from: str = ""  # the checkpoint that it starts from, if it names a run
    problem: str = ""  # why it cannot run


def check(jobs: Sequence[tuple[int, Sequence[str]]]) -> list[Finding]:
    """Compose and check jobs, given by their numbers and words."""
    findings: list[Finding] = []
    while len(findings) < len(jobs):
        findings += _in_a_process(jobs[len(findings) :])
    return findings


def _in_a_process(jobs: Sequence[tuple[int, Sequence[str]]]) -> list[Finding]:
    """The findings up to the first job that ends the process or takes too long, that one included."""
    reading, writing = os.pipe()
    with tether() as ends:
        process = os.fork()
        if not process:
            os.close(reading)
            os.close(ends.held)
            _tell(jobs, writing, ends.watched)
        os.close(writing)
        try:
            lines = list(_lines(reading, patience=PATIENCE))
        finally:
            os.close(reading)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    findings: list[Finding] = []
    for line in lines:  # one when a job is composed, another when it has been checked
        number, finding = json.loads(line)
        findings[number:] = [Finding(**finding)]
    return findings or [Finding()]


def _lines(reading: int, patience: float) -> Iterator[bytes]:
    """What comes out of a pipe, until its end or until nothing has come for some seconds."""
    rest = b""
    while select.select([reading], [], [], patience)[0] and (data := os.read(reading, 65536)):
        *complete, rest = (rest + data).split(b"\n")
        yield from complete


def _tell(jobs: Sequence[tuple[int, Sequence[str]]], writing: int, watched: int) -> None:
    """In the forked process: a line `[index, finding]` for every step. Does not return."""
    try:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        follow(watched)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # what environments say when they are opened, they say again in their jobs
            os.dup2(null, descriptor)
        GlobalHydra.instance().clear()
        for index, (number, words) in enumerate(jobs):
            for finding in _check(number, words):
                os.write(writing, json.dumps([index, asdict(finding)]).encode() + b"\n")
    finally:
        os._exit(0)


def _check(number: int, words: Sequence[str]) -> Iterator[Finding]:
    finding = Finding()
    try:
        numbered = [f"hydra.job.num={number}", f"hydra.job.id={number}"]
        composed = compose.compose([*words, *numbered])
        try:
            finding.subdir = str(composed.hydra.sweep.subdir)
        except OmegaConfBaseException as error:
            raise ConfigError("hydra.sweep.subdir", str(error).partition("\n")[0]) from error
        finding.any_gpu = "cuda:" not in str((composed.data.get("device") or {}).get("accelerator"))
        if any(text in composed.written for text in ("hydra:job", "hydra.job")):
            finding.extra += numbered
        if composed.hydra.mode == RunMode.MULTIRUN:  # its own YAML says so
            finding.extra.append("hydra.mode=RUN")
        yield finding
        checked = validate(composed.data, new=True)
        with Interrupt(grace=0) as interrupt, prepared(checked, interrupt, checked.init_from):
            finding.seed, finding.total_timesteps = checked.seed, checked.total_timesteps
            finding.grace = checked.checkpoint.grace
        if checked.init_from is not None:  # `last` would be another run for each job
            finding.init_from = str(warmstart.find(checked.init_from)[0])
    except RlrunError as error:
        if error.exit_code == RlrunError.exit_code:  # a mistake of the user's; whatever else fails may not fail again
            finding.problem = str(error)
    except Exception:  # the job will say it
        pass
    yield finding
