"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477).

One natural gradient step on each rollout, as far as the policy may move: with rho = pi(a|s) / pi_old(a|s)

    maximise E[ rho A ]  subject to  E[ KL(pi_old || pi) ] <= target_kl

Near pi_old the objective is linear with gradient g and the divergence quadratic with the Fisher matrix F (appendix C):
the step is sqrt(2 target_kl / x'Fx) x along x = F^-1 g. Conjugate gradients find x from products F v alone, and
F v = d(d KL/d w . v)/d w is two gradients; a share of the states tells F well enough, at as much of the price. The step
is cut down until the true divergence is in bounds and the true objective better, by all states; if none is found, the
policy stays as it is.

Values are fitted to the returns, `n_critic_updates` times over the rollout in minibatches: learning rate and optimiser
are theirs. What advantages and returns are, and how a network that remembers learns, is in actor_critic.py. Differs
from the paper: GAE in place of plain returns, and `cg_damping` on the diagonal of F.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import ActorCritic, ActorCriticConfig, footprint, outputs
from rlrun.checks import Above0, Count, NotNegative, Positive, Within
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.ops.fields import rows
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Metrics, Progress, Rollout, Tensor


@dataclass
class TRPOConfig(ActorCriticConfig):
    """Trust region policy optimisation."""

    name: str = "trpo"  # registered name of the algorithm
    learning_rate: Positive = 1e-3  # step size of the values; how far the policy goes is up to target_kl
    target_kl: Positive = 0.01  # most that the policy may diverge from the one that acted, on average over the states
    cg_max_steps: Count = 15  # steps of the conjugate gradient method
    cg_damping: NotNegative = 0.1  # is added to the diagonal of the Fisher matrix
    # states that the Fisher matrix is computed from, drawn from each rollout; the paper takes 0.1
    fisher_share: Annotated[float, Above0(1)] = 1.0
    line_search_max_iter: Count = 10  # steps that are tried, each shorter than the one before
    line_search_shrinking_factor: Annotated[float, Above0(1)] = 0.8  # by how much
    n_critic_updates: Count = 10  # passes over each rollout to fit values
    batch_size: Annotated[int, Within(1, 10**7)] = 128  # transitions per minibatch of the values


@register(
    "algo",
    TRPOConfig,
    needs=Needs(action=ANY_SPACE, obs=ANY_SPACE, masks=True, recurrent=True),
    network="mlp",
    smoke={"n_steps": 32, "batch_size": 32, "n_critic_updates": 2},
    footprint=footprint,
    weights=("network",),
)
class TRPO(ActorCritic):
    """Natural policy gradient within a bound on the divergence from the policy before (Schulman et al. 2015)."""

    cfg: TRPOConfig

    def __init__(self, cfg: TRPOConfig, kit: Kit):
        super().__init__(cfg, kit)
        if any(hasattr(layer, "unit_dim") for layer in self.network.modules()):
            problem = "a step of the line search would not keep weights at length 1"
            raise ConfigError("network.weight_norm", problem, "write network.weight_norm=false")
        own = self.train_values(kit, cfg.learning_rate, cfg.batch_size, cfg.n_critic_updates)
        self.parameters = [parameter for name, parameter in self.nets.named_parameters() if name in own]

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        columns = self.columns(rollout, self.advantages(rollout), "log_prob")
        (stack,) = self.stacks(columns, rollout)
        with torch.backends.cudnn.flags(enabled=not self.memory_size):  # its cells have no second derivative
            metrics = self.improve(rows(stack, 0))
        progress.gradient_steps += 1
        metrics |= self.refit(columns, rollout, progress)
        return metrics | {"learning_rate": self.value_learning_rate(progress.begun(rollout))}

    def improve(self, batch: Mapping[str, Any]) -> Aux:
        """The policy's step, on a rollout's obs, action, log_prob, advantage."""
        cfg, mask = self.cfg, self.mask(batch)

        def surrogate() -> tuple[Tensor, Tensor]:
            output = outputs(self.network, batch)[0]
            ratio = (self.policy.log_prob(output, batch["action"], mask) - batch["log_prob"]).exp()
            return (ratio * batch["advantage"]).mean(), output

        objective, output = surrogate()
        before = output.detach()
        gradient = self.gradient(objective, retain_graph=True)
        slope = self.gradient(self.divergence(batch, before, output), create_graph=True)

        def fisher(v: Tensor) -> Tensor:
            return self.gradient(slope, grad_outputs=v, retain_graph=True) + cfg.cg_damping * v

        with torch.no_grad():
            direction = conjugate_gradient(fisher, gradient, cfg.cg_max_steps)
            step = (2 * cfg.target_kl / (direction @ fisher(direction))).sqrt() * direction
            start, found = [parameter.clone() for parameter in self.parameters], False
            for tried in range(cfg.line_search_max_iter):
                self.move(start, cfg.line_search_shrinking_factor**tried * step)
                better, output = surrogate()
                kl = self.policy.kl(before, output, mask).mean()
                found = bool((better > objective) & (kl <= cfg.target_kl))
                if found:
                    break
            if not found:
                self.move(start, torch.zeros_like(step))
                better, kl, output = objective.detach(), torch.zeros_like(objective), before
            entropy = self.policy.entropy(output, mask).mean()
        return {
            "policy_objective": better,
            "kl": kl,
            "line_search_success": float(found),
            "entropy": entropy,
            "entropy_loss": -entropy,
        }

    def divergence(self, batch: Mapping[str, Any], before: Tensor, output: Tensor) -> Tensor:
        """KL(pi_old || pi), whose curvature is the Fisher matrix, on average over its share of the states."""
        mask, count = self.mask(batch), len(before)
        if self.cfg.fisher_share < 1:
            some = self.minibatches.rng.permutation(count)[: math.ceil(self.cfg.fisher_share * count)]
            chosen = torch.from_numpy(some).to(before.device)
            before, mask = before[chosen], mask if mask is None else mask[chosen]
            is_alone = not self.memory_size  # the others need not be looked at
            output = outputs(self.network, {"obs": rows(batch["obs"], chosen)})[0] if is_alone else output[chosen]
        return self.policy.kl(before, output, mask).mean()

    def gradient(self, of: Tensor, **how: Any) -> Tensor:
        """By all parameters of the policy, one after the other."""
        grads = torch.autograd.grad(of, self.parameters, materialize_grads=True, **how)
        return torch.cat([grad.reshape(-1) for grad in grads])

    def move(self, start: Sequence[Tensor], step: Tensor) -> None:
        """The parameters to where a step leads, in place: the agent has views of them."""
        parts = step.split([parameter.numel() for parameter in start])
        for parameter, begun, part in zip(self.parameters, start, parts, strict=True):
            parameter.copy_(begun + part.view_as(begun))


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with A x = b, nearly, by products of the symmetric, positive definite A alone (Hestenes & Stiefel 1952)."""
    x, residual, p = torch.zeros_like(b), b, b
    square = residual @ residual
    for _ in range(steps):
        if square < 1e-10:
            break
        image = product(p)
        length = square / (p @ image)
        x, residual = x + length * p, residual - length * image
        square, last = residual @ residual, square
        p = residual + square / last * p
    return x
