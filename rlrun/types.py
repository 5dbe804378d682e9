"""What flows between the parts: spaces, rollouts, chunks, batches, progress, and the protocols of the moving parts.

Letters in shape comments: T time steps, E environments, B transitions in a batch, A actions, S states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    Array = np.ndarray
else:  # names for annotations: the libraries themselves are imported when they are needed (see lazy.py)
    Array, Tensor = "numpy.ndarray", "torch.Tensor"

TransitionModel = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""`model[state][action]`: outcomes as (probability, next state, reward, terminated); Gymnasium's `env.P`."""
Metrics = Mapping[str, Any]  # name -> float or detached 0-d tensor
StateDict = dict[str, Any]  # nested dicts and lists of plain data, numpy arrays and tensors


MASK = "action_mask"  # the field of an observation that says which actions can be taken
ACHIEVED, DESIRED = "achieved_goal", "desired_goal"  # the fields of a goal environment's that say what is and should be


class Space(NamedTuple):
    """An observation or action space, reduced to what algorithms and networks need.

    A value of a `dict` is one NumPy record: its dtype has a field for every part, so many of them are one array.
    """

    kind: str  # discrete | box | multi_discrete | multi_binary | dict
    shape: tuple[int, ...]  # of one value; () if discrete or dict
    dtype: np.dtype
    n: int = 0  # number of values if discrete
    low: Array | None = None  # per-dimension bounds if box
    high: Array | None = None
    one_hot: bool = False  # every observation [n] is 0 but for a single 1, as the environment declares
    nvec: tuple[int, ...] = ()  # numbers of values if multi_discrete, in C order
    fields: Mapping[str, Space] = MappingProxyType({})  # the parts if dict; those of a Dict inside have dotted names
    stack: int = 0  # the first axis holds so many frames, oldest first; 0 if it is none of frames

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is copied and pickled, alone or in whatever keeps it, such as a network of the user's own."""
        return Space, tuple(self._replace(fields=dict(self.fields)))

    @property
    def size(self) -> int:
        """How many numbers one value has."""
        return sum(part.size for part in self.fields.values()) if self.fields else math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of one value."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def masked(self) -> bool:
        """Whether a mask of the actions comes with every observation: a field of this name, and its bits are bool.

        An environment's own field of the name, of which no notice is taken, is of another type and seen like any other.
        """
        mask = self.fields.get(MASK)
        return mask is not None and mask.kind == "multi_binary" and mask.dtype.kind == "b"

    @property
    def unmasked(self) -> Space:
        """What there is to be seen, without the mask; the part itself where it is the only one beside a mask."""
        if not self.masked:
            return self
        parts = {name: part for name, part in self.fields.items() if name != MASK}
        return next(iter(parts.values())) if len(parts) == 1 else self._replace(fields=parts)


class Goals(NamedTuple):
    """What a goal environment tells of steps that led to what was achieved, whatever was desired.

    Both functions take goals [N, *goal], achieved and desired ones.
    """

    reward: Callable[[Array, Array], Array]  # float32 [N], as training sees it
    terminated: Callable[[Array, Array], Array] | None = None  # bool [N]; None if it does not tell
    obstacle: str = (
        ""  # the option that makes of goals or rewards what these functions do not know; "" if there is none
    )


@dataclass(frozen=True)
class EnvSpec:
    """What an algorithm may know about the environment it is built for."""

    id: str
    obs_space: Space
    action_space: Space
    num_envs: int = 1
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    model: TransitionModel | None = None  # the MDP itself, where the environment tells it
    render_modes: tuple[str, ...] = ()  # how it can be looked at: human, rgb_array, ...
    reward_range: tuple[float, float] | None = None  # bounds of every reward, infinite where there are none, if known
    goals: Goals | None = None  # what other goals would have been worth, where it is a goal environment

    @property
    def num_actions(self) -> int:
        """Number of discrete actions; 0 if they are not discrete."""
        return self.action_space.n

    @property
    def num_states(self) -> int:
        """Number of discrete observations; 0 if they are not discrete."""
        return self.obs_space.n


