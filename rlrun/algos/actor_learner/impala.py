"""IMPALA: an actor-critic that learns from trajectories of older policies by V-trace.

Espeholt et al. 2018, arXiv:1802.01561. With rho_t = pi(a_t|s_t) / mu(a_t|s_t), mu the policy that acted, and V-trace
targets v_t (rlrun/ops/offpolicy.py), on each batch

    L = -sum min(rho_bar, rho_t) (r_t + gamma v_{t+1} - V(s_t)) log pi(a_t|s_t)
        + vf_coef sum (V(s_t) - v_t)^2 - ent_coef sum H(pi(.|s_t))

where weights and targets have no gradient (section 4.2). How far pi is from mu is logged as `rho`, its mean is 1 for
the same policy. Differs from the paper: means in place of sums unless `reduction=sum`, Adam unless `optimizer=rmsprop`;
`replay_ratio` learns from old trajectories as well, as its section 5.2.2 does with one half of each batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlrun import networks
from rlrun.algos.actor_learner.actor_critic import ActorCritic, VTraceConfig, footprint
from rlrun.algos.actor_learner.trajectories import ReplayedConfig
from rlrun.algos.algorithm import Kit
from rlrun.compute.update import Aux
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Tensor


@dataclass
class IMPALAConfig(VTraceConfig, ReplayedConfig):
    """Actor-critic with V-trace."""

    name: str = "impala"  # registered name of the algorithm


@register(
    "algo",
    IMPALAConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    smoke={"replay_min": 2},
    footprint=footprint,
    weights=("network",),
)
class IMPALA(ActorCritic):
    """Actor-critic with V-trace on trajectories of older policies (Espeholt et al. 2018)."""

    cfg: IMPALAConfig

    def __init__(self, cfg: IMPALAConfig, kit: Kit):
        super().__init__(cfg, kit, recorded=("log_prob",))

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch that has the log_prob [T, B] of what was done, by the policy that did it."""
        said = self.said(nets, batch)
        ratio, (target, advantage) = self.corrected(said, batch)
        rho = ratio.detach()
        policy_loss = -rho.clamp(max=self.cfg.rho_bar) * advantage * said.log_prob
        loss, aux = self.total(said, policy_loss, target)
        return loss, aux | {"rho": rho.mean()}
