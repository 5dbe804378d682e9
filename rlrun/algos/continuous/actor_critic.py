"""What DDPG, TD3 and SAC share: a learner of one actor and N critics from replay, made of parts.

On every batch the critics take a step down

    L = sum over the N critics of E[ w * e(Q_n(s, a), y) ]

towards a target y that the algorithm says, and the actor one on every `policy_delay`th, down the algorithm's loss. What
a critic's numbers mean, and its error e, is in ops/critics.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.agents.actor import NoiseConfig, NoisyActor
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayConfig, ReplayLearner, replay_footprint
from rlrun.checks import Above0, Bounded, Count, Natural, Positive, Within
from rlrun.compute.update import Aux, Turn, Turns
from rlrun.footprint import TRAINED, Footprint, Need, Parameters, weights
from rlrun.networks import Nets
from rlrun.ops.critics import Returns, Squared
from rlrun.ops.distributions import Distribution
from rlrun.types import Batch, EnvSpec, HeadSpec, Tensor


@dataclass
class CriticsConfig(Bounded):
    """Critics of an actor."""

    count: Annotated[int, Within(1, 1000)] = 2  # how many; the lowest of their values counts


@dataclass
class ActorCriticConfig(ReplayConfig):
    """Options of every actor that learns with critics from replay."""

    learning_rate: Positive = 3e-4  # step size
    actor_learning_rate: Positive | None = None  # that of the actor, if it is another
    max_grad_norm: Positive | None = None  # gradients are scaled down to this global norm; null leaves them
    batch_size: Annotated[int, Within(1, 10**7)] = 256  # transitions per gradient step
    learning_starts: Natural = 1000  # env steps before the first gradient step
    random_steps: Natural = 1000  # env steps with uniformly random actions at the start
    train_freq: Count = 1  # env steps between two rounds of gradient steps
    # share of the new weights in the target networks, which follow after every gradient step
    tau: Annotated[float, Above0(1)] = 0.005
    critics: CriticsConfig = field(default_factory=CriticsConfig)  # what judges the actor
    policy_delay: Count = 1  # gradient steps of the critics for each of the actor


@dataclass
class DeterministicConfig(ActorCriticConfig):
    """Options of every actor that plays one action, and explores by noise on top of it."""

    noise: NoiseConfig = field(default_factory=NoiseConfig)  # on top of the actions that explore


class ActorCritic(ReplayLearner):
    """A subclass makes `nets.actor` and `nets.critics`, sets `agent` and says `critic_loss` and `actor_loss`.

    Args:
        trained: names in `nets` of what the actor's loss trains.
        follow, generator: see `ReplayLearner`.
    """

    cfg: ActorCriticConfig
    slow_targets = False  # targets follow the actor's steps and not the critics'

    def __init__(
        self,
        cfg: ActorCriticConfig,
        kit: Kit,
        nets: Nets,
        follow: Mapping[str, str],
        generator: torch.Generator | None = None,
        trained: Sequence[str] = ("actor",),
    ):
        actions = kit.env.action_space
        self.trained, self.discrete, self.dims = trained, actions.n > 0, actions.size
        self.estimate: Any = Squared()  # an Estimate
        super().__init__(cfg, kit, nets, follow, generator)

    def updates(self, kit: Kit, ahead: int, bursts: Sequence[int]) -> Turns:
        cfg, targets = self.cfg, list(self.targets.values())
        parts: Any = {"cfg": cfg, "ahead": ahead, "bursts": bursts}
        critic, actor = self.of_drawn(self.critic_loss), self.of_drawn(self.actor_loss)
        slow, fast = (targets, []) if self.slow_targets else ([], targets)
        rate = (cfg.actor_learning_rate or cfg.learning_rate) / cfg.learning_rate
        return Turns(
            critic=Turn(kit.update(critic, self.nets, trains="critics", followers=fast, **parts)),
            actor=Turn(
                kit.update(actor, self.nets, trains=self.trained, followers=slow, **parts), cfg.policy_delay, rate
            ),
        )

    def critic_loss(self, nets: Nets, batch: Batch, drawn: Any) -> tuple[Tensor, Aux]:
        """What the critics descend: `regression` towards the algorithm's targets."""
        raise NotImplementedError

    def actor_loss(self, nets: Nets, batch: Batch, drawn: Any) -> tuple[Tensor, Aux]:
        """What the actor descends."""
        raise NotImplementedError

    # The parts.

    def normal(self, *shape: int) -> Tensor:
        """Numbers from N(0, 1) of the learner's own stream."""
        assert self.generator is not None
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def values(self, critics: Any, obs: Any, action: Tensor | None, among: slice | None = None) -> Returns:
        """What N critics say [N, B, S] of actions [B, *action]; of all discrete ones [N, B, A, S]."""
        return self.estimate.returns(self.outputs(critics, obs, action, among))

    def outputs(self, critics: Any, obs: Any, action: Tensor | None, among: slice | None = None) -> Tensor:
        """The numbers that they say it with, [N, B, K] or [N, B, A, K]."""
        output: Tensor = critics(obs, action, among)
        return output.unflatten(-1, (-1, self.estimate.outputs)) if self.discrete else output

    def regression(self, nets: Nets, batch: Batch, target: Returns) -> tuple[Tensor, Aux]:
        """The critics' loss towards targets [B, S]; how far off they are on average becomes the priority."""
        if self.discrete:
            output = taken(self.outputs(nets.critics, batch.obs, None), batch.action)
        else:
            output = self.outputs(nets.critics, batch.obs, batch.action)  # [N, B, K]
        loss = (batch.weight * self.estimate.error(output, target).sum(0)).mean()
        with torch.no_grad():
            value = self.estimate.returns(output).mean  # [N, B]
            return loss, {"td_error": (target.mean - value).abs().mean(0), "q_values": value.mean()}


def taken(output: Tensor, action: Tensor) -> Tensor:
    """Of [N, B, A, K] what belongs to discrete actions [B], [N, B, K]."""
    index = action.reshape(1, -1, 1, 1).expand(len(output), -1, 1, output.shape[-1])
    return output.gather(-2, index).squeeze(-2)


def actor_head(outputs: int) -> HeadSpec:
    """The actor's."""
    return HeadSpec("policy", outputs)


def critic_head(cfg: ActorCriticConfig, env: EnvSpec) -> HeadSpec:
    """The critics': shown an action, or, where actions are discrete, a value for each."""
    discrete = env.num_actions
    return HeadSpec("critic", discrete or 1, critics=cfg.critics.count, action=None if discrete else env.action_space)


def noisy_actor(kit: Kit, network: Any, policy: Distribution, cfg: DeterministicConfig) -> NoisyActor:
    """Who plays what an actor [E, A] says, squashed into the bounds."""
    space: Any = kit.env.action_space
    bounds = {"low": space.low, "high": space.high}
    return NoisyActor(networks.Inference(network), policy, kit.rng, cfg.random_steps, noise=cfg.noise, **bounds)


def footprint(outputs: Callable[[EnvSpec], int], targets: int) -> Footprint:
    """Actor and critics, with target networks of the critics and perhaps the actor, and what is learned from.

    Args:
        outputs: numbers that the actor gives.
        targets: of the actor.
    """

    def own(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
        actor, critics = parameters(actor_head(outputs(env))), parameters(critic_head(cfg, env))
        return [weights(actor, TRAINED + targets, "an actor"), weights(critics, TRAINED + 1, "critics")]

    return replay_footprint(own)
