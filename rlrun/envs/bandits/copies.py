"""What all bandits have in common: copies of a problem whose episodes are one pull of an arm, and the books on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlrun.envs.bandits.regret import RegretMeter
from rlrun.envs.environments import Environments
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, EpisodeStat, Metrics, StateDict, Step, VectorEnv


class Copies:
    """Base: E copies of a bandit, stepped as arrays; a subclass says what is shown and what an arm pays.

    A copy that is started by `reset_one` has a stream of its own from then on, so that its episode depends on its seed
    alone.

    Args:
        problems: P, how many the books tell apart.
    """

    caveat = ""  # its state is all arrays and streams of its own

    def __init__(self, spec: EnvSpec, problems: int):
        self.spec, self.num_envs = spec, spec.num_envs
        self.obs = np.zeros((self.num_envs, *spec.obs_space.shape), spec.obs_space.dtype)
        self._own: dict[int, np.random.Generator] = {}
        self._over, self._never = np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._meter = RegretMeter(spec.num_actions, problems)

    @property
    def pulls(self) -> Array | None:
        """How often each arm [P, A] has been pulled."""
        return self._meter.pulls

    def prove(self, check: Callable[[], None] | None = None) -> None:
        pass

    def metrics(self) -> Metrics:
        """`bandit/...`: see RegretMeter."""
        return self._meter.metrics()

    def reset_one(self, env: int, seed: int) -> Array:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _show_next(self) -> None:
        """Write what every copy shows next into `obs`."""
        raise NotImplementedError

    def _begin(self, seeds: Sequence[int], separate: bool) -> Array:
        """The first observations, on the common stream or on a stream for each seed."""
        self._own.clear()
        self._show_next()
        if separate:
            for e, seed in enumerate(seeds):
                self.reset_one(e, seed)
        return self.obs

    def _end(self, reward: Array) -> Step:
        """All episodes are over with these rewards [E], and the next ones begin."""
        final_obs = dict(enumerate(self.obs.copy()))
        self._show_next()
        episodes = [EpisodeStat(r, 1, e) for e, r in enumerate(reward.tolist())]
        return Step(self.obs, reward.astype(np.float32), self._over, self._never, final_obs, episodes)

    def _books(self) -> StateDict:
        """The copies' own streams, and the pulls so far."""
        own = [(e, generator_state(rng)) for e, rng in self._own.items()]
        return {"own": own, "regret": self._meter.state_dict()}

    def _restore_books(self, state: StateDict) -> None:
        self._own = {e: np.random.default_rng(0) for e, _ in state["own"]}
        for e, saved in state["own"]:
            restore_generator(self._own[e], saved)
        self._meter.load_state_dict(state["regret"])


class BanditEnvironments(Environments):
    """Base of the factories: training and evaluation play the same problem; a subclass implements `_vector`."""

    _training: VectorEnv | None = None

    def spec(self, num_envs: int) -> EnvSpec:
        """What an algorithm may know."""
        return self._vector(num_envs).spec

    def train(self, num_envs: int) -> VectorEnv:
        """The copies a learner plays."""
        self._training = self._vector(num_envs, training=True)
        return self._training

    def evaluation(self, num_envs: int) -> VectorEnv:
        """Other copies, each with a random stream of its own."""
        return self._vector(num_envs, separate=True)

    def arm_counts(self) -> Array | None:
        """How often each arm [P, A] was pulled in training."""
        return self._training.pulls if self._training else None

    def _vector(self, num_envs: int, training: bool = False, separate: bool = False) -> VectorEnv:
        raise NotImplementedError
