"""A run as one of its checkpoints has it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlrun.agents.agent import Agent
from rlrun.algos.algorithm import Algorithm
from rlrun.checks import Bounded, Count, Share, Within
from rlrun.config.fit import check_epsilon
from rlrun.config.schema import RunConfig
from rlrun.config.unresolved import looked_up
from rlrun.config.validate import validate
from rlrun.errors import ConfigError
from rlrun.run import build, evaluation
from rlrun.run.evaluation import Policy, check_policy
from rlrun.run.parts import Setting
from rlrun.rundir import checkpoints
from rlrun.rundir.layout import RunDir
from rlrun.rundir.trust import read_config
from rlrun.seeding import Role
from rlrun.types import Progress


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
    """A run as one of its checkpoints has it: what plays, and where. Nothing here can learn."""

    setting: Setting
    algo: Algorithm
    checkpoint: Path
    env_steps: int

    @property
    def cfg(self) -> RunConfig:
        return self.setting.cfg

    def player(self, options: PlayingOptions) -> Agent:
        """The agent, on a random stream that no training has used."""
        spec = self.setting.spec
        check_epsilon("epsilon", options.epsilon, spec)
        rng = self.setting.seeds.generator(Role.TEST, options.episodes)  # the index behind the episodes' own
        return evaluation.player(self.algo.agent, rng, options.epsilon, spec)

    def how(self, options: PlayingOptions) -> dict[str, Any]:
        """Arguments for `evaluation.evaluate`."""
        return {
            "explore": options.policy == "stochastic",
            "env_steps": self.env_steps,
            "max_steps": options.max_steps or self.cfg.eval.max_steps,
            "say": functools.partial(print, file=sys.stderr),
        }


def restore(run_dir: RunDir, which: str, trust: bool = False, record: Mapping[str, Any] | None = None) -> Restored:
    """A run in the state of a checkpoint.

    Args:
        trust: obey its config even if it was made elsewhere.
        record: what is known of its environments; then none is opened.

    The state of its training environments stays where it is: what it names, such as a folder or a port, belongs to the
    run, which may be at work.

    Raises:
        ConfigError, CheckpointError: there is no such checkpoint, or it cannot be used.
    """
    if which not in ("best", "last") and not (which.isascii() and which.isdigit()):
        raise ConfigError("ckpt", f"there is no checkpoint {which!r}", "choose best, last or a number of env steps")
    found, state = checkpoints.load_named(
        run_dir.checkpoints,
        int(which) if which.isdigit() else which,
        ["algo", "environments", "progress"],
        lambda text: print(f"warning: {text}", file=sys.stderr),
    )
    with run_dir.where_modules_are():
        cfg = validate(looked_up(read_config(run_dir, trust)))
        setting = build.setting(cfg, learns=False, record=record)
    setting.must_show_data_of(run_dir)
    algo, progress = build.learner(setting), Progress(setting.cfg.total_timesteps)
    with checkpoints.must_fit(found):
        own: dict[str, Any] = {"algo": algo, "environments": setting.environments, "progress": progress}
        checkpoints.must_resemble(state, {name: part.state_dict() for name, part in own.items()})
        for name, part in own.items():
            part.load_state_dict(state[name])
    return Restored(setting, algo, found, progress.env_steps)
