"""Many runs from one command, `rlrun -m`, and the completion of a sweep that was stopped.

Hydra's sweeper expands the overrides into jobs. All of them are checked and put on record before the first one starts;
then each runs in a process of its own (sweeps/pool.py). In the end one table says what became of each.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from unittest import mock

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlrun import ranks
from rlrun.checks import Bounded, OneOf
from rlrun.commands.resume import CHANGEABLE
from rlrun.commands.resume import resume as resume_run
from rlrun.commands.train import command_line
from rlrun.config import compose, launcher, refusals, values
from rlrun.config.schema import SweepConfig
from rlrun.config.words import parse
from rlrun.errors import ConfigError, Interrupted, RlrunError
from rlrun.files import of_user
from rlrun.interrupt import SIGNALS
from rlrun.rundir import find
from rlrun.rundir.sweep import RECORD, Job, Outcome, Sweep, is_recorded, label, recorded_state
from rlrun.sweeps import cluster, preflight
from rlrun.sweeps.board import Lines, board, say
from rlrun.sweeps.pool import CONSOLE, SAVING, Pool, Task, settle
from rlrun.sweeps.table import print_table, write_csv

AUTO = "auto"  # hydra.sweep.subdir: a name of ours
SWEEPS_OWN = re.compile(r"hydra[./](mode|sweep|sweeper|launcher|run\.dir)\b|sweep\.")  # words that jobs do not get
SHOWN = 5  # different mistakes that an error lists
MOST = 1024  # jobs that are handed to a cluster at a time
OPTIONS = [f"sweep.{field.name}" for field in fields(SweepConfig)]


@dataclass
class ResumeSweepOptions(Bounded):
    """Complete a sweep: finished jobs are kept, interrupted ones go on, missing ones start."""

    # none | failed: failed and diverged jobs too, from their last checkpoint or else from the beginning
    retry: Annotated[str, OneOf("none", "failed")] = "none"
    sweep: SweepConfig = field(default_factory=SweepConfig)  # as it was, unless it is given


class AllIsWell(Exception):
    """Thrown once the first jobs have been checked, where nothing more is asked for."""


def sweep(words: Sequence[str], flags: Sequence[str], argv: Sequence[str], check: bool = False) -> int:
    """Run every combination that the overrides describe, each in its own directory.

    Args:
        words: the overrides as typed.
        flags: `--config-dir DIR ...`, which jobs need too.
        argv: all that the user typed.
        check: find out whether the jobs can run, those that the sweeper asks for first, and do nothing.

    Returns:
        0 if all jobs finished, 1 if one did not, 75 or 130 if a signal ended the sweep.

    Raises:
        RlrunError: a job cannot run as it is meant to; then none has been started.
    """
    with compose.session() as loader:
        ready = [*compose.complete(words, sweep=True), "hydra.mode=MULTIRUN"]
        varying = {key_of(word) for word in ready if parse(word, loader).is_sweep_override()}
        ready = compose.postponed(ready, loader)
        try:
            master = loader.load_configuration(compose.ROOT, list(ready), RunMode.MULTIRUN)
            options = values.typed(SweepConfig, plain(master.sweep), "sweep")
            cluster.must_be_installed(options.cluster)
            with made(of_user(str(master.hydra.sweep.dir))) as folder, leaving():
                record = Sweep(folder, command_line(argv), os.getcwd(), list(flags), asdict(options))
                with record.locked():
                    plan = Plan(record, words, ready, varying, check)
                    return summed_up(record, plan.carry_out(options, master.hydra.runtime.choices))
        except AllIsWell as well:
            print(f"all is well: {well}")
            return 0
        except (HydraException, OmegaConfBaseException) as error:
            raise refusals.failure(ready, error, loader, sweep=True) from error


def resume(path: Path, words: Sequence[str], **flags: bool) -> int:
    """Complete a sweep that was stopped or killed; returns as `sweep`.

    Args:
        flags: `trust` runs its jobs even if it was made elsewhere; the jobs get them all.
    """
    ranks.refuse("a sweep")
    record = Sweep.read(path, flags.get("trust", False))
    for word in words:
        if (key := key_of(word)).split(".")[0] not in ("retry", "sweep"):
            changes = key.split(".")[0] in CHANGEABLE
            hint = f"what a run may change is given to a job: rlrun resume {path}/0 {word}"
            problem = f"is no option of a sweep, which has retry, {', '.join(OPTIONS)}"
            raise ConfigError(key, problem, hint if changes else "its jobs are what they were when it began")
    given = [f"--{name}" for name, is_given in flags.items() if is_given]
    options = values.typed(ResumeSweepOptions, values.merged({"sweep": record.options}, words))
    cluster.must_be_installed(options.sweep.cluster)
    with record.locked(), leaving():
        await_ends(record, killed=True)
        tasks = [task for job in record.jobs if (task := to_do(record, job, options.retry == "failed", given))]
        code = 0
        slots = slots_of(options.sweep)
        with board(record, slots) as show:
            show.expect([task.job for task in tasks])
            show.say(f"{len(tasks)} of {len(record.jobs)} jobs to do, {at_a_time(slots, tasks)}: {record.path}")
            try:
                pool_of(record, show, options.sweep).run(tasks)
            except Interrupted as error:
                code = error.exit_code
        return summed_up(record, code)


def resume_either(word: str, words: Sequence[str], **flags: bool) -> int:
    """Continue what a word of the command line means: a run, or a sweep."""
    path = find.find(word)
    return resume(path, words, **flags) if is_recorded(path) else resume_run(word, words, **flags)


@dataclass
class Plan:
    """Turns what Hydra's sweeper asks for into jobs.

    Args:
        record: the sweep, without jobs yet.
        typed: the user's words.
        ready: the same as Hydra needs them.
        varying: keys that the words give several values.
        check: go no further than to the end of the first jobs' check.
    """

    record: Sweep
    typed: Sequence[str]
    ready: Sequence[str]
    varying: set[str]
    check: bool = False

    def carry_out(self, options: SweepConfig, choices: DictConfig) -> int:
        """Let the sweeper ask, and the launcher run what it asks for; returns the exit code.

        Raises:
            RlrunError, HydraException, OmegaConfBaseException: no job can be started.
        """
        ours = self.check or choices["hydra/launcher"] == launcher.NAME
        words = [*self.ready, f"hydra.sweep.dir={quoted(str(self.record.path))}"]
        if not ours:
            OmegaConf.register_new_resolver("rlrun.job", folder_of, replace=True)
            words.append("hydra.sweep.subdir='${rlrun.job:${hydra.sweep.dir},${hydra.job.num}}'")
        app: Any = GlobalHydra.instance().hydra
        try:
            with (
                board(self.record, slots_of(options)) as show,
                mock.patch.object(Sweeper, "validate_batch_is_legal", lambda _, batch: self.admit(batch)),
                self.launching(pool_of(self.record, show, options), show) if ours else nullcontext(),
            ):
                app.multirun(compose.ROOT, Alone(self.record.path, options.time_limit), words)
        except (KeyboardInterrupt, Interrupted) as stop:
            if not self.record.jobs:
                raise
            await_ends(self.record, killed=True)
            return (stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)).exit_code
        except SystemExit as error:
            await_ends(self.record, killed=False)
            return int(error.code or 0)
        except Exception as error:  # a mistake in a later batch, or a launcher that lost its workers
            if not self.record.jobs:
                raise
            await_ends(self.record, killed=False)
            reason = str(error) if isinstance(error, RlrunError) else f"{type(error).__name__}: {error}"
            print(f"rlrun: the sweep cannot go on: {reason}", file=sys.stderr)
            if os.environ.get("RLRUN_DEBUG") == "1":
                traceback.print_exception(error)
            return 1
        return 0

    def launching(self, pool: Pool, show: Lines) -> AbstractContextManager[None]:
        """Our launcher in place of Hydra's."""

        def run(batch: Sequence[Sequence[str]], first: int) -> list[float]:
            if first + len(batch) > len(self.record.jobs):  # by a sweeper that does not have its batches checked
                self.admit(batch)
            jobs = self.record.jobs[first : first + len(batch)]
            show.expect(jobs)
            show.say(f"{len(self.record.jobs)} jobs, {at_a_time(pool.slots, jobs)}: {self.record.path}")
            pool.run([from_the_beginning(self.record, job) for job in jobs])
            return [Outcome.of(self.record.run(job)).mean for job in jobs]

        return launcher.launching(run)

    def admit(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the next jobs, and put them on record.

        Raises:
            RlrunError: some cannot run; all that is wrong is said.
        """
        first = len(self.record.jobs)
        own = [word for word in self.typed if key_of(word).startswith("hydra.sweep.")]
        asked = [self.split(overrides) for overrides in batch]
        findings = preflight.check([(first + n, [*words, *own]) for n, (words, _) in enumerate(asked)])
        jobs, problems = [], defaultdict(list)
        for number, (words, varied), finding in zip(range(first, first + len(batch)), asked, findings, strict=True):
            name = label(number, varied)
            if finding.problem:
                problems[finding.problem].append(name)
            folder = name if finding.subdir in (AUTO, "") else os.path.normpath(finding.subdir)
            known = (finding.seed, finding.total_timesteps, finding.grace, finding.any_gpu)
            pinned = [f"init_from={quoted(finding.init_from)}"] if finding.init_from else []
            jobs.append(Job(number, folder, [*words, *finding.extra, *pinned], varied, *known))
        if problems:
            raise RlrunError(listed(problems, len(jobs)))
        if not jobs:
            raise ConfigError("sweep", "there is no job in it", "give a key several values: seed=1,2,3")
        apart([*self.record.jobs, *jobs])
        if self.check:
            raise AllIsWell(f"{len(jobs)} jobs")
        self.record.jobs += jobs
        self.record.write()

    def split(self, overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words of a job, those that all jobs share as the user typed them, and what it has of its own."""
        given = {key_of(word): word for word in overrides}
        constant = {key_of(word) for word in self.ready} - self.varying
        varied = {key: word.partition("=")[2] for key, word in given.items() if key not in constant}
        if wrong := next((key for key in varied if SWEEPS_OWN.match(key)), None):
            raise ConfigError(wrong, "is the same for all jobs of a sweep", "give it one value")
        words = dict.fromkeys(
            f"{word.partition('=')[0]}={varied[key_of(word)]}" if key_of(word) in varied else word
            for word in self.typed
            if not SWEEPS_OWN.match(word.lstrip("+~"))
        )
        named = {key_of(word) for word in words}
        extra = [given[key] for key in varied if key not in named]  # what only the sweeper knows of
        return [*words, *extra], varied


@dataclass(frozen=True)
class Alone:
    """The job that another launcher than ours runs, wherever that is: in a process of its own all the same."""

    folder: Path
    time_limit: float | None

    def __call__(self, cfg: DictConfig) -> float:
        """Returns the mean return of the final evaluation; NaN if the job has not finished: its status.json says why.

        Raises:
            SystemExit: a signal came, which ends the sweep; the run is saved.
        """
        record = Sweep.read(self.folder)
        job = record.jobs[int(HydraConfig.get().job.num)]
        show = Lines(record, 1)
        show.expect(record.jobs)
        for standing in show.standings.values():
            standing.state = "elsewhere"
        try:
            Pool(record, show, 1, self.time_limit).run([from_the_beginning(record, job)])
        except Interrupted as error:
            raise SystemExit(error.exit_code) from error
        return Outcome.of(record.run(job)).mean


def slots_of(options: SweepConfig) -> int:
    """Jobs at a time, at most."""
    return options.jobs or (1 if options.cluster is None else MOST)


def at_a_time(slots: int, jobs: Sequence[object]) -> str:
    return f"{slots} at a time" if slots < MOST else f"{len(jobs)} at a time"


def pool_of(record: Sweep, show: Lines, options: SweepConfig) -> Pool:
    """Where the jobs of a sweep are done."""
    slots, given = slots_of(options), (record, options.time_limit, options.cpus, options.gpus)
    match options.cluster:
        case None:
            return Pool(record, show, slots, options.time_limit)
        case "ray":
            return Pool(record, show, slots, place=cluster.OnRay(*given, options.address))
        case kind:
            return Pool(record, show, slots, place=cluster.OnSlurm(*given, options.slurm, rehearse=kind == "submitit"))


def to_do(record: Sweep, job: Job, retry: bool, flags: Sequence[str]) -> Task | None:
    """What is left of a job; None if nothing is.

    Args:
        retry: whether to try again what failed.
        flags: for continuing it.
    """
    run = record.run(job)
    state = recorded_state(run)
    if state == "finished" or (state in ("failed", "diverged") and not retry) or (state and run.is_alive()):
        return None
    if state and run.config.exists():
        return Task(job, ["resume", *flags, str(place(record, job))])
    run.status.unlink(missing_ok=True)  # it failed before there was anything to continue
    return from_the_beginning(record, job)


def from_the_beginning(record: Sweep, job: Job) -> Task:
    return Task(job, [*record.flags, *job.words, f"hydra.run.dir={place(record, job)}"])


def place(record: Sweep, job: Job) -> Path:
    """A job's directory, as its process finds it, which works where the sweep was started."""
    folder = record.run(job).path
    return folder if record.cwd == os.getcwd() else folder.absolute()


def await_ends(record: Sweep, killed: bool) -> None:
    """Wait for jobs that nobody waits for any more, because whoever did was killed; and record what ended wordlessly.

    Args:
        killed: whether they were ended with the sweep, rather than on their own.
    """
    runs = [record.run(job) for job in record.jobs if recorded_state(record.run(job)) == "running"]
    if alive := [run for run in runs if run.is_alive()]:
        say(f"waiting for {len(alive)} jobs that are still at work")
    deadline = time.monotonic() + max((job.grace for job in record.jobs), default=0.0) + SAVING
    while any(run.is_alive() for run in alive) and time.monotonic() < deadline:
        time.sleep(0.1)
    for run in runs:
        if not run.is_alive():
            settle(run, "its process ended without a word", stopping=killed, overdue=False)


def summed_up(record: Sweep, code: int) -> int:
    """Write `sweep.csv`, print the table, and return the exit code: `code`, or 1 if a job has not finished."""
    outcomes = record.outcomes()
    states = {outcome.state for _, outcome in outcomes}
    print_table(record, outcomes)
    try:
        say(str(write_csv(record, outcomes)))
    except OSError as error:
        say(f"rlrun: {error}")
    again = ["resume", str(record.path)]
    if states & {"preempted", "not started"}:
        say(f"complete it with: {command_line(again)}")
    if states & {"failed", "diverged"}:
        say(f"what a job printed is in {record.path}/JOB/{CONSOLE}")
        say(f"once more what failed: {command_line([*again, 'retry=failed'])}")
    return code or int(states != {"finished"})


def folder_of(sweep: str, number: int) -> str:
    """Where a job belongs, for launchers that make its directory."""
    return Sweep.read(Path(sweep)).jobs[number].folder


def listed(problems: dict[str, list[str]], jobs: int) -> str:
    """What is wrong with the jobs of a sweep, mistake by mistake."""
    wrong = sum(map(len, problems.values()))
    lines = [f"{wrong} of {jobs} jobs cannot run; none was started"]
    for problem, names in list(problems.items())[:SHOWN]:
        where = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"{where}: {'; '.join(problem.splitlines())}")
    if len(problems) > SHOWN:
        lines.append(f"… and {len(problems) - SHOWN} other mistakes")
    return "\n".join(lines)


