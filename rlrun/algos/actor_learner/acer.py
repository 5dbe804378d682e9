"""ACER: an actor-critic of action values with replay (Wang et al. 2017, arXiv:1611.01224, algorithms 1 and 2).

On trajectories of an older policy mu, with rho(a) = pi(a|s) / mu(a|s), V = sum_a pi(a|s) Q(s, a) and Retrace targets
Q^ret (rlrun/ops/offpolicy.py), the policy goes up equation 9,

    g = min(c, rho(a_t)) (Q^ret - V) grad log pi(a_t|s_t)
        + sum_a max(0, 1 - c / rho(a)) pi(a|s_t) (Q(s_t, a) - V) grad log pi(a|s_t)

in which the second term makes up for what the truncation of the first leaves out, and Q is fitted to Q^ret:

    L = -g-part + vf_coef (Q(s_t, a_t) - Q^ret)^2 - ent_coef H(pi)

Two ways keep the policy near pi_avg, that of a moving average of the weights:

    trust_region   g, as a gradient by the probabilities pi(.|s), is brought to the nearest along which KL(pi_avg || pi)
                   grows by at most `delta` (equation 12)
    kl_coef        kl_coef KL(pi_avg || pi) is part of the loss

The trace of Retrace is cut at 1; c is for the policy alone. Differs from the paper: means in place of sums unless
`reduction=sum`, Adam unless `optimizer=rmsprop`. For continuous actions there is acer_continuous.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.agents.policy import SamplingAgent
from rlrun.algos.actor_learner import trajectories
from rlrun.algos.actor_learner.trajectories import ReplayedConfig, TrajectoryLearner, now, outputs, then
from rlrun.algos.algorithm import Kit
from rlrun.checks import Above0, NotNegative, Positive, Within
from rlrun.compute.update import Aux
from rlrun.footprint import TRAINED, Need, Parameters, weights
from rlrun.networks.target import TargetNet
from rlrun.ops.distributions import Categorical
from rlrun.ops.fields import allowed
from rlrun.ops.losses import gather
from rlrun.ops.offpolicy import retrace, truncation, trust_region
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, EnvSpec, HeadSpec, Tensor

SMALL = 1e-8  # probability below which a gradient by it is cut off


@dataclass
class ACERConfig(ReplayedConfig):
    """Actor-critic with experience replay."""

    name: str = "acer"  # registered name of the algorithm
    replay_ratio: Annotated[float, Within(0, 1000)] = 4.0  # mean number of updates with old trajectories per new batch
    trunc_c: Positive = 10.0  # largest importance weight in the policy gradient; what lies above is made up for
    trust_region: bool = True  # no step may take the policy further from its average than `delta` allows
    delta: Positive = 1.0  # trust_region: how much the divergence may grow, to first order
    kl_coef: NotNegative = 0.0  # weight of the divergence from the average policy in the loss
    avg_tau: Annotated[float, Above0(1)] = 0.01  # share of the new weights in the average after every update
    ent_coef: NotNegative = 0.01  # weight of the entropy bonus
    vf_coef: NotNegative = 0.5  # weight of the loss of action values


def heads(actions: int) -> list[HeadSpec]:
    """A policy, and the values of its actions."""
    return [HeadSpec("policy", actions, noisy=True), HeadSpec("q", actions, noisy=False)]


def footprint(cfg: ACERConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network, its average, and the trajectories."""
    return [
        weights(parameters(*heads(env.num_actions)), TRAINED + 1),
        *trajectories.footprint(cfg, env, env.num_actions),
    ]


@register(
    "algo",
    ACERConfig,
    needs=Needs(action={"discrete"}, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    smoke={"replay_min": 2},
    footprint=footprint,
    weights=("network", "average.module"),
)
class ACER(TrajectoryLearner):
    """Actor-critic with replay, Retrace and a trust region (Wang et al. 2017)."""

    agent: SamplingAgent
    cfg: ACERConfig
    state = ("network", "average", *TrajectoryLearner.state)

    def __init__(self, cfg: ACERConfig, kit: Kit):
        nets = kit.nets(network=heads(kit.env.num_actions))
        self.network, self.average = nets.network, TargetNet(nets.network, cfg.avg_tau)
        nets.average = self.average.module
        super().__init__(cfg, kit, nets, trains="network", recorded=("output",), followers=[self.average])
        self.policy = Categorical(kit.env.num_actions)
        forward = networks.Inference(self.network)
        self.agent = SamplingAgent(
            forward, self.policy, kit.rng, self.masked, self.memory_size, has_value=False, records_output=True
        )

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch that has the output [T, B, A] of the policy that acted."""
        cfg, shape, mask = self.cfg, batch["reward"].shape, self.mask(batch)
        action = batch["action"]
        logits, q = outputs(nets.network, batch)  # [R, A]
        log_pi = allowed(logits, batch["obs"][MASK] if self.masked else None).log_softmax(-1)
        values = (log_pi.exp() * q).sum(-1).detach()  # [R]
        logits, log_pi, q = now(logits, batch), now(log_pi, batch), now(q, batch)  # [T B, A]
        log_mu, pi = allowed(batch["output"].flatten(0, 1), mask).log_softmax(-1), log_pi.exp()
        taken = gather(q, action)  # [T B]

        with torch.no_grad():
            rho = gather(log_pi - log_mu, action).exp()
            steps = batch["reward"], batch["discount"], taken.view(shape), then(values, batch), batch["ended"]
            target = retrace(*steps, rho.view(shape)).flatten()
            value, safe = now(values, batch), pi.clamp(min=SMALL)
            weight, correction = truncation(log_pi, log_mu, action, cfg.trunc_c)
            by_pi = correction * (q - value.unsqueeze(-1))  # of the second term, [T B, A]
            done = weight * (target - value) / gather(safe, action)
            by_pi = by_pi.scatter_add(-1, action.unsqueeze(-1), done.unsqueeze(-1))
            average = now(outputs(nets.average, batch, noisy=False)[0], batch)
            if cfg.trust_region:
                slope = -allowed(average, mask).softmax(-1) / safe
                by_pi = trust_region(by_pi, slope, cfg.delta)

        kl, entropy = self.policy.kl(average, logits, mask), self.policy.entropy(logits, mask)
        policy_loss, value_loss = self.reduced(-(by_pi * pi).sum(-1)), self.reduced((taken - target).square())
        loss = policy_loss + cfg.vf_coef * value_loss - cfg.ent_coef * self.reduced(entropy)
        if cfg.kl_coef:
            loss = loss + cfg.kl_coef * self.reduced(kl)
        aux = {"policy_loss": policy_loss, "value_loss": value_loss, "q_values": taken.mean(), "rho": rho.mean()}
        return loss, aux | {"kl": kl.mean(), "entropy": entropy.mean(), "entropy_loss": -entropy.mean()}