class HeadSpec(NamedTuple):
    """One output of a network: what it means and how wide it is."""

    kind: str  # "q" | "policy" | "value" | "critic"
    size: int
    log_stds: int = 0  # learned numbers that do not depend on the observation and stand behind the others
    atoms: int = 1  # q: numbers that make up the value of one action, side by side; `size` counts them all
    fractions: int = 0  # q: K quantiles that it gives where none are asked for, [B, K, size]; 0 for values [B, size]
    critics: int = 0  # critic: N of one shape that are asked at once, [N, B, size]; see networks/critics.py
    action: Space | None = None  # critic: what each is shown beside the observation; None for nothing
    hidden: tuple[int, ...] | None = None  # critic: widths of its hidden layers; None for those of the network
    layer_norm: bool = False  # critic: LayerNorm also where the network has none
    dropout: float = 0.0  # critic: share of hidden units that is dropped, by noise that is an input
    # whether it can be given noise, so that `network.noisy` makes it noisy; None: if it gives action values
    noisy: bool | None = None

    @property
    def takes_noise(self) -> bool:
        return self.kind == "q" if self.noisy is None else self.noisy


class EpisodeStat(NamedTuple):
    """A finished episode as the environment saw it: raw rewards, before any scaling or clipping."""

    episode_return: float
    length: int
    env: int  # index of the environment


class Step(NamedTuple):
    """One sweep over E environments with SAME_STEP autoreset. The arrays are the vector's own: copy what you keep."""

    obs: Array  # [E, *obs] what the agent acts on next: the reset observation where an episode ended
    reward: Array  # [E] float32
    terminated: Array  # [E] bool
    truncated: Array  # [E] bool
    final_obs: Mapping[int, Array]  # env -> the true last observation, only where an episode ended
    episodes: list[EpisodeStat]


class Rollout(NamedTuple):
    """T steps of E environments, time-major numpy. The source owns and reuses the arrays: copy what you keep."""

    obs: Array  # [T+1, E, *obs]
    action: Array  # [T, E, *action]
    reward: Array  # [T, E] float32
    terminated: Array  # [T, E] bool: the MDP ended, do not bootstrap
    truncated: Array  # [T, E] bool: cut from outside, bootstrap from final_obs
    final_obs: Mapping[tuple[int, int], Array]  # (t, e) -> the true last observation, only where an episode ended
    extras: Mapping[str, Array]  # [T, E, ...] what the agent recorded when acting: log_prob, value, ...
    policy_version: int = 0  # how often weights had been published when those that acted were; 0 if nobody counts
    ranks: int = 1  # how many have collected one as large, of environments of their own, at the same time

    @property
    def env_steps(self) -> int:
        """Of the whole run: T x E of every rank."""
        return int(self.reward.size) * self.ranks


class Gradients(NamedTuple):
    """What an actor makes of a rollout at its own weights, in place of the rollout."""

    values: Array  # float32 [P], by all parameters that are trained, one after the other
    aux: Mapping[str, float]  # what the loss said, always by the same names
    env_steps: int  # of the rollout
    policy_version: int = 0


class Chunk(NamedTuple):
    """What a source yields and the runner sees."""

    env_steps: int
    episodes: list[EpisodeStat]
    data: Any  # a Rollout, or Gradients; opaque to the runner


class Batch(NamedTuple):
    """B transitions of m >= 1 steps each, torch tensors on the learner's device."""

    obs: Any  # [B, *obs] a tensor, or a dict of tensors by field; so are the next two
    action: Any  # [B, *action]
    next_obs: Any  # [B, *obs] the observation m steps later, the true last one at an episode's end
    reward: Tensor  # [B] sum over i < m of gamma^i r_i
    discount: Tensor  # [B] gamma^m, 0 where the episode terminated
    weight: Tensor  # [B] importance weight, ones if sampled uniformly
    index: Tensor  # type: ignore[assignment]  # [B] the transitions' numbers, as the buffer counts them


