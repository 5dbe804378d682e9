"""Looking at runs: evaluating a checkpoint, and watching its agent play."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import build, checkpoint, config, evaluation, files, runs
from rlrun.build import Parts
from rlrun.checks import one_of, within
from rlrun.config import RunConfig
from rlrun.errors import ConfigError
from rlrun.rundir import RunDir
from rlrun.seeding import Role
from rlrun.trust import read_config
from rlrun.types import Agent, Progress, StateDict, Stateful, VectorEnv
from rlrun.unresolved import looked_up

POLICIES = ("greedy", "stochastic")


@dataclass
class EvalOptions:
    """Evaluate a checkpoint of a run on fresh episodes."""

    ckpt: str = "last"  # last | best | env steps of a checkpoint
    episodes: int = 100  # how many to play
    policy: str = "greedy"  # greedy | stochastic (acts as in training, exploration included)
    epsilon: float | None = None  # probability of a random action in place of the greedy one; null = none
    max_steps: int | None = None  # cut an episode after so many env steps; null = as the run's own evaluations do
    num_envs: int | None = None  # environments stepped together; null = as in the run's own evaluations
    video: bool = False  # film the first episode
    json: bool = False  # print one JSON object

    def __post_init__(self) -> None:
        within("episodes", self.episodes, 1, 10**6)
        one_of("policy", self.policy, POLICIES)
        within("epsilon", self.epsilon, 0, 1)
        within("max_steps", self.max_steps, 1)
        within("num_envs", self.num_envs, 1)
        if self.epsilon is not None and self.policy != "greedy":
            raise ConfigError("epsilon", "goes with the greedy policy", "policy=stochastic explores as in training")


@dataclass
class PlayOptions:
    """Watch an agent play; where there is no display it is filmed."""

    ckpt: str = "last"  # last | best | env steps of a checkpoint
    episodes: int = 1  # how many to play
    policy: str = "greedy"  # greedy | stochastic (acts as in training, exploration included)
    epsilon: float | None = None  # probability of a random action in place of the greedy one; null = none
    max_steps: int | None = None  # cut an episode after so many env steps; null = as the run's own evaluations do
    record: bool = False  # film it even where there is a display

    def __post_init__(self) -> None:
        within("episodes", self.episodes, 1, 10**6)
        one_of("policy", self.policy, POLICIES)
        within("epsilon", self.epsilon, 0, 1)
        within("max_steps", self.max_steps, 1)
        if self.epsilon is not None and self.policy != "greedy":
            raise ConfigError("epsilon", "goes with the greedy policy", "policy=stochastic explores as in training")


@dataclass
class Restored:
    """A run as one of its checkpoints has it."""

    cfg: RunConfig
    parts: Parts
    checkpoint: Path
    env_steps: int

    def evaluation_envs(self, options: EvalOptions) -> VectorEnv:
        num_envs = min(options.num_envs or self.cfg.eval.num_envs, options.episodes)
        return self.parts.environments.evaluation(num_envs, self.parts.envs)

    def player(self, options: EvalOptions | PlayOptions) -> Agent:
        """The agent, on a random stream that no training has used."""
        parts = self.parts
        config.check_epsilon("epsilon", options.epsilon, parts.spec)
        rng = parts.seeds.generator(Role.TEST, options.episodes)  # the index behind the episodes' own
        return evaluation.player(parts.algo.agent, rng, options.epsilon, parts.spec)

    def how(self, options: EvalOptions | PlayOptions) -> dict[str, Any]:
        """Arguments for `evaluation.evaluate`."""
        return {
            "explore": options.policy == "stochastic",
            "env_steps": self.env_steps,
            "max_steps": options.max_steps or self.cfg.eval.max_steps,
            "say": functools.partial(print, file=sys.stderr),
        }


def evaluate(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Play fresh episodes, say how they went, and write it down."""
    options = config.from_words(EvalOptions, words)
    run_dir = runs.open_run(path)
    run = restore(run_dir, options.ckpt, trust)
    parts, how = run.parts, run.how(options)
    seeds = parts.seeds.integers(Role.TEST, options.episodes)
    agent = run.player(options)
    name = f"{run.checkpoint.name}_{options.policy}_{options.episodes}"
    name += "" if options.epsilon is None else f"_epsilon{options.epsilon:g}"
    file, film = run_dir.path / "evaluations" / f"{name}.json", run_dir.videos / f"{name}.mp4"
    with closing(run.evaluation_envs(options)) as envs:
        result = evaluation.evaluate(agent, envs, seeds, **how)
    filmed = options.video and evaluation.record(agent, parts.environments, seeds[0], film, train=parts.envs, **how)
    report = {"run": str(run_dir.path), "checkpoint": run.checkpoint.name, "policy": options.policy, **result.to_dict()}
    report |= {} if options.epsilon is None else {"epsilon": options.epsilon}
    report |= {"video": str(film)} if filmed else {}
    written = _write(run_dir, file, report | {"returns": result.returns, "lengths": result.lengths})
    if options.json:
        print(json.dumps(report))
    else:
        print(result, *([file] if written else []), *([film] if filmed else []), sep="\n")
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


