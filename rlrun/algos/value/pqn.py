"""Parallelised Q-learning, "PQN": Q-learning on fresh rollouts of many environments.

Gallici et al. 2024, "Simplifying deep temporal difference learning", arXiv:2407.04811.

No replay and no target network: LayerNorm keeps the values from diverging. After every rollout targets are computed
backwards with the network that acted, Peng's Q(lambda) (algorithm 1 of the paper; Peng & Williams 1996):

    R_t = r_t + gamma [ lambda R_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a) ],      L = E[ (R_t - Q(s_t, a_t))^2 ]

where the episode goes on; nothing follows its end, and max_a Q of the last observation where it or the rollout is cut.
Then some epochs of minibatch descent. Differs from the paper: Adam unless `optimizer=radam`.

The highest action value of every step is recorded when acting, so a rollout costs no further pass through the network
but for its ends. `network.layer_norm` is on by `algo=pqn`; by hand it has to be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.q import QAgent
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.algos.value import parts
from rlrun.buffers.minibatches import Minibatches, flat_bursts
from rlrun.checks import Positive, Share, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.rules import GradientConfig
from rlrun.compute.update import Aux
from rlrun.footprint import FLOAT, TRAINED, Need, Parameters, transition, weights
from rlrun.ops.losses import gather
from rlrun.ops.returns import lambda_returns
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.schedules import Probability, annealed
from rlrun.types import Array, EnvSpec, HeadSpec, Metrics, Progress, Rollout, Tensor


@dataclass
class PQNConfig(GradientConfig):
    """Parallelised Q-learning."""

    name: str = "pqn"  # registered name of the algorithm
    learning_rate: Positive = 2.5e-4  # step size
    max_grad_norm: Positive | None = 10.0  # gradients are scaled down to this global norm; null leaves them
    gamma: Share = 0.99  # discount factor per step
    q_lambda: Share = 0.65  # 0: one-step targets, 1: the rewards of the whole rollout
    n_steps: Annotated[int, Within(1, 10**7)] = 32  # steps per environment and rollout
    batch_size: Annotated[int, Within(1, 10**7)] = 256  # transitions per minibatch
    n_epochs: Annotated[int, Within(1, 10**7)] = 2  # passes over each rollout
    # probability of a random action. A noisy network explores by its noise: with one it is 0, unless another is set
    epsilon: Probability = field(default_factory=parts.falling)
    # environment i of N explores with epsilon^(1 + this * i / (N - 1)): 0.4 and 7 in Ape-X; 0: as much in all
    epsilon_spread: Annotated[float, Within(0, 100)] = 0.0


def footprint(cfg: PQNConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network, and a rollout: as it is collected, shuffled, and on the device."""
    each = 3 * env.num_envs * (transition(env) + 2 * FLOAT)
    what = f"a rollout of {cfg.n_steps:,} steps in {env.num_envs:,} environments"
    return [
        weights(parameters(HeadSpec("q", env.num_actions)), TRAINED),
        Need("algo.n_steps", cfg.n_steps * each, what, each),
    ]


@register(
    "algo",
    PQNConfig,
    needs=Needs(action={"discrete"}, obs=ANY_SPACE, masks=True, ranks=True),
    network="mlp",
    smoke={"n_steps": 16, "batch_size": 32, "n_epochs": 2},
    footprint=footprint,
    weights=("q",),
)
class PQN(Algorithm):
    """Q-learning with lambda returns on fresh rollouts, without replay or target network (Gallici et al. 2024)."""

    agent: QAgent
    cfg: PQNConfig
    state: tuple[str, ...] = ("q", "optimiser", "agent", "minibatches")

    def __init__(self, cfg: PQNConfig, kit: Kit):
        super().__init__(cfg, kit)
        self.nets = kit.nets(q=HeadSpec("q", kit.env.num_actions))
        self.q = self.nets.q
        self.generator = kit.generator if parts.units(self.q) else None
        if self.generator is not None:
            self.state = (*self.state, "generator")
        self.agent = parts.agent(kit, self.q, cfg.epsilon, records=True, spread=cfg.epsilon_spread)
        self.minibatches = Minibatches(kit.sampling, kit.device)
        self.rollout_steps = cfg.n_steps
        self.learning_rate = annealed(cfg.learning_rate, cfg.learning_rate_schedule, kit.total_timesteps)
        rollout = cfg.n_steps * kit.env.num_envs
        self.optimiser = kit.update(
            self.loss,
            self.nets,
            trains="q",
            cfg=cfg,
            ahead=-(-kit.total_timesteps // (cfg.n_steps * kit.num_envs))
            * cfg.n_epochs
            * -(-rollout // cfg.batch_size),
            bursts=flat_bursts(rollout, cfg.batch_size, cfg.n_epochs),
        )

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """Mean squared error of the taken actions on one minibatch of obs, action, returns; and noise, if any."""
        noise = {"noise": batch["noise"]} if "noise" in batch else {}
        value = gather(nets.q(batch["obs"], **noise), batch["action"])  # [B]
        return torch.nn.functional.mse_loss(value, batch["returns"]), {"q_values": value.mean()}

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        columns = {"obs": rollout.obs[:-1], "action": rollout.action, "returns": self.returns(rollout)}
        learning_rate, means = self.learning_rate(progress.begun(rollout)), UpdateMeans()
        # The last rollout of a run is cut to what was left: its minibatches are not worth a graph of their own.
        burst = self.optimiser.burst if len(rollout.reward) == self.rollout_steps else self.optimiser.eager
        for stack in self.stacks(columns):
            for piece in burst(stack, learning_rate=learning_rate):
                means.add(piece.aux)
                progress.gradient_steps += piece.updates
        return means.take() | {"learning_rate": learning_rate}

    def stacks(self, columns: Mapping[str, Array]) -> Iterator[dict[str, Any]]:
        """The rollout `n_epochs` times, as stacks of minibatches, each with noise for a network that takes some."""
        for stack in self.minibatches.flat(columns, self.cfg.batch_size, self.cfg.n_epochs):
            if self.generator is not None:
                updates, batch_size = stack["returns"].shape
                stack["noise"] = self.q.noise(updates, batch_size, self.generator)
            yield stack

    def returns(self, rollout: Rollout) -> Array:
        """Targets [T, E]."""
        next_value = np.concatenate([rollout.extras["value"][1:], self.value(rollout.obs[-1])[None]])
        if rollout.final_obs:
            t, e = np.array(list(rollout.final_obs)).T
            next_value[t, e] = self.value(np.stack(list(rollout.final_obs.values())))
        cfg = self.cfg
        return lambda_returns(
            rollout.reward, next_value, rollout.terminated, rollout.truncated, cfg.gamma, cfg.q_lambda
        )

    def value(self, obs: Array) -> Array:
        """The highest action value [N] of observations [N, *obs]."""
        highest: Array = self.agent.values(obs).max(1)
        return highest
