"""What a run asks of its environments, whatever they are: the base of every `env` that is registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rlrun.errors import ConfigError
from rlrun.state import Stateful
from rlrun.types import Array, EnvSpec, VectorEnv

if TYPE_CHECKING:
    import gymnasium as gym

    from rlrun.envs.gridworlds import Grid
    from rlrun.envs.view import View
    from rlrun.ops.running import RunningMeanStd


class Environments(Stateful):
    """A factory of environments, and the owner of what those of training and of evaluation share.

    That is what training has learned about observations, or the problem that a bandit has become; it is a part of the
    checkpoint of its own, so that evaluating a checkpoint takes no environment of the training.

    It is registered as `factory(cfg, seeds, gamma=..., info_keys=...)`: the options of the env, the seeds of the run,
    the discount of its algorithm, and what of the environments' `info` shall become metrics.
    """

    tells_info = False  # whether there is an `info` to read

    @property
    def gathers(self) -> str:
        """The option by which those of training gather in one place what they all show; "" if there is none."""
        return ""

    @property
    def statistics(self) -> Sequence[RunningMeanStd]:
        """Running statistics that those of training gather, and all ranks of a run go by."""
        return ()

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know of `num_envs` environments."""
        raise NotImplementedError

    def train(self, num_envs: int) -> VectorEnv:
        """The environments that a learner collects from, with all that the config asks for."""
        raise NotImplementedError

    def evaluation(self, num_envs: int) -> VectorEnv:
        """Environments of their own that show the same, with raw rewards, each with a random stream of its own."""
        raise NotImplementedError

    def render(self, mode: str) -> gym.Env:
        """One environment that can be looked at; mode "human" or "rgb_array". ConfigError if there is none."""
        self._shows_nothing()

    def watch(self, env: gym.Env) -> VectorEnv:
        """`evaluation` on the one environment given, such as one from `render`."""
        self._shows_nothing()

    def single(self) -> gym.Env | None:
        """One environment by itself, without anything to look at; None where there are none of Gymnasium's."""
        return None

    def grid(self) -> Grid | None:
        """How the states lie in a grid, if they do."""
        return None

    def arm_counts(self) -> Array | None:
        """How often each arm [P, A] was pulled in training, if there are arms."""
        return None

    def fingerprint(self) -> str:
        """A hash of the data that the environments show; "" where they show none."""
        return ""

    def record(self) -> dict[str, Any]:
        """What is known of one environment, for whoever plays without opening any; {} if they cannot do without."""
        return {}

    def stand_in(self, record: Mapping[str, Any]) -> None:
        """Go by a record instead of opening environments. NotRecorded if it is none."""

    def view(self) -> View:
        """What an agent sees of observations that come from elsewhere; training's statistics are frozen."""
        from rlrun.envs.recorded import Record
        from rlrun.envs.spaces import action_map
        from rlrun.envs.vector.in_process import InProcess
        from rlrun.envs.view import View

        record = Record.like(self.spec(1))
        return View(record, InProcess, action_map(record.action_space))

    def _shows_nothing(self) -> NoReturn:
        raise ConfigError("env", f"{self.spec(1).id} has nothing to show")
