"""What policy gradients share: a network of two heads, the agent that samples it, and what a rollout says of both.

Advantages are GAE(lambda) (Schulman et al. 2016, arXiv:1506.02438), and R = A + V_old is what values are fitted to:
with `gae_lambda=1` the rewards to go, and the value of the last observation behind them where an episode or a rollout
is cut. Both are fixed when the rollout is collected.

With a network that remembers (`network=lstm`, `network=gru`) a minibatch holds whole sequences of at most
`sequence_length` steps of one episode, each with the memory that the agent had at its first step; gradients flow back
to there. Later epochs find that memory out of date: `burn_in` steps before a sequence bring it up to the weights of
now (Kapturowski et al. 2019, "R2D2"). Everything else is as it is without memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.policy import SamplingAgent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.buffers.minibatches import Minibatches, flat_bursts
from rlrun.checks import Natural, OneOf, Share, Within, within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import GradientConfig
from rlrun.compute.update import Aux, LossFn, Piece, Update
from rlrun.errors import ConfigError
from rlrun.footprint import FLOAT, TRAINED, Need, Parameters, transition, weights
from rlrun.ops.distributions import Distribution, distribution
from rlrun.ops.fields import tensors
from rlrun.ops.returns import gae
from rlrun.schedules import annealed
from rlrun.types import MASK, Array, EnvSpec, HeadSpec, Progress, Rollout, Space, Tensor


@dataclass
class PolicyConfig(GradientConfig):
    """What continuous actions are drawn from."""

    # free | state: standard deviations of continuous actions are the same in all states, or computed from them
    log_std: Annotated[str, OneOf("free", "state")] = "free"
    # logarithm of the standard deviation that continuous actions begin with
    log_std_init: Annotated[float, Within(-20, 2)] = 0.0
    squash: bool = False  # continuous actions are squashed into their bounds by a tanh, not clipped

    @property
    def gaussian(self) -> dict[str, Any]:
        """The same by the words of `distribution`."""
        return {"squash": self.squash, "log_std": self.log_std, "log_std_init": self.log_std_init}


@dataclass
class ActorCriticConfig(PolicyConfig):
    """Options of every policy gradient."""

    gamma: Share = 0.99  # discount factor per step
    gae_lambda: Share = 0.95  # 0: one-step advantages, 1: Monte Carlo
    n_steps: Annotated[int, Within(1, 10**7)] = 2048  # steps per environment and rollout
    normalize_advantage: bool = True  # mean 0 and standard deviation 1 within each minibatch
    # with a network that remembers: steps that gradients flow back through, at most
    sequence_length: Annotated[int, Within(1, 10**7)] = 32
    burn_in: Natural = 0  # with a network that remembers: steps before a sequence that bring its memory up to date

    def __post_init__(self) -> None:
        super().__post_init__()
        within("burn_in", self.burn_in, 0, self.sequence_length)


def heads(policy: Distribution, values: bool = True, noisy: bool = False) -> list[HeadSpec]:
    """What the network is asked for: the policy, perhaps one that can be given noise, and the value of a state."""
    return [HeadSpec("policy", policy.size, policy.log_stds, noisy=noisy), *([HeadSpec("value", 1)] if values else [])]


def footprint(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network, and a rollout: as it is collected, shuffled, and on the device; the agent's memory once."""
    asked = heads(distribution(env.action_space, log_std=cfg.log_std))
    each = env.num_envs * (3 * (transition(env) + 4 * FLOAT) + FLOAT * parameters.memory(*asked))
    what = f"a rollout of {cfg.n_steps:,} steps in {env.num_envs:,} environments"
    return [
        weights(parameters(*asked), TRAINED),
        Need("algo.n_steps", cfg.n_steps * each, what, each),
    ]


