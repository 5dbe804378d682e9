"""Processes that begin warm: forks of one that has run before, so that none pays two CPU seconds for its imports.

A request is a line on stdin, JSON, and so is the answer to it on stdout:

    {"program": [file or module, word, …], "folder": …, "log": …, "environment": {…}}    -> the pid of a new process
    pid                                                                                 -> its exit code; null: it lives

Each leads a session of its own and writes into its log.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from rlrun import cli


def run(program: list[str], folder: str, log: str, environment: dict[str, str]) -> None:
    """In a new process: what `python FILE WORD…`, or `python -m MODULE WORD…`, does."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # that of the environment
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), descriptor)
    sys.argv = program
    if program[0].endswith(".py"):
        sys.path.insert(0, str(Path(program[0]).parent))
        runpy.run_path(program[0], run_name="__main__")
    else:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    sys.exit()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        cli.main(["algo=dqn", "+smoke=on", "total_timesteps=100", "logger.console=off", f"hydra.run.dir={folder}/run"])
    for line in sys.stdin:
        match json.loads(line):
            case int(pid):
                ended, status = os.waitpid(pid, os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if ended else None
            case request:
                answer = os.fork()
                if not answer:
                    run(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
