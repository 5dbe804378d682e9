"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

Several epochs of minibatch descent on one rollout, equations 7 and 9, with rho = pi(a|s) / pi_old(a|s):

    L = -E[ min(rho A, clip(rho, 1 - c, 1 + c) A) ] + vf_coef * E[ (V - R)^2 ] - ent_coef * E[ H(pi) ]

A are GAE(lambda) advantages (Schulman et al. 2016, arXiv:1506.02438) and R = A + V_old; both are fixed when the rollout
is collected, as is log pi_old. Differs from the paper as is customary: advantages are normalised per minibatch,
gradients clipped, the value loss optionally clipped, the epochs ended when the policy has moved far (`target_kl`).

With a network that remembers (`network=lstm`, `network=gru`) a minibatch holds whole sequences of at most
`sequence_length` steps of one episode, each with the memory that the agent had at its first step; gradients flow back
to there. Later epochs find that memory out of date: `burn_in` steps before a sequence bring it up to the weights of
now (Kapturowski et al. 2019, "R2D2"). Everything else is as it is without memory.

Losses are logged as means over all updates of a rollout; entropy, KL and the share of clipped samples are looked at
once, after the last update, on its minibatch; the explained variance is that of the values recorded when acting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.policy import SamplingAgent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.buffers.minibatches import Minibatches, flat_bursts
from rlrun.checks import Natural, NotNegative, OneOf, Positive, Share, Within, within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import GradientConfig
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.footprint import FLOAT, TRAINED, Need, Parameters, transition, weights
from rlrun.ops.distributions import distribution
from rlrun.ops.fields import rows
from rlrun.ops.losses import approx_kl, clipped_surrogate, clipped_value_loss
from rlrun.ops.returns import gae
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.schedules import annealed
from rlrun.types import MASK, Array, EnvSpec, HeadSpec, Metrics, Progress, Rollout, StateDict, Tensor


@dataclass
class PPOConfig(GradientConfig):
    """Proximal policy optimisation."""

    name: str = "ppo"  # registered name of the algorithm
    learning_rate: Positive = 3e-4  # step size
    adam_eps: Positive = 1e-5  # adam, adamw, radam: added to the root of the second moment
    max_grad_norm: Positive | None = 0.5  # gradients are scaled down to this global norm; null leaves them
    gamma: Share = 0.99  # discount factor per step
    gae_lambda: Share = 0.95  # 0: one-step advantages, 1: Monte Carlo
    n_steps: Annotated[int, Within(1, 10**7)] = 2048  # steps per environment and rollout
    batch_size: Annotated[int, Within(1, 10**7)] = 64  # transitions per minibatch
    n_epochs: Annotated[int, Within(1, 10**7)] = 10  # passes over each rollout
    clip_range: Positive = 0.2  # how far the probability ratio may gain from moving away from 1
    # constant | linear (falls to 0 at total_timesteps)
    clip_range_schedule: Annotated[str, OneOf("constant", "linear")] = "constant"
    # how far a value may gain from moving away from the old one; null for no clipping
    clip_range_vf: Positive | None = None
    normalize_advantage: bool = True  # mean 0 and standard deviation 1 within each minibatch
    ent_coef: NotNegative = 0.0  # weight of the entropy bonus
    vf_coef: NotNegative = 0.5  # weight of the value loss
    # ends a rollout's epochs once the approximate KL exceeds 1.5 times this; null never does
    target_kl: Positive | None = None
    # with a network that remembers: steps that gradients flow back through, at most
    sequence_length: Annotated[int, Within(1, 10**7)] = 32
    burn_in: Natural = 0  # with a network that remembers: steps before a sequence that bring its memory up to date

    def __post_init__(self) -> None:
        super().__post_init__()
        within("burn_in", self.burn_in, 0, self.sequence_length)
        if self.normalize_advantage and self.batch_size == 1:
            raise ConfigError("batch_size", "one advantage has no standard deviation", "or normalize_advantage=false")