class ActorCritic(Algorithm):
    """A policy and, with `values`, the values of states: network, agent, advantages and minibatches."""

    agent: SamplingAgent
    optimiser: Update
    state: tuple[str, ...] = ("network", "agent", "minibatches")

    def __init__(self, cfg: Any, kit: Kit, values: bool = True):
        super().__init__(cfg, kit)
        self.minibatches = Minibatches(kit.sampling, kit.device)
        self.rollout_steps = cfg.n_steps
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, kit.total_timesteps)
        self.policy = kit.policy(**cfg.gaussian)
        self.nets = kit.nets(network=heads(self.policy, values))
        self.network = self.nets.network
        self.masked = kit.env.obs_space.masked
        self.memory_size = getattr(self.network, "memory_size", 0)
        self.agent = SamplingAgent(
            networks.Inference(self.network), self.policy, kit.rng, self.masked, self.memory_size, values
        )
        self.critic: Update | None = None  # trains the values alone, where they are trained apart
        self.rollout_size = cfg.n_steps * kit.env.num_envs
        self.rollouts = -(-kit.total_timesteps // (cfg.n_steps * kit.num_envs))  # of the whole run, rounded up

    def update(
        self,
        kit: Kit,
        loss: LossFn,
        trains: str | list[str],
        batch_size: int | None = None,
        epochs: int = 1,
        singly: bool = False,
    ) -> Update:
        """The update of a loss by the config's rule.

        Args:
            trains: names of networks, or of parameters.
            batch_size, epochs: of each rollout's minibatches, as for `stacks`.
            singly: each update may be the last of its rollout.
        """
        size = batch_size or self.rollout_size
        updates = self.rollouts * epochs * -(-self.rollout_size // size)
        return kit.update(
            loss,
            self.nets,
            trains=trains,
            cfg=self.cfg,
            ahead=0 if self.memory_size else updates,
            bursts=(1,) if singly else flat_bursts(self.rollout_size, size, epochs),
        )

    def train_both(self, kit: Kit, loss: LossFn, *how: Any) -> None:
        """Both heads are trained by one loss; values with a step size of their own are trained apart."""
        trains: str | list[str] = "network"
        if self.cfg.value_learning_rate is not None:
            trains = self.train_values(kit, self.cfg.value_learning_rate, *how)
        self.optimiser = self.update(kit, loss, trains, *how)

    def train_values(self, kit: Kit, learning_rate: float, *how: Any) -> list[str]:
        """Values are trained apart, by `value_loss`. Returns the names of the policy's parameters.

        Raises:
            ConfigError: they share some.
        """
        policy, value = ([f"network.{name}" for name in names] for names in by_head(self.network, kit.env.obs_space))
        if {*policy} & {*value}:
            problem = "policy and values are trained apart, and their networks share layers"
            hint = "write network.shared=false; a network of your own needs layers for each head"
            raise ConfigError("network", problem, hint)
        self.critic = self.update(kit, self.value_loss, value, *how)
        self.value_learning_rate = annealed(learning_rate, self.cfg.learning_rate_schedule, kit.total_timesteps)
        self.state = (*self.state, "critic")
        return policy

    # --- what a rollout says -----------------------------------------------------------------------------------------

    def columns(self, rollout: Rollout, advantage: Array, *recorded: str) -> dict[str, Array]:
        """What is learned from, [T, E, ...]: obs, action (as it was drawn), what was `recorded`, advantage, returns."""
        extras = rollout.extras
        return {
            "obs": rollout.obs[:-1],
            "action": extras["drawn"] if self.policy.squashes else rollout.action,
            **{name: extras[name] for name in recorded},
            "advantage": advantage,
            "returns": advantage + extras["value"] if "value" in extras else advantage,
        }

    def advantages(self, rollout: Rollout) -> Array:
        """GAE [T, E]. Where an episode was cut, the value of its true last observation stands for what would follow."""
        value = rollout.extras["value"]
        last, everywhere = np.full(value.shape[1], len(value) - 1), np.arange(value.shape[1])
        next_value = np.concatenate([value[1:], self.next_value(rollout, last, everywhere, rollout.obs[-1])[None]])
        if rollout.final_obs:
            t, e = np.array(list(rollout.final_obs)).T
            next_value[t, e] = self.next_value(rollout, t, e, np.stack(list(rollout.final_obs.values())))
        return gae(
            rollout.reward,
            value,
            next_value,
            rollout.terminated,
            rollout.truncated,
            self.cfg.gamma,
            self.cfg.gae_lambda,
        )

    def next_value(self, rollout: Rollout, t: Array, e: Array, obs: Array) -> Array:
        """Values of the observations that the steps (t, e) led to, with the memory that the agent had by then."""
        memory = rollout.extras.get("memory")
        if memory is None:
            return self.agent.value(obs)
        return self.agent.value(obs, self.agent.remember(rollout.obs[t, e], memory[t, e]))

    # --- minibatches and updates -------------------------------------------------------------------------------------

    def stacks(
        self,
        columns: Mapping[str, Array],
        rollout: Rollout,
        batch_size: int | None = None,
        epochs: int = 1,
    ) -> Iterator[dict[str, Tensor]]:
        """The rollout so many times, as stacks of minibatches; in sequences, where the agent has memory.

        Args:
            batch_size: transitions per minibatch; None for all in one.
        """
        cfg, memory, size = self.cfg, rollout.extras.get("memory"), batch_size or rollout.reward.size
        normalize = "advantage" if cfg.normalize_advantage and "advantage" in columns else None
        if memory is None:
            return self.minibatches.flat(columns, size, epochs, normalize)
        return self.minibatches.sequences(
            columns,
            memory,
            rollout.terminated | rollout.truncated,
            length=cfg.sequence_length,
            burn_in=cfg.burn_in,
            batch_size=size,
            epochs=epochs,
            normalize=normalize,
        )

    def descend(
        self, stacks: Iterable[dict[str, Tensor]], rollout: Rollout, progress: Progress, *shared: float
    ) -> Iterator[tuple[dict[str, Tensor], Piece]]:
        """An update for each minibatch of a rollout, made as they are asked for: the stack it is from, what it said."""
        burst, rate = self.burst(self.optimiser, rollout), self.learning_rate(progress.begun(rollout))
        for stack in stacks:
            for piece in burst(stack, *shared, learning_rate=rate):
                progress.gradient_steps += piece.updates
                yield stack, piece

    def fit(self, stacks: Iterable[dict[str, Tensor]], rollout: Rollout, progress: Progress) -> Aux:
        """An update of the values alone for each minibatch of a rollout."""
        burst, rate = self.burst(self.critic, rollout), self.value_learning_rate(progress.begun(rollout))
        means = UpdateMeans()
        for stack in stacks:
            for piece in burst(stack, learning_rate=rate):
                progress.gradient_steps += piece.updates
                means.add(piece.aux)
        return {"value_loss": means.take()["loss"]}

    def refit(self, columns: Mapping[str, Array], rollout: Rollout, progress: Progress) -> Aux:
        """The values alone, `n_critic_updates` times over a rollout in minibatches; and how good they were before."""
        seen = {key: columns[key] for key in ("obs", "returns")}
        stacks = self.stacks(seen, rollout, self.cfg.batch_size, self.cfg.n_critic_updates)
        said = explained_variance(rollout.extras["value"], columns["advantage"])
        return self.fit(stacks, rollout, progress) | {"explained_variance": said}

    def fitted(
        self, stacks: Iterable[dict[str, Tensor]], rollout: Rollout, progress: Progress
    ) -> Iterator[dict[str, Tensor]]:
        """The same stacks, from each of which values that are trained apart have learned."""
        for stack in stacks:
            if self.critic is not None:
                self.fit([stack], rollout, progress)
            yield stack

    def burst(self, update: Any, rollout: Rollout) -> Callable[..., Iterator[Piece]]:
        """What makes updates of stacks of minibatches.

        The last rollout of a run is cut to what was left: its minibatches are not worth a graph of their own. Neither
        are sequences, which vary in length.
        """
        is_usual = len(rollout.reward) == self.rollout_steps and "memory" not in rollout.extras
        made: Callable[..., Iterator[Piece]] = update.burst if is_usual else update.eager
        return made

    def mask(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Which actions could be taken in a minibatch, where there are masks."""
        mask: Tensor | None = batch["obs"][MASK] if self.masked else None
        return mask

    def value_loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """Mean squared error of the values on one minibatch of obs and returns."""
        value = outputs(nets.network, batch)[1].squeeze(-1)
        return torch.nn.functional.mse_loss(value, batch["returns"]), {}


def outputs(network: Callable[..., Any], batch: Mapping[str, Any]) -> Any:
    """What the heads say [B, *] of a minibatch's transitions; a network that remembers goes through its sequences."""
    return networks.unrolled(network, batch) if "memory" in batch else network(batch["obs"])


def by_head(network: Any, obs_space: Space) -> list[list[str]]:
    """The names of the parameters that each head depends on, whatever the network looks like inside.

    A copy is asked, with two rows of zeros: what a layer keeps of what it sees stays as it is.
    """
    copied = copy.deepcopy(network)
    names, parameters = zip(*copied.named_parameters(), strict=True)
    obs = tensors(np.zeros((2, *obs_space.shape), obs_space.dtype), parameters[0].device)
    if size := getattr(network, "memory_size", 0):
        found, _ = copied(obs, parameters[0].new_zeros(2, size))
    else:
        found = copied(obs)
    every = [torch.autograd.grad(head.sum(), parameters, retain_graph=True, allow_unused=True) for head in found]
    return [[name for name, grad in zip(names, grads, strict=True) if grad is not None] for grads in every]


def explained_variance(value: Array, advantage: Array) -> float:
    """1 - Var[R - V] / Var[R] of returns R = A + V: 1 is a perfect critic, 0 one that knows nothing; NaN-free."""
    variance = np.var(advantage + value)
    return float(1 - np.var(advantage) / variance) if variance > 0 else 0.0
