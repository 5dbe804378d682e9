"""What a sweep shows while it is at work: one live table on a terminal, otherwise lines that name the job."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlrun.loggers.console import mode
from rlrun.rundir.sweep import Job, Outcome, Sweep, progress
from rlrun.text import clock, mean_and_std, number

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable

REFRESH = 1.0  # seconds between two looks at the logs of the jobs
LONGEST = 200  # characters of a reason
AROUND = 6  # lines of a terminal that the live table leaves free


@dataclass
class Standing:
    """How a job of this sweep is doing."""

    job: Job
    state: str  # waiting, running, or what became of it
    begun: float = math.nan  # time.monotonic()
    first: int = 0  # env steps it had when it began
    env_steps: int = 0
    recent: float = math.nan  # return, lately or in the final evaluation
    outcome: Outcome | None = None

    def left(self, now: float) -> float:
        """Seconds to its end at its speed so far; NaN if unknown."""
        done = self.env_steps - self.first
        return (now - self.begun) / done * max(self.job.total_timesteps - self.env_steps, 0) if done > 0 else math.nan


@dataclass
class Lines:
    """A line when a job starts and when it has ended, with what is left of the sweep."""

    sweep: Sweep
    slots: int
    standings: dict[int, Standing] = field(default_factory=dict)
    _looked: float = 0.0
    _seconds: list[float] = field(default_factory=list)  # that jobs took

    def expect(self, jobs: list[Job]) -> None:
        """These jobs are about to be run."""
        self.standings |= {job.number: Standing(job, "waiting") for job in jobs}

    def started(self, job: Job) -> None:
        standing = self.standings[job.number]
        standing.state, standing.begun = "running", time.monotonic()
        standing.first = standing.env_steps = progress(self.sweep.run(job))[0]
        self.say(f"{self._naming(job)} started: {job.folder}")

    def ended(self, job: Job, outcome: Outcome) -> None:
        standing = self.standings[job.number]
        took = time.monotonic() - standing.begun
        standing.state, standing.outcome = outcome.state, outcome
        standing.env_steps, standing.recent = outcome.env_steps, outcome.mean
        if outcome.state == "finished":
            self._seconds.append(took)
        what = mean_and_std(outcome.mean, outcome.std) if outcome.state == "finished" else brief(outcome.reason)
        self.look()
        left = self.time_left()
        rest = f", about {clock(left)} left for the sweep" if left > 0 else ""
        self.say(f"{self._naming(job)} {outcome.state}: {job.folder}: {what} ({clock(took)}{rest})")

    def say(self, text: str) -> None:
        say(text)

    def refresh(self) -> None:
        pass

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def look(self) -> None:
        """Take in what the jobs at work have logged."""
        self._looked = time.monotonic()
        for standing in self.standings.values():
            if standing.state == "running":
                standing.env_steps, standing.recent = progress(self.sweep.run(standing.job))

    def time_left(self) -> float:
        """Seconds to the end of the sweep, from how long jobs took and how far those at work are; NaN if unknown."""
        now = time.monotonic()
        known = list(self._seconds)
        lefts = []
        for standing in (s for s in self.standings.values() if s.state == "running"):
            left = standing.left(now)
            if not math.isnan(left):
                known.append(now - standing.begun + left)
            lefts.append((left, now - standing.begun))
        waiting = sum(standing.state == "waiting" for standing in self.standings.values())
        if not known:
            return math.nan if waiting or lefts else 0.0
        usual = sum(known) / len(known)
        at_work = [max(usual - spent, 0.0) if math.isnan(left) else left for left, spent in lefts]
        return max([(sum(at_work) + usual * waiting) / min(self.slots, len(self.standings)), *at_work])

    def _naming(self, job: Job) -> str:
        place = list(self.standings).index(job.number) + 1
        return f"job {place} of {len(self.standings)}"


@dataclass
class Live(Lines):
    """A table that is drawn anew on the same lines of a terminal."""

    def __enter__(self) -> Live:
        from rich.live import Live as Screen

        self._screen = Screen(auto_refresh=False, transient=True)
        self._screen.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._screen.stop()

    def started(self, job: Job) -> None:
        super().started(job)
        self._draw()

    def ended(self, job: Job, outcome: Outcome) -> None:
        super().ended(job, outcome)
        self._draw()

    def say(self, text: str) -> None:
        if not text.startswith("job "):  # the table says it
            say(text)

    def refresh(self) -> None:
        if time.monotonic() - self._looked >= REFRESH:
            self.look()
            self._draw()

    def _draw(self) -> None:
        self._screen.update(self.table(), refresh=True)

    def table(self) -> ConsoleRenderable:
        """The jobs at work, then those that failed, the newest of those that have ended, and the next."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console, now = Console(), time.monotonic()
        rows = list(self.standings.values())
        ended = sum(row.outcome is not None for row in rows)
        table = Table(box=box.SIMPLE, title_justify="left", caption_justify="left", expand=False)
        whole = self.time_left()
        rest = f", about {clock(whole)} left" if whole > 0 else ""
        table.title = f"{self.sweep.path}: {ended} of {len(rows)} jobs done{rest}"
        for name in ("job", "state", "steps", "return", "left"):
            table.add_column(name, no_wrap=True, justify="left" if name in ("job", "state") else "right")
        room = max(console.height - AROUND, 3)
        order = {"running": 0, "waiting": 2, "finished": 3}
        shown = sorted(rows, key=lambda row: (order.get(row.state, 1), row.job.number))[:room]
        for row in sorted(shown, key=lambda row: row.job.number):
            steps = f"{row.env_steps:,} / {row.job.total_timesteps:,}" if row.state != "waiting" else ""
            recent = "" if math.isnan(row.recent) else number(row.recent)
            left = clock(row.left(now)) if row.state == "running" else ""
            table.add_row(shortened(row.job.folder, max(console.width - 52, 16)), row.state, steps, recent, left)
        if len(rows) > len(shown):
            table.caption = f"… and {len(rows) - len(shown)} more"
        return table


def board(sweep: Sweep, slots: int) -> Lines:
    """What suits stdout."""
    return Live(sweep, slots) if mode("auto") == "rich" else Lines(sweep, slots)


def say(text: str) -> None:
    """Print a line, now."""
    print(text, flush=True)


def brief(reason: str) -> str:
    """A reason in one line."""
    return shortened("; ".join(reason.split("\n")), LONGEST)


def shortened(text: str, room: int) -> str:
    """Text without its middle, if it is too long."""
    return text if len(text) <= room else f"{text[: room // 2]}…{text[len(text) - room + room // 2 + 1 :]}"
