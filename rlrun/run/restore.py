"""A run as one of its checkpoints has it."""

from __future__ import annotations

import functools
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlrun.agents.agent import Agent
from rlrun.checks import Bounded, Count, Share, Within
from rlrun.config.fit import check_epsilon
from rlrun.config.schema import RunConfig
from rlrun.config.unresolved import looked_up
from rlrun.config.validate import validate
from rlrun.errors import ConfigError
from rlrun.run import build, evaluation
from rlrun.run.build import Parts
from rlrun.run.evaluation import Policy, check_policy
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir
from rlrun.rundir.trust import read_config
from rlrun.seeding import Role
from rlrun.types import Progress, StateDict, VectorEnv


@dataclass
class PlayingOptions(Bounded):
    """How a checkpoint's agent plays: what `eval` and `play` have in common."""

    ckpt: str = "last"  # last | best | env steps of a checkpoint
    episodes: Annotated[int, Within(1, 10**6)] = 1  # how many to play
    policy: Policy = "greedy"  # greedy | stochastic (acts as in training, exploration included)
    epsilon: Share | None = None  # probability of a random action in place of the greedy one; null = none
    max_steps: Count | None = None  # cut an episode after so many env steps; null = as the run's own evaluations do

    def __post_init__(self) -> None:
        super().__post_init__()
        check_policy(self.policy, self.epsilon)


@dataclass
class Restored:
    """A run as one of its checkpoints has it."""

    cfg: RunConfig
    parts: Parts
    checkpoint: Path
    env_steps: int

    def evaluation_envs(self, num_envs: int) -> VectorEnv:
        return self.parts.environments.evaluation(num_envs, self.parts.envs)

    def player(self, options: PlayingOptions) -> Agent:
        """The agent, on a random stream that no training has used."""
        parts = self.parts
        check_epsilon("epsilon", options.epsilon, parts.spec)
        rng = parts.seeds.generator(Role.TEST, options.episodes)  # the index behind the episodes' own
        return evaluation.player(parts.algo.agent, rng, options.epsilon, parts.spec)

    def how(self, options: PlayingOptions) -> dict[str, Any]:
        """Arguments for `evaluation.evaluate`."""
        return {
            "explore": options.policy == "stochastic",
            "env_steps": self.env_steps,
            "max_steps": options.max_steps or self.cfg.eval.max_steps,
            "say": functools.partial(print, file=sys.stderr),
        }


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
    found, state = checkpoints.load_named(
        run_dir.checkpoints,
        int(which) if which.isdigit() else which,
        ["algo", "source", "progress"],
        lambda text: print(f"warning: {text}", file=sys.stderr),
    )
    with run_dir.where_modules_are():
        cfg = validate(looked_up(read_config(run_dir, trust)), learns=False)
    parts = build.parts(cfg)
    parts.must_show_data_of(run_dir)
    progress = Progress(cfg.total_timesteps)
    with checkpoints.must_fit(found), closing(parts.envs):  # only their statistics are still wanted
        own: dict[str, Any] = {"algo": parts.algo, "source": parts.source, "progress": progress}
        checkpoints.must_resemble(state, {name: part.state_dict() for name, part in own.items()})
        progress.load_state_dict(state["progress"])
        parts.algo.load_state_dict(state["algo"])
        _take_over(parts, state["source"])
    return Restored(cfg, parts, found, progress.env_steps)
