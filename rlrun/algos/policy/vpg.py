"""Vanilla policy gradient: REINFORCE with rewards to go, and a baseline if wanted.

Williams 1992 (Machine Learning 8:229), Sutton et al. 2000 (NeurIPS 12). One step up the gradient on each rollout,

    L = -E[ A log pi(a|s) ] - ent_coef * E[ H(pi) ]

    baseline=none    A_t = r_t + gamma r_{t+1} + ... until the episode or the rollout ends
    baseline=value   A_t = GAE(lambda), with `gae_lambda=1` the same less V(s_t)

Without values there is nothing to say what would have followed where an episode or a rollout is cut: it counts for
nothing. With `baseline=value` the value of the last observation stands for it, and values are fitted to the returns
after the policy's step, `n_critic_updates` times over the rollout in minibatches. `normalize_advantage` takes the mean
off the returns, which is a baseline that is the same in all states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import ActorCritic, ActorCriticConfig, footprint, outputs
from rlrun.checks import Count, NotNegative, OneOf, Positive, Share, Within
from rlrun.compute.means import UpdateMeans
from rlrun.compute.update import Aux
from rlrun.ops.returns import discounted_returns
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Array, Metrics, Progress, Rollout, Tensor


@dataclass
class VPGConfig(ActorCriticConfig):
    """Vanilla policy gradient."""

    name: str = "vpg"  # registered name of the algorithm
    learning_rate: Positive = 1e-3  # step size of the policy
    baseline: Annotated[str, OneOf("none", "value")] = "value"  # what is taken off the returns: nothing, or values
    value_learning_rate: Positive = 1e-3  # baseline=value: step size of the values
    n_critic_updates: Count = 10  # baseline=value: passes over each rollout to fit values
    batch_size: Annotated[int, Within(1, 10**7)] = 128  # baseline=value: transitions per minibatch of the values
    gae_lambda: Share = 1.0  # baseline=value: 0 for one-step advantages, 1 for Monte Carlo
    ent_coef: NotNegative = 0.0  # weight of the entropy bonus


@register(
    "algo",
    VPGConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    smoke={"n_steps": 32, "batch_size": 32, "n_critic_updates": 2},
    footprint=footprint,
    weights=("network",),
)
class VPG(ActorCritic):
    """REINFORCE with rewards to go, less the value of the state if wanted (Williams 1992)."""

    cfg: VPGConfig
    state = ("network", "optimiser", "agent", "minibatches")

    def __init__(self, cfg: VPGConfig, kit: Kit):
        super().__init__(cfg, kit, values=cfg.baseline == "value")
        trains: str | list[str] = "network"
        if cfg.baseline == "value":
            trains = self.train_values(kit, cfg.value_learning_rate, cfg.batch_size, cfg.n_critic_updates)
        self.optimiser = self.update(kit, self.loss, trains)

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a rollout's obs, action, advantage."""
        found = outputs(nets.network, batch)
        output, mask = found[0] if self.agent.has_value else found, self.mask(batch)
        policy_loss = -(self.policy.log_prob(output, batch["action"], mask) * batch["advantage"]).mean()
        entropy = self.policy.entropy(output, mask).mean()
        loss = policy_loss - self.cfg.ent_coef * entropy
        return loss, {"policy_loss": policy_loss, "entropy": entropy, "entropy_loss": -entropy}

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        columns, means = self.columns(rollout, self.advantages(rollout)), UpdateMeans()
        for _, piece in self.descend(self.stacks(columns, rollout), rollout, progress):
            means.add(piece.aux)
        fit = self.refit(columns, rollout, progress) if self.cfg.baseline == "value" else {}
        return means.take() | fit | {"learning_rate": self.learning_rate(progress.begun(rollout))}

    def advantages(self, rollout: Rollout) -> Array:
        """GAE [T, E], or without values the rewards to go."""
        if self.agent.has_value:
            return super().advantages(rollout)
        return discounted_returns(rollout.reward, 0.0, rollout.terminated, rollout.truncated, self.cfg.gamma)
