"""Asynchronous proximal policy optimisation: PPO's clipped objective on trajectories that actors send.

With the ratio r_t = pi(a_t|s_t) / mu(a_t|s_t) to the policy that acted, however long ago, and V-trace targets v_t at
the weights of now (Espeholt et al. 2018, arXiv:1802.01561), some updates on each batch by

    L = -E[ min(r A, clip(r, 1 - c, 1 + c) A) ] + vf_coef * E[ (V - v)^2 ] - ent_coef * E[ H(pi) ]
    A_t = r_t + gamma v_{t+1} - V(s_t)

(Schulman et al. 2017, arXiv:1707.06347, equations 7 and 9). So a policy that has gone further from mu than the clip
gains nothing by going on, and values do not follow what mu would have got. There is no one paper: Petrenko et al. 2020,
"Sample Factory", arXiv:2006.11751, section 3.4, has the same two corrections. Here A takes no importance weight, since
the ratio is one, and A and v are found anew for each of the `n_epochs` updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from rlrun import networks
from rlrun.algos.actor_learner.actor_critic import ActorCritic, VTraceConfig, footprint
from rlrun.algos.algorithm import Kit
from rlrun.checks import Positive, Within
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.ops.losses import approx_kl, clipped_surrogate
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Tensor


@dataclass
class APPOConfig(VTraceConfig):
    """Asynchronous proximal policy optimisation."""

    name: str = "appo"  # registered name of the algorithm
    n_epochs: Annotated[int, Within(1, 10**4)] = 4  # updates on each batch
    clip_range: Positive = 0.2  # how far the probability ratio may gain from moving away from 1
    normalize_advantage: bool = True  # mean 0 and standard deviation 1 within each batch

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalize_advantage and self.n_steps * self.batch_rollouts == 1:
            problem = "a single step has no spread to normalise by"
            raise ConfigError("normalize_advantage", problem, "write false, or a larger n_steps")


@register(
    "algo",
    APPOConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True),
    network="mlp",
    footprint=footprint,
    weights=("network",),
)
class APPO(ActorCritic):
    """PPO's clipped objective with V-trace on trajectories of older policies (Petrenko et al. 2020)."""

    cfg: APPOConfig

    def __init__(self, cfg: APPOConfig, kit: Kit):
        super().__init__(cfg, kit, recorded=("log_prob",), epochs=cfg.n_epochs)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch that has the log_prob [T, B] of what was done, by the policy that did it."""
        said = self.said(nets, batch)
        ratio, (target, advantage) = self.corrected(said, batch)
        if self.cfg.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        loss, aux = self.total(said, clipped_surrogate(ratio, advantage, self.cfg.clip_range), target)
        clipped = ((ratio - 1).abs() > self.cfg.clip_range).float().mean()
        return loss, aux | {"rho": ratio.mean(), "approx_kl": approx_kl(ratio).mean(), "clip_fraction": clipped}