@dataclass
class Progress:
    """How far a run is. One unit everywhere: env steps, summed over all environments."""

    total_timesteps: int
    env_steps: int = 0
    episodes: int = 0
    gradient_steps: int = 0
    wall_seconds: float = field(default=0.0, compare=False)  # over all attempts

    def advance(self, chunk: Chunk) -> None:
        self.env_steps += chunk.env_steps
        self.episodes += len(chunk.episodes)

    def begun(self, data: Rollout | Gradients) -> int:
        """The env step at which a rollout began that has just been collected, or that gradients are of.

        Whatever falls or grows with the run's age (learning rates, clip ranges, updates per round) has its value of
        this step in all updates that the rollout brings about, so the last rollout of a run still learns.
        """
        return self.env_steps - data.env_steps

    @property
    def done(self) -> bool:
        return self.env_steps >= self.total_timesteps

    def state_dict(self) -> StateDict:
        return {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "gradient_steps": self.gradient_steps,
            "wall_seconds": self.wall_seconds,
        }

    def load_state_dict(self, state: StateDict) -> None:
        if not all(
            type(state[name]) is int and state[name] >= 0 for name in ("env_steps", "episodes", "gradient_steps")
        ):
            raise ValueError("its counters are no counts")
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self.gradient_steps, self.wall_seconds = state["gradient_steps"], state["wall_seconds"]


class VectorEnv(Protocol):
    """E environments stepped together, SAME_STEP autoreset (see envs/vector/base.py)."""

    spec: EnvSpec
    num_envs: int
    obs: Array  # [E, *obs] what the agent acts on next

    @property
    def caveat(self) -> str:
        """In what environments that are restored from their state may differ from these; "" if in nothing."""
        ...

    @property
    def pulls(self) -> Array | None:
        """How often each arm [P, A] has been pulled, where there are arms."""
        ...

    def prove(self, check: Callable[[], None] | None = None) -> None:
        """Find out what `caveat` is, where that takes trying; `check` is called in between and may raise."""
        ...

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all environments; seeds has one entry each, used for this first reset only. Returns obs [E, *obs]."""
        ...

    def reset_one(self, env: int, seed: int) -> Array:
        """Start a fresh episode in one environment from a seed; returns its obs [*obs]. Used by evaluation."""
        ...

    def step(self, action: Array) -> Step: ...

    def metrics(self) -> Metrics:
        """What the environments report of themselves since the last call (a bandit's regret); {} for most."""
        ...

    def state_dict(self) -> StateDict:
        """Everything needed to continue, with `grade` "exact" (mid-episode) or "episode" (new episodes on resume)."""
        ...

    def load_state_dict(self, state: StateDict) -> None: ...
    def close(self) -> None: ...


class ReplayBuffer(Protocol):
    """Stores transitions and samples batches of them."""

    @property
    def capacity(self) -> int:
        """Most transitions that it can hold."""
        ...

    @property
    def ahead(self) -> int | None:
        """Batches that are drawn before it must hear how wrong the learner was about them; None: it need not hear."""
        ...

    def place(self, path: Path, ahead: int) -> None:
        """Where it may keep a file, before anything is added, and how many env steps may come after a checkpoint."""
        ...

    def add(self, rollout: Rollout) -> None: ...
    def sample(self, batch_size: int) -> Batch: ...
    def bursts(self, count: int, batch_size: int) -> Iterator[Batch]:
        """`count` batches with nothing added between them, in stacks [n, B] that are gathered at once."""
        ...

    def sequences(self, count: int, batch_size: int, length: int, burn_in: int) -> Iterator[Batch]:
        """The same in sequences of up to `length` steps, for networks that remember; each batch alone, [1, L x B]."""
        ...

    def update_priorities(self, index: Tensor, td_error: Tensor) -> None:
        """How wrong the learner was about a batch [B] or [k, B]; news of what was overwritten meanwhile is ignored."""
        ...

    def state_dict(self, contents: bool = True) -> StateDict:
        """Everything, or without `contents` only what is small: the random stream."""
        ...

    def load_state_dict(self, state: StateDict) -> None: ...
    def __len__(self) -> int: ...


class Logger(Protocol):
    """Writes metrics somewhere. Rows arrive in order of env_steps."""

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None: ...
    def close(self) -> None: ...