def play(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Show or film episodes."""
    options = config.from_words(PlayOptions, words)
    run_dir = runs.open_run(path)
    run = restore(run_dir, options.ckpt, trust)
    parts, how = run.parts, run.how(options)
    agent = run.player(options)
    films = options.record or not evaluation.has_display()
    show = evaluation.record if options.record else evaluation.play
    for episode, seed in enumerate(parts.seeds.integers(Role.TEST, options.episodes)):
        film = run_dir.videos / f"{run.checkpoint.name}_{options.policy}_{episode}.mp4"
        result = show(agent, parts.environments, seed, film, train=parts.envs, **how)
        if result is None:
            return 1
        cut = " (cut there)" if result.cut else ""
        print(f"return {result.mean:g} in {result.mean_length:g} steps{cut}", *([film] if films else []))
    return 0


def _take_over(parts: Parts, source: StateDict) -> None:
    """What evaluation shares with training: the statistics of observations, or a bandit's problem.

    The state of Gymnasium's environments stays out: what it names, such as a folder or a port, belongs to the run,
    which may be at work.
    """
    envs = source.get("envs", {})
    if "environments" not in envs:
        parts.source.load_state_dict(source)
    elif "obs_stats" in envs:
        parts.envs.obs_stats.load_state_dict(envs["obs_stats"])  # type: ignore[attr-defined]


def restore(run_dir: RunDir, which: str, trust: bool = False) -> Restored:
    """A run's parts in the state of a checkpoint.

    Raises:
        ConfigError, CheckpointError: there is no such checkpoint, or it cannot be used.
    """
    if which not in ("best", "last") and not (which.isascii() and which.isdigit()):
        raise ConfigError("ckpt", f"there is no checkpoint {which!r}", "choose best, last or a number of env steps")
    found, state = checkpoint.load_named(
        run_dir.checkpoints,
        int(which) if which.isdigit() else which,
        ["algo", "source", "progress"],
        lambda text: print(f"warning: {text}", file=sys.stderr),
    )
    with run_dir.where_modules_are():
        cfg = config.validate(looked_up(read_config(run_dir, trust)), learns=False)
    parts = build.parts(cfg)
    parts.must_show_data_of(run_dir)
    progress = Progress(cfg.total_timesteps)
    with checkpoint.must_fit(found), closing(parts.envs):  # only their statistics are still wanted
        own: dict[str, Stateful] = {"algo": parts.algo, "source": parts.source, "progress": progress}
        checkpoint.must_resemble(state, {name: part.state_dict() for name, part in own.items()})
        progress.load_state_dict(state["progress"])
        parts.algo.load_state_dict(state["algo"])
        _take_over(parts, state["source"])
    return Restored(cfg, parts, found, progress.env_steps)
