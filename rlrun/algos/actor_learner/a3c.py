"""Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783, algorithm S3).

Of the steps of a trajectory, with R_t = r_t + gamma r_{t+1} + ... to its end and the value of what follows there,

    L = -sum (R_t - V(s_t)) log pi(a_t|s_t) + vf_coef sum (V(s_t) - R_t)^2 - ent_coef sum H(pi(.|s_t))

where R_t - V(s_t) has no gradient: an n-step return for the first step, and one of fewer steps for each that follows.

    asynchronous=true    every actor takes this gradient at its own weights, of all that it has just done, and sends it;
                         it is applied to the shared weights as it arrives, as in the paper
    asynchronous=false   actors send what they did, and the learner takes the gradient of `batch_rollouts` trajectories:
                         the synchronous, batched form

Where there are no actors (`experience=rollouts`) it is the second in any case. Nothing corrects for a policy that has
moved meanwhile: `rollouts` with fewer `batch_rollouts` than environments and actors with many of them are a little off
it; `impala` is the one that can be. Differs from the paper: means in place of sums unless `reduction=sum`, Adam unless
`optimizer=rmsprop`, whose statistics are shared then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlrun import networks
from rlrun.algos.actor_learner.actor_critic import ActorCritic, ActorCriticConfig, footprint
from rlrun.algos.algorithm import Kit
from rlrun.compute.update import Aux
from rlrun.ops.offpolicy import bootstrapped
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Tensor


@dataclass
class A3CConfig(ActorCriticConfig):
    """Asynchronous advantage actor-critic."""

    name: str = "a3c"  # registered name of the algorithm
    asynchronous: bool = True  # actors send gradients at their own weights; false: what they did, in batches


@register(
    "algo",
    A3CConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    footprint=footprint,
    weights=("network",),
)
class A3C(ActorCritic):
    """Actor-critic whose actors send gradients (Mnih et al. 2016)."""

    cfg: A3CConfig

    def __init__(self, cfg: A3CConfig, kit: Kit):
        super().__init__(cfg, kit, asynchronous=cfg.asynchronous)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch of trajectories."""
        said = self.said(nets, batch)
        returns = bootstrapped(batch["reward"], batch["discount"], said.next_value, batch["ended"])
        return self.total(said, -(returns - said.value.detach()) * said.log_prob, returns)