def apart(jobs: Sequence[Job]) -> None:
    """Raise ConfigError if a job's directory is another one's, or lies in it, or is the sweep's."""
    numbers: dict[Path, int] = {}
    for job in jobs:
        folder = Path(job.folder)
        if folder == Path() or ".." in folder.parts:
            raise ConfigError(
                "hydra.sweep.subdir", f"{job.folder} is no directory inside the sweep's", "give it a name"
            )
        if (other := numbers.setdefault(folder, job.number)) != job.number:
            problem = f"jobs {other} and {job.number} would both go to {folder}"
            raise ConfigError("hydra.sweep.subdir", problem, "put ${hydra.job.num} into it")
    for folder, number in numbers.items():
        for parent in folder.parents:
            if parent in numbers:
                problem = f"job {number} would go to {folder}, into job {numbers[parent]}"
                raise ConfigError("hydra.sweep.subdir", problem, "put ${hydra.job.num} into it")


@contextmanager
def made(folder: Path) -> Iterator[Path]:
    """The directory of the sweep, which no other sweep has; taken back if nothing was put on record.

    Raises:
        ConfigError: it exists, or cannot be made.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError as error:
        raise ConfigError("hydra.sweep.dir", f"{folder} exists already", "choose another directory") from error
    except OSError as error:
        raise ConfigError("hydra.sweep.dir", f"{folder} cannot be made: {error.strerror}", "choose another") from error
    try:
        yield folder
    except BaseException:
        if not (folder / RECORD).exists():
            with suppress(OSError):  # up to the first that somebody else uses
                for name in ("multirun.yaml", ".lock"):  # Hydra's and ours
                    (folder / name).unlink(missing_ok=True)
                for path in new:
                    path.rmdir()
        raise


@contextmanager
def leaving() -> Iterator[None]:
    """While no job is watched, a signal ends the sweep where it is."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    heeded = [s for s in SIGNALS if s != signal.SIGINT and signal.getsignal(s) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, leave) for signum in heeded}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)


def quoted(text: str) -> str:
    """Text as a value that Hydra takes."""
    return text if re.fullmatch(r"[\w./+-]+", text) else QuotedString(text, Quote.single).with_quotes()


def key_of(word: str) -> str:
    """What a word is about: `+a.b=1` is about `a.b`."""
    return word.lstrip("+~").partition("=")[0]


def ask_hydra(flags: Sequence[str], words: Sequence[str]) -> int:
    """Let Hydra's own command line answer `--cfg`, `--info`, `--hydra-help` and `--shell-completion`."""
    app = hydra.main(config_path=str(compose.conf_dir()), config_name=compose.ROOT, version_base="1.3")(nothing)
    argv = ["rlrun", *flags, *compose.complete(words)]
    with mock.patch.object(sys, "argv", argv), mock.patch.dict(os.environ, HYDRA_FULL_ERROR="1"):
        try:
            app()
        except SystemExit as error:  # Hydra's way to say that this was all
            return int(error.code or 0)
        except (HydraException, OmegaConfBaseException) as error:  # Hydra leaves it to us to say so
            with compose.session() as loader:
                raise refusals.failure(argv[1 + len(flags) :], error, loader) from error
    return 0


def nothing(cfg: DictConfig) -> float:
    return math.nan
