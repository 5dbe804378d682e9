"""ACER for continuous actions (Wang et al. 2017, arXiv:1611.01224, section 5 and algorithm 3).

An action value is that of the state and an advantage beside the mean of n = `samples` actions u ~ pi, a "stochastic
dueling network" (equation 13):

    Q(s, a) = V(s) + A(s, a) - 1/n sum_i A(s, u_i)

With rho(a) = pi(a|s) / mu(a|s) and actions of d numbers, Q is fitted to Retrace targets Q^ret whose trace is cut at
min(1, rho^(1/d)), and V to (equation 14)

    V_target = V + min(1, rho) (Q^ret - Q)

The policy goes up, by phi, the means and log standard deviations of its Gaussian, with one more action a' ~ pi

    g = min(c, rho(a_t)) (Q^opc - V) grad log pi(a_t|s_t)
        + max(0, 1 - c / rho(a')) (Q(s_t, a') - V) grad log pi(a'|s_t)

Q^opc is Q^ret with a trace that is not cut. As for discrete actions (acer.py), g is brought to the nearest along which
KL(pi_avg || pi) grows by at most `delta`. Differs from the paper: the standard deviations, there 0.3, are learned, like
phi's other half, actions may be squashed, and what acer.py says of sums and Adam.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.policy import SamplingAgent
from rlrun.algos.actor_learner import trajectories
from rlrun.algos.actor_learner.acer import ACERConfig
from rlrun.algos.actor_learner.trajectories import TrajectoryLearner, now, outputs, then
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import PolicyConfig, heads
from rlrun.buffers.trajectories import Batch
from rlrun.checks import Count, NotNegative, Positive
from rlrun.compute.update import Aux
from rlrun.footprint import FLOAT, TRAINED, Need, Parameters, weights
from rlrun.networks.target import TargetNet
from rlrun.ops.distributions import distribution
from rlrun.ops.fields import mapped
from rlrun.ops.offpolicy import retrace, trust_region
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import EnvSpec, HeadSpec, Space, Tensor


@dataclass
class ContinuousACERConfig(PolicyConfig, ACERConfig):
    """Actor-critic with experience replay for continuous actions."""

    name: str = "acer_continuous"  # registered name of the algorithm
    trunc_c: Positive = 5.0  # largest importance weight in the policy gradient; what lies above is made up for
    samples: Count = 5  # actions whose mean advantage stands for that of the policy
    ent_coef: NotNegative = 0.0  # weight of the entropy bonus


def critic(action: Space) -> HeadSpec:
    """One network of advantages."""
    return HeadSpec("critic", 1, critics=1, action=action)


def footprint(cfg: ContinuousACERConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """Policy and values, their average, the advantages, the trajectories, and what is drawn for a batch."""
    policy, states = distribution(env.action_space, log_std=cfg.log_std), cfg.n_steps * cfg.batch_rollouts
    each = states * (2 * env.obs_space.nbytes + 4 * FLOAT * env.action_space.size)  # the state alone, and with actions
    drawn = f"{cfg.samples:,} actions in each of {states:,} states"
    return [
        weights(parameters(*heads(policy, noisy=True)), TRAINED + 1),
        weights(parameters(critic(env.action_space)), TRAINED, "advantages"),
        *trajectories.footprint(cfg, env, policy.size + policy.log_stds),
        Need("algo.samples", (2 + cfg.samples) * each, drawn, each, on_device=True),
    ]


@register(
    "algo",
    ContinuousACERConfig,
    needs=Needs(action={"box"}, obs=ANY_SPACE, ranks=True),
    network="mlp",
    smoke={"replay_min": 2},
    footprint=footprint,
    weights=("network", "average.module", "advantage"),
)
class ContinuousACER(TrajectoryLearner):
    """Actor-critic with replay, a stochastic dueling network and a trust region (Wang et al. 2017, section 5)."""

    agent: SamplingAgent
    cfg: ContinuousACERConfig
    state = ("network", "average", "advantage", *TrajectoryLearner.state)

    def __init__(self, cfg: ContinuousACERConfig, kit: Kit):
        self.policy: Any = kit.policy(**cfg.gaussian)
        nets = kit.nets(network=heads(self.policy, noisy=True), advantage=critic(kit.env.action_space))
        self.network, self.advantage = nets.network, nets.advantage
        self.average = TargetNet(nets.network, cfg.avg_tau)
        nets.average = self.average.module
        super().__init__(
            cfg, kit, nets, trains=("network", "advantage"), recorded=("output",), followers=[self.average]
        )
        self.draws = self.policy.squashes
        forward = networks.Inference(self.network)
        self.agent = SamplingAgent(forward, self.policy, kit.rng, has_value=False, records_output=True)

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """In addition normals [T B, 1 + n, A] for the actions that are drawn in every state."""
        found, steps = super().tensors(batch), batch.columns["reward"].size
        shape = (steps, 1 + self.cfg.samples, self.policy.dims)
        return found | {"normals": self.device.tensor(self.trajectories.rng.standard_normal(shape, np.float32))}

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch that has the output [T, B, 2 A] of the policy that acted."""
        cfg, policy, shape, action = self.cfg, self.policy, batch["reward"].shape, batch["action"].flatten(1)
        output, every = outputs(nets.network, batch)
        output, every, mu = now(output, batch), every.squeeze(-1), batch["output"].flatten(0, 1)
        value, phi = now(every, batch), torch.cat(policy.parameters(output), -1)  # [T B], [T B, 2 A]
        mean, log_std = phi.detach().unsqueeze(1).chunk(2, -1)
        others = mean + log_std.exp() * batch["normals"]
        drawn = torch.cat([action.unsqueeze(1), others], 1)  # a_t, a' and the n of u: [T B, 2 + n, A]
        advantage = self.advantages(nets, batch, drawn)
        q, q_other = (value.unsqueeze(1) + advantage[:, :2] - advantage[:, 2:].mean(1, keepdim=True)).unbind(1)

        with torch.no_grad():
            rho, rho_other = (
                (policy.log_prob(output, a) - policy.log_prob(mu, a)).exp() for a in (drawn[:, 0], drawn[:, 1])
            )
            steps = batch["reward"], batch["discount"], q.view(shape), then(every, batch), batch["ended"]
            target = retrace(*steps, rho.pow(1 / policy.dims).view(shape)).flatten()
            uncut = retrace(*steps, torch.ones_like(steps[0])).flatten()
            value_target = value + rho.clamp(max=1) * (target - q)
            done = rho.clamp(max=cfg.trunc_c) * (uncut - value)
            other = (1 - cfg.trunc_c / rho_other).clamp(min=0) * (q_other - value)
            by_phi = done.unsqueeze(-1) * score(phi, drawn[:, 0]) + other.unsqueeze(-1) * score(phi, drawn[:, 1])
            average = now(outputs(nets.average, batch, noisy=False)[0], batch)
            if cfg.trust_region:
                by_phi = trust_region(by_phi, slope(torch.cat(policy.parameters(average), -1), phi), cfg.delta)

        kl, entropy = policy.kl(average, output), policy.entropy(output)
        policy_loss = self.reduced(-(by_phi * phi).sum(-1))
        value_loss = self.reduced((q - target).square() + (value - value_target).square())
        loss = policy_loss + cfg.vf_coef * value_loss - cfg.ent_coef * self.reduced(entropy)
        if cfg.kl_coef:
            loss = loss + cfg.kl_coef * self.reduced(kl)
        aux = {"policy_loss": policy_loss, "value_loss": value_loss, "q_values": q.mean(), "rho": rho.mean()}
        return loss, aux | {"kl": kl.mean(), "entropy": entropy.mean(), "entropy_loss": -entropy.mean()}

    def advantages(self, nets: networks.Nets, batch: Mapping[str, Any], drawn: Tensor) -> Tensor:
        """A(s, a) [T B, N] of N actions [T B, N, A] in every state, each as it was drawn."""
        count = drawn.shape[1]
        obs = mapped(lambda x: now(x, batch).repeat_interleave(count, 0), batch["obs"])
        action = drawn.flatten(0, 1)
        action = self.policy.squash(action) if self.policy.squashes else action
        advantage: Tensor = nets.advantage(obs, action).view(-1, count)
        return advantage


def score(phi: Tensor, drawn: Tensor) -> Tensor:
    """The gradient [B, 2 A] of log N(u) by the means and log standard deviations in phi, at u [B, A]."""
    mean, log_std = phi.chunk(2, -1)
    standardised = (drawn - mean) * (-log_std).exp()
    return torch.cat([standardised * (-log_std).exp(), standardised.square() - 1], -1)


def slope(old: Tensor, new: Tensor) -> Tensor:
    """The gradient [B, 2 A] of KL(old || new) between Gaussians by the means and log standard deviations of the new."""
    (mean, log_std), (new_mean, new_log_std) = old.chunk(2, -1), new.chunk(2, -1)
    precision = (-2 * new_log_std).exp()
    squares = (2 * log_std).exp() + (mean - new_mean).square()
    return torch.cat([(new_mean - mean) * precision, 1 - squares * precision], -1)
