"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905): a policy that is paid for its entropy, too.

With V(s) = E over a ~ pi of [ min over n of Q_n(s, a) - alpha log pi(a|s) ] (equations 5, 7, 18; `algo.critics` has
other ways to make one value of several):

    y  = r + discount * V_target(s')
    L_critics = sum over n of E[ w * (Q_n(s, a) - y)^2 ],         L_actor = -E[ V(s) ]
    L_alpha   = log alpha * E[ H(pi) - H_target ],                H(pi) = E over a ~ pi of [ -log pi(a|s) ]

pi is a Gaussian squashed into the bounds, and the mean over actions is taken with one, a = squash(mean + std * eps);
or it chooses among discrete actions, and the mean is a sum over all (Christodoulou 2019, arXiv:1910.07207).
Densities are those of actions in units of half their range, so that neither alpha nor H_target depends on what the
environment counts in. Differs from the paper: the temperature is exp(log alpha) and log alpha descends, as in the
authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch

from rlrun import networks
from rlrun.agents.actor import Actor
from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    actor_head,
    critic_head,
    footprint,
    noisy_actor,
)
from rlrun.checks import Above0, AutoOr, Positive, Within
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.ops.critics import Returns
from rlrun.ops.fields import allowed
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import MASK, Batch, EnvSpec, Tensor


@dataclass
class SACConfig(ActorCriticConfig):
    """Soft actor-critic."""

    name: str = "sac"  # registered name of the algorithm
    # weight of the entropy: auto (learned, so that the entropy becomes target_entropy) | a number that stays
    alpha: Annotated[str, AutoOr(Above0())] = "auto"
    alpha_init: Positive = 1.0  # alpha=auto: where it begins
    # alpha=auto: nats per dimension of an action in units of half its range; auto: -1, and of n discrete actions
    # 0.98 log(n)
    target_entropy: Annotated[str, AutoOr(Within(-1e6, 1e6))] = "auto"


class Choice(NamedTuple):
    """What a policy does: an action sampled for each of B observations, or each of A with a probability."""

    action: Tensor | None  # [B, *action]; None for all that there are
    log_p: Tensor  # [B], or [B, A]
    p: Tensor | None = None  # [B, A]

    def mean(self, x: Tensor) -> Tensor:
        """Over actions, [B]: of the one that was sampled, or a sum over all."""
        return x if self.p is None else (self.p * x).sum(-1)

    def less(self, returns: Returns, cost: Tensor) -> Returns:
        """Returns [B, S] of what is done, less what it costs; of all actions [B, A, S] their mean [B, 1]."""
        if self.p is None:
            return Returns(returns.values - cost.unsqueeze(-1), returns.p)
        return Returns(self.mean(returns.mean - cost).unsqueeze(-1))


def outputs(env: EnvSpec) -> int:
    """Numbers that the actor gives: logits, or means and log standard deviations."""
    return env.num_actions or 2 * env.action_space.size


@register(
    "algo",
    SACConfig,
    needs=Needs(
        action={"box", "discrete"}, obs=ANY_SPACE, masks=True, memory="replay", statistics={"obs", "batch"}, ranks=True
    ),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=footprint(outputs, targets=0),
    weights=("actor", "critics", "critics_target.module", "log_alpha"),
)
class SAC(ActorCritic):
    """Off-policy actor-critic that maximises entropy, too (Haarnoja et al. 2018)."""

    cfg: SACConfig
    state = ("actor", "critics", "critics_target", "log_alpha", *ActorCritic.state)

    def __init__(self, cfg: SACConfig, kit: Kit):
        self.cfg, env, learned = cfg, kit.env, cfg.alpha == "auto"
        self.policy: Any = kit.policy(squash=True, log_std="state")
        self.target_entropy = target_entropy(cfg, env)
        trained = ("actor", "log_alpha") if learned else ("actor",)
        super().__init__(cfg, kit, {"critics_target": "critics"}, kit.generator, trained)
        self.log_alpha, self.masked = self.nets.log_alpha, env.obs_space.masked
        self.agent = self.explorer(kit)

    def explorer(self, kit: Kit) -> Actor:
        """Who samples the policy; with noise on top where rewards are too seldom for what it samples to meet one."""
        actor, noise = self.nets.actor, self.cfg.noise.kind
        if noise == "none":
            return Actor(networks.Inference(actor), self.policy, kit.rng, self.cfg.random_steps, self.masked)
        if self.discrete:
            raise ConfigError("algo.noise.kind", f"{noise} has no meaning for discrete actions", "write none")
        return noisy_actor(kit, actor, self.policy, self.cfg, samples=True)

    def build(self, kit: Kit) -> networks.Nets:
        nets = kit.nets(actor=actor_head(outputs(kit.env)), critics=critic_head(self.cfg, kit.env))
        learned = self.cfg.alpha == "auto"
        alpha = math.log(self.cfg.alpha_init if learned else float(self.cfg.alpha))
        nets.log_alpha = torch.nn.Parameter(torch.tensor(alpha, device=kit.device.torch), requires_grad=learned)
        return nets

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        """Of discrete actions none are sampled."""
        dims = 0 if self.discrete else self.dims
        eps = {name: self.normal(updates, batch_size, dims) for name in ("eps", "next_eps")}
        return eps | super().draw(updates, batch_size)

    def choice(self, actor: Any, obs: Any, eps: Tensor) -> Choice:
        output = actor(obs)
        if not self.discrete:
            action, log_p = self.policy.rsample(output, eps)
            return Choice(action, log_p + self.policy.log_half)
        mask = obs[MASK] if self.masked else None
        log_p = allowed(output, mask).log_softmax(-1)
        return Choice(None, log_p if mask is None else log_p.masked_fill(~mask, 0.0), log_p.exp())

    def critic_loss(self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Aux]:
        with torch.no_grad():
            pi = self.choice(nets.actor, batch.next_obs, drawn["next_eps"])
        output, following = self.outlook(nets, batch, pi.action, drawn)
        with torch.no_grad():
            target = pi.less(following, nets.log_alpha.exp() * pi.log_p).target(batch.reward, batch.discount)
        return self.regression(output, target, batch)

    def actor_loss(self, nets: networks.Nets, batch: Batch, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Aux]:
        """The actor's and the temperature's: neither has a gradient with respect to what the other trains."""
        with self.batches(nets.actor):
            pi, alpha = self.choice(nets.actor, batch.obs, drawn["eps"]), nets.log_alpha.detach().exp()
        value = pi.less(self.climbed(nets, batch.obs, pi.action, drawn), alpha * pi.log_p).mean
        actor_loss, entropy = -value.mean(), -pi.mean(pi.log_p.detach()).mean().detach()
        alpha_loss = nets.log_alpha * (entropy - self.target_entropy)
        return actor_loss + alpha_loss, {"loss": actor_loss, "alpha": alpha, "entropy": entropy}


def target_entropy(cfg: SACConfig, env: EnvSpec) -> float:
    """In nats: of an action in units of half its range, or of a choice."""
    if cfg.target_entropy == "auto":
        return 0.98 * math.log(env.num_actions) if env.num_actions else -float(env.action_space.size)
    return float(cfg.target_entropy) * (1 if env.num_actions else env.action_space.size)