def footprint(cfg: PPOConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network, and a rollout: as it is collected, shuffled, and on the device; the agent's memory once."""
    policy = distribution(env.action_space)
    heads = HeadSpec("policy", policy.size, policy.log_stds), HeadSpec("value", 1)
    each = env.num_envs * (3 * (transition(env) + 4 * FLOAT) + FLOAT * parameters.memory(*heads))
    what = f"a rollout of {cfg.n_steps:,} steps in {env.num_envs:,} environments"
    return [
        weights(parameters(*heads), TRAINED),
        Need("algo.n_steps", cfg.n_steps * each, what, each),
    ]


@register(
    "algo",
    PPOConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True),
    network="mlp",
    smoke={"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    footprint=footprint,
    weights=("network",),
)
class PPO(Algorithm):
    """Clipped policy gradient on fresh rollouts with a value baseline (Schulman et al. 2017)."""

    agent: SamplingAgent
    state = ("network", "optimiser", "agent", "minibatches")

    def __init__(self, cfg: PPOConfig, kit: Kit):
        super().__init__(cfg, kit)
        env, total_timesteps = kit.env, kit.total_timesteps
        self.minibatches = Minibatches(kit.sampling, kit.device)
        self.rollout_steps = cfg.n_steps
        if cfg.normalize_advantage and (cfg.n_steps * env.num_envs) % cfg.batch_size == 1:
            raise ConfigError(
                "algo.batch_size", "leaves a minibatch of one, whose advantage has no spread", "choose another"
            )
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, total_timesteps)
        self.clip_range = annealed(cfg.clip_range, cfg.clip_range_schedule, total_timesteps)

        self.policy = distribution(env.action_space)
        policy_head = HeadSpec("policy", self.policy.size, self.policy.log_stds)
        self.nets = kit.nets(network=(policy_head, HeadSpec("value", 1)))
        self.network = self.nets.network
        self.masked = env.obs_space.masked
        memory_size = getattr(self.network, "memory_size", 0)
        self.agent = SamplingAgent(networks.Inference(self.network), self.policy, kit.rng, self.masked, memory_size)

        rollout = cfg.n_steps * env.num_envs
        updates = -(-total_timesteps // rollout) * cfg.n_epochs * -(-rollout // cfg.batch_size)  # rounded up
        self.optimiser = kit.update(
            self.loss,
            self.nets,
            trains="network",
            cfg=cfg,
            ahead=0 if memory_size else updates,
            bursts=(1,) if cfg.target_kl else flat_bursts(rollout, cfg.batch_size, cfg.n_epochs),
        )

    def load_state_dict(self, state: StateDict) -> None:
        """Older states know no minibatches, whose order was drawn elsewhere."""
        super().load_state_dict({"minibatches": self.minibatches.state_dict()} | state)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any], clip_range: float | Tensor) -> tuple[Tensor, Aux]:
        """The objective above on one minibatch of obs, action, log_prob, value, advantage, returns."""
        output, value = outputs(nets.network, batch)
        value = value.squeeze(-1)  # [B]
        mask = batch["obs"][MASK] if self.masked else None
        ratio = (self.policy.log_prob(output, batch["action"], mask) - batch["log_prob"]).exp()  # [B]
        policy_loss = clipped_surrogate(ratio, batch["advantage"], clip_range).mean()
        if self.cfg.clip_range_vf is None:
            value_loss = torch.nn.functional.mse_loss(value, batch["returns"])
        else:
            value_loss = clipped_value_loss(value, batch["value"], batch["returns"], self.cfg.clip_range_vf).mean()
        loss = policy_loss + self.cfg.vf_coef * value_loss
        if self.cfg.ent_coef:
            loss = loss - self.cfg.ent_coef * self.policy.entropy(output, mask).mean()

        return loss, {"policy_gradient_loss": policy_loss, "value_loss": value_loss}

    def diagnose(self, batch: Mapping[str, Any], clip_range: float) -> Aux:
        """How far the policy has gone on one minibatch: its entropy, the KL from the old one, the share of clipped
        samples. `entropy_loss` is the entropy's negative, as the field has come to log it."""
        with torch.no_grad():
            output, mask = outputs(self.network, batch)[0], batch["obs"][MASK] if self.masked else None
            ratio = (self.policy.log_prob(output, batch["action"], mask) - batch["log_prob"]).exp()
            entropy = self.policy.entropy(output, mask).mean()
            return {
                "entropy": entropy,
                "entropy_loss": -entropy,
                "approx_kl": approx_kl(ratio).mean(),
                "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
            }

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        advantage, value = self.advantages(rollout), rollout.extras["value"]
        columns = {
            "obs": rollout.obs[:-1],
            "action": rollout.action,
            "log_prob": rollout.extras["log_prob"],
            "value": value,
            "advantage": advantage,
            "returns": advantage + value,
        }
        begun, means = progress.begun(rollout), UpdateMeans()
        learning_rate, clip_range = self.learning_rate(begun), self.clip_range(begun)
        # The last rollout of a run is cut to what was left: its minibatches are not worth a graph of their own. Neither
        # are sequences, which vary in length.
        is_usual = len(rollout.reward) == self.rollout_steps and "memory" not in rollout.extras
        burst = self.optimiser.burst if is_usual else self.optimiser.eager
        bound = 1.5 * (self.cfg.target_kl or 0.0)
        stacks = self.stacks(columns, rollout)
        pieces = ((stack, piece) for stack in stacks for piece in burst(stack, clip_range, learning_rate=learning_rate))
        for stack, piece in pieces:
            means.add(piece.aux)
            progress.gradient_steps += piece.updates
            if self.cfg.target_kl and self.diagnose(rows(stack, piece.last), clip_range)["approx_kl"] > bound:
                break
        aux = means.take() | self.diagnose(rows(stack, piece.last), clip_range)
        return aux | {
            "explained_variance": explained_variance(value, advantage),
            "learning_rate": learning_rate,
            "clip_range": clip_range,
        }

    def stacks(self, columns: Mapping[str, Array], rollout: Rollout) -> Iterator[dict[str, Tensor]]:
        """The rollout `n_epochs` times, as stacks of minibatches; in sequences, where the agent has memory."""
        cfg, memory = self.cfg, rollout.extras.get("memory")
        normalize = "advantage" if cfg.normalize_advantage else None
        if memory is None:
            return self.minibatches.flat(columns, cfg.batch_size, cfg.n_epochs, normalize)
        return self.minibatches.sequences(
            columns,
            memory,
            rollout.terminated | rollout.truncated,
            length=cfg.sequence_length,
            burn_in=cfg.burn_in,
            batch_size=cfg.batch_size,
            epochs=cfg.n_epochs,
            normalize=normalize,
        )

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


def outputs(network: Callable[..., Any], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What the heads say [B, *] of a minibatch's transitions; a network that remembers goes through its sequences."""
    return networks.unrolled(network, batch) if "memory" in batch else network(batch["obs"])


def explained_variance(value: Array, advantage: Array) -> float:
    """1 - Var[R - V] / Var[R] of returns R = A + V: 1 is a perfect critic, 0 one that knows nothing; NaN-free."""
    variance = np.var(advantage + value)
    return float(1 - np.var(advantage) / variance) if variance > 0 else 0.0
