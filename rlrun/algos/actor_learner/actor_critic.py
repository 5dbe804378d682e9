"""What actor-critics on trajectories share: a network of policy and values, its agent, what both say of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlrun import networks
from rlrun.agents.policy import SamplingAgent
from rlrun.algos.actor_learner import trajectories
from rlrun.algos.actor_learner.trajectories import TrajectoryConfig, TrajectoryLearner, now, outputs, then
from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.actor_critic import PolicyConfig, heads
from rlrun.checks import NotNegative, Share
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.footprint import TRAINED, Need, Parameters, weights
from rlrun.ops.distributions import distribution
from rlrun.ops.offpolicy import VTrace, vtrace
from rlrun.types import EnvSpec, Tensor


@dataclass
class ActorCriticConfig(PolicyConfig, TrajectoryConfig):
    """Options of every actor-critic on trajectories."""

    ent_coef: NotNegative = 0.01  # weight of the entropy bonus
    vf_coef: NotNegative = 0.5  # weight of the value loss


@dataclass
class VTraceConfig(ActorCriticConfig):
    """Options of those that correct for another policy by V-trace."""

    rho_bar: NotNegative = 1.0  # largest importance weight of a step; the larger, the nearer to pi the values are
    c_bar: NotNegative = 1.0  # largest weight by which what came later counts; at most rho_bar
    vtrace_lambda: Share = 1.0  # share of what came later that counts; 0 for one-step targets

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.c_bar > self.rho_bar:
            problem = f"V-trace converges for c_bar of at most rho_bar, got {self.c_bar:g} and {self.rho_bar:g}"
            raise ConfigError("c_bar", problem, f"write c_bar={self.rho_bar:g}, or a larger rho_bar")


class Said(NamedTuple):
    """What policy and values say of T x B steps, all [T, B]."""

    log_prob: Tensor  # of the actions that were taken
    entropy: Tensor
    value: Tensor  # of the observations that the steps began with
    next_value: Tensor  # of those that they led to; no gradient


def footprint(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network and the trajectories."""
    asked = heads(distribution(env.action_space, log_std=cfg.log_std), noisy=True)
    return [weights(parameters(*asked), TRAINED), *trajectories.footprint(cfg, env, recorded=1)]


class ActorCritic(TrajectoryLearner):
    """A policy, the values of states, and a loss of three terms: a subclass says what the first two learn from.

    Args:
        recorded, epochs, asynchronous: see `TrajectoryLearner`.
    """

    agent: SamplingAgent
    state = ("network", *TrajectoryLearner.state)
    gradient_aux = ("loss", "policy_loss", "value_loss", "entropy", "entropy_loss")

    def __init__(self, cfg: Any, kit: Kit, recorded: tuple[str, ...] = (), **how: Any):
        self.policy = kit.policy(**cfg.gaussian)
        nets = kit.nets(network=heads(self.policy, noisy=True))
        super().__init__(cfg, kit, nets, trains="network", recorded=recorded, **how)
        self.network, self.draws = nets.network, self.policy.squashes
        self.agent = SamplingAgent(
            networks.Inference(self.network), self.policy, kit.rng, self.masked, self.memory_size
        )

    def said(self, nets: networks.Nets, batch: Mapping[str, Any]) -> Said:
        """Policy and values of a batch."""
        output, value = outputs(nets.network, batch)
        output, value, mask = now(output, batch), value.squeeze(-1), self.mask(batch)
        shape = batch["reward"].shape
        return Said(
            self.policy.log_prob(output, batch["action"], mask).view(shape),
            self.policy.entropy(output if self.cfg.ent_coef else output.detach(), mask).view(shape),
            now(value, batch).view(shape),
            then(value.detach(), batch),
        )

    def corrected(self, said: Said, batch: Mapping[str, Any]) -> tuple[Tensor, VTrace]:
        """Importance weights rho [T, B] and V-trace of a batch that has the log_prob [T, B] of what was done, by the
        policy that did it; the weights have a gradient."""
        ratio = (said.log_prob - batch["log_prob"]).exp()
        steps = batch["reward"], batch["discount"], said.value.detach(), said.next_value, batch["ended"]
        return ratio, vtrace(*steps, ratio.detach(), self.cfg.rho_bar, self.cfg.c_bar, self.cfg.vtrace_lambda)

    def total(self, said: Said, policy_loss: Tensor, target: Tensor) -> tuple[Tensor, Aux]:
        """Policy loss + vf_coef (V - target)^2 - ent_coef H, of numbers [T, B]."""
        policy_loss, entropy = self.reduced(policy_loss), self.reduced(said.entropy)
        value_loss = self.reduced((said.value - target).square())
        loss = policy_loss + self.cfg.vf_coef * value_loss - self.cfg.ent_coef * entropy
        mean = said.entropy.mean()
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": mean, "entropy_loss": -mean}
