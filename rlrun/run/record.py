"""The one place that records how a run ended, whatever ended it: status.json, summary.json and, at length, run.log."""

from __future__ import annotations

import functools
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlrun.config.ranks import START
from rlrun.errors import Escaped, Interrupted, RlrunError, described, printable
from rlrun.interrupt import Interrupt
from rlrun.loggers.runlog import UNSAID
from rlrun.run.callbacks.summary import Summary
from rlrun.run.handover import playable
from rlrun.run.run import Run
from rlrun.rundir.layout import RunDir

log = logging.getLogger(__name__)

SHOW_CURSOR = "\x1b[?25h"


class Record:
    """A run directory, and the run in it once there is one."""

    def __init__(self, run_dir: RunDir):
        self.run_dir = run_dir
        self.run: Run | None = None
        self.summary: Summary | None = None
        self._ended: tuple[str, dict[str, Any]] | None = None  # the state, and what the summary says

    def end(self, state: str, reason: str = "") -> None:
        """Write down how the run ended. A preempted one goes on from what is saved, so that is where it stands.

        A disk that takes nothing any more is no reason to hide what happened.
        """
        try:
            self.run_dir.must_be_ours()  # who took it over writes its status from now on
            env_steps = self.run_dir.saved_steps()
            if self.run is not None and state != "preempted":
                env_steps = max(env_steps, self.run.progress.env_steps)
            self.run_dir.set_status(state, env_steps=env_steps, reason=printable(reason))
            if self.run is not None and self.summary is not None:
                self._ended = state, self.summary.write(self.run, state, env_steps)
        except (OSError, RlrunError) as error:
            log.warning("how the run ended could not be written down: %s", error)

    def tell_tracker(self) -> None:
        """Tell the tracker, if there is one, how it ended; when all is written down, for it may take its time."""
        tracking = getattr(self.run.logger, "tracking", None) if self.run is not None else None
        if tracking is not None and self._ended is not None:
            tracking.finish(*self._ended, functools.partial(playable, self.run_dir))

    def fail(self, error: Exception) -> None:
        """Write down what went wrong: in a few lines in the status, with all that led to it in run.log."""
        known = error if isinstance(error, RlrunError) else RlrunError(described(error))
        UNSAID.error("%s", printable(str(known)), exc_info=error)
        self.end(known.state, str(known))
        log.info("the traceback is in %s", self.run_dir.log)

    def continued(self) -> str:
        """Where a run that was stopped goes on, and how."""
        steps, how = self.run_dir.saved_steps(), f"with: {resuming(self.run_dir.path, self.run_dir.begun_by)}"
        if steps and self.run is not None and self.run.progress.env_steps == steps:
            return f"saved at {steps:,} env steps; continue {how}"
        return f"continue from {f'{steps:,} env steps' if steps else 'the beginning'} {how}"

    def last_words(self, error: Interrupted, where: str) -> None:
        """What is still to be done before the process is ended from outside; `where` it hangs."""
        self.end(error.state, str(error))
        UNSAID.error("%s\n%s", error, where)
        with suppress(OSError):  # nobody may be there to hear it
            if os.isatty(2):
                os.write(2, SHOW_CURSOR.encode())
            os.write(2, f"{self.continued()}\nrlrun: {error}\n".encode())


def resuming(path: Path, ranks: int) -> str:
    """The command that goes on with a run."""
    return f"{f'{START}={ranks} -m ' if ranks > 1 else ''}rlrun resume {shlex.quote(str(path))}"


@contextmanager
def recorded(run_dir: RunDir, interrupt: Interrupt) -> Iterator[Record]:
    """Keep the run directory true whatever happens inside; the error goes on to whoever says it on the console.

    Raises:
        Interrupted: the run was saved, or given up in the middle of something.
        Escaped: in place of what is no Exception, such as the SystemExit of an environment.
    """
    record = Record(run_dir)
    before, interrupt.last_words = interrupt.last_words, record.last_words
    try:
        yield record
    except BaseException as error:
        if interrupt.is_given_up:  # whatever it has become on its way here
            given_up = interrupt.given_up()
            UNSAID.error("%s", given_up, exc_info=error)
            record.end(given_up.state, str(given_up))
            log.info("%s", record.continued())
            raise given_up from None
        if isinstance(error, Interrupted):
            record.end(error.state, str(error))
            log.info("%s", record.continued())
            raise
        if isinstance(error, Exception):
            record.fail(error)
            raise
        escaped = Escaped(error)
        escaped.__cause__ = error
        record.fail(escaped)
        raise escaped from error
    else:
        record.end("finished", record.run.stop_reason if record.run else "")
    finally:
        record.tell_tracker()
        interrupt.last_words = before
