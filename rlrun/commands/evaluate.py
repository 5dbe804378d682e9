"""`rlrun eval RUN`: plays fresh episodes with a checkpoint's agent, says how they went, and writes it down."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlrun import files
from rlrun.checks import Count, Within
from rlrun.config.values import from_words
from rlrun.run import evaluation, film
from rlrun.run.restore import PlayingOptions, restore
from rlrun.rundir import find
from rlrun.rundir.layout import RunDir
from rlrun.seeding import Role


@dataclass
class EvalOptions(PlayingOptions):
    """Evaluate a checkpoint of a run on fresh episodes."""

    episodes: Annotated[int, Within(1, 10**6)] = 100  # how many to play
    num_envs: Count | None = None  # environments stepped together; null = as in the run's own evaluations
    video: bool = False  # film the first episode: videos/…_return_487.mp4
    json: bool = False  # print one JSON object


def evaluate(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Play fresh episodes, say how they went, and write it down."""
    options = from_words(EvalOptions, words)
    run_dir, ckpt = find.open_checkpoint(path, options.ckpt, usual="last")
    run = restore(run_dir, ckpt, trust)
    environments, how = run.setting.environments, run.how(options)
    seeds = run.setting.seeds.integers(Role.TEST, options.episodes)
    agent = run.player(options)
    name = f"{run.checkpoint.name}_{options.policy}_{options.episodes}"
    name += "" if options.epsilon is None else f"_epsilon{options.epsilon:g}"
    name += "" if options.max_steps is None else f"_cut{options.max_steps}"
    file = run_dir.path / "evaluations" / f"{name}.json"
    num_envs = min(options.num_envs or run.cfg.eval.num_envs, options.episodes)
    with closing(environments.evaluation(num_envs)) as envs:
        result = evaluation.evaluate(agent, envs, seeds, **how)
    filmed = film.record(agent, environments, seeds[0], run_dir.videos / name, **how) if options.video else None
    report = {"run": str(run_dir.path), "checkpoint": run.checkpoint.name, "policy": options.policy, **result.to_dict()}
    report |= {} if options.epsilon is None else {"epsilon": options.epsilon}
    report |= {} if options.max_steps is None else {"max_steps": options.max_steps}
    report |= {"video": str(filmed.file)} if filmed else {}
    written = _write(run_dir, file, report | {"returns": result.returns, "lengths": result.lengths})
    if options.json:
        print(json.dumps(report))
    else:
        print(result, *([file] if written else []), *([filmed.file] if filmed else []), sep="\n")
    return 0


def _write(run_dir: RunDir, file: Path, report: Mapping[str, Any]) -> bool:
    """Write an evaluation down, if the disk takes it: what was found out is shown all the same."""
    try:
        files.make_directory(file.parent, run_dir.path)
        run_dir.write_json(file, report)
    except files.DiskError as error:
        print(f"warning: {error}", file=sys.stderr)
        return False
    return True
