"""What DDPG, TD3 and SAC share: a learner of one actor and N critics from replay, made of parts.

On every batch the critics take a step down

    L = sum over the N critics of E[ w * e(Q_n(s, a), y) ]

towards a target y that the algorithm says, and the actor one on every `policy_delay`th, down the algorithm's loss. What
a critic's numbers mean, and its error e, is in ops/critics.py; which critics there are, and which of them count, in
critics.py.

With batch norms every pass takes in what is asked about now and what follows it as one batch, so that both are
normalised alike (Bhatt et al. 2024, "CrossQ", arXiv:1902.05605, section 4); then values stay in range without a target
network, `tau=null`. Every `reset_every` env steps all networks begin anew and only the replay stays (Nikishin et al.
2022, "The primacy bias", arXiv:2205.07802).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch

from rlrun import networks
from rlrun.agents.actor import NoiseConfig, NoisyActor
from rlrun.algos.algorithm import Kit
from rlrun.algos.continuous.critics import CriticsConfig, estimate, for_actor, for_target
from rlrun.algos.continuous.scaling import ReturnScale
from rlrun.algos.learners import ReplayConfig, ReplayLearner, replay_footprint
from rlrun.checks import Above0, Count, Natural, Positive, Within
from rlrun.compute.update import Aux, Turn, Turns
from rlrun.errors import ConfigError
from rlrun.footprint import TRAINED, Footprint, Need, Parameters, weights
from rlrun.ops.critics import Returns
from rlrun.ops.distributions import Distribution
from rlrun.types import Batch, EnvSpec, HeadSpec, Metrics, Progress, Rollout, Tensor

if TYPE_CHECKING:
    from rlrun.networks import Critics

PASSES = ("noise", "next_noise", "actor_noise")  # of the critics: over a batch, what follows it, the actor's actions
NOTHING: Mapping[str, Any] = MappingProxyType({})  # no random numbers


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
    # share of the new weights in the target networks, which follow after every gradient step; null: there are none
    tau: Annotated[float, Above0(1)] | None = 0.005  # type: ignore[assignment]
    critics: CriticsConfig = field(default_factory=CriticsConfig)  # what judges the actor
    policy_delay: Count = 1  # gradient steps of the critics for each of the actor
    noise: NoiseConfig = field(default_factory=lambda: NoiseConfig("none"))  # on top of the actions that explore
    # rewards are divided such that discounted returns have unit deviation and stay within this; null: as they are
    return_bound: Positive | None = None
    reset_every: Count | None = None  # env steps after which all networks begin anew, time and again; null: never

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau is None and self.target_update_interval is not None:
            raise ConfigError("target_update_interval", "has no meaning with tau=null", "write null")
        if self.noise.kind == "none" and self.noise.std != NoiseConfig.std and type(self)().noise.kind == "none":
            hint = f"write noise.std={NoiseConfig.std}, or noise.kind=gaussian"  # elsewhere it was switched off
            raise ConfigError("noise.std", "has no meaning with noise.kind=none", hint)


class ActorCritic(ReplayLearner):
    """A subclass says with `build` what networks there are, sets `agent`, and says `critic_loss` and `actor_loss`.

    Args:
        trained: names in `nets` of what the actor's loss trains.
        follow, generator: see `ReplayLearner`.
    """

    cfg: ActorCriticConfig
    critics: Critics
    smoke: ClassVar[dict[str, Any]] = {**ReplayLearner.smoke, "critics": {"hidden": [16, 16]}}
    slow_targets = False  # targets follow the actor's steps and not the critics'

    def __init__(
        self,
        cfg: ActorCriticConfig,
        kit: Kit,
        follow: Mapping[str, str],
        generator: torch.Generator | None = None,
        trained: Sequence[str] = ("actor",),
    ):
        actions = kit.env.action_space
        self.trained, self.discrete, self.dims = trained, actions.n > 0, actions.size
        self.estimate, self.fresh = estimate(cfg.critics), partial(self.build, kit)
        nets = self.build(kit)
        if cfg.critics.aggregate == "subset" or cfg.critics.dropout or cfg.reset_every:
            generator = kit.generator
        self.joint = any(isinstance(layer, networks.BatchNorm) for layer in nets.critics.modules())
        if cfg.tau is None:
            self.state = tuple(name for name in self.state if name not in follow)
            follow = {}
        super().__init__(cfg, kit, nets, follow, generator)
        if cfg.return_bound is not None:
            if kit.device.group.size > 1:
                raise ConfigError(
                    "algo.return_bound", "is of the returns of one process", "write null, or use one rank"
                )
            self.scale = ReturnScale(kit.env.num_envs, cfg.gamma, cfg.return_bound)
            self.state = (*self.state, "scale")
        if cfg.reset_every is not None:
            self.resets = 0
            self.state = (*self.state, "resets")

    def build(self, kit: Kit) -> networks.Nets:
        """New networks, with `actor` and `critics` among them."""
        raise NotImplementedError

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

    def critic_loss(self, nets: networks.Nets, batch: Batch, drawn: Any) -> tuple[Tensor, Aux]:
        """What the critics descend: `regression` towards the algorithm's targets."""
        raise NotImplementedError

    def actor_loss(self, nets: networks.Nets, batch: Batch, drawn: Any) -> tuple[Tensor, Aux]:
        """What the actor descends."""
        raise NotImplementedError

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        cfg, begun = self.cfg, progress.begun(rollout)
        if cfg.return_bound is not None:
            self.scale.observe(rollout)
        if cfg.reset_every is not None and begun // cfg.reset_every > self.resets:
            self.begin_anew()
            self.resets = begun // cfg.reset_every
        return super().learn(rollout, progress)

    def _stacks(self, owed: int) -> Iterator[Batch]:
        for stack in super()._stacks(owed):
            yield stack if self.cfg.return_bound is None else stack._replace(reward=stack.reward / self.scale.divisor)

    def begin_anew(self) -> None:
        """New weights and no steps made; what is known of observations stays."""
        assert self.generator is not None
        seed = int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = self.fresh()
        with torch.no_grad():
            for name in (name for name, _ in fresh.named_children()):
                renew(getattr(self.nets, name), getattr(fresh, name))
            for name, parameter in fresh.named_parameters(recurse=False):
                getattr(self.nets, name).copy_(parameter)
        self.group.copy([*self.nets.parameters(), *self.nets.buffers()])
        for target in self.targets.values():
            target.sync()
        self.optimiser.forget()

    # The parts.

    def normal(self, *shape: int) -> Tensor:
        """Numbers from N(0, 1) of the learner's own stream."""
        assert self.generator is not None
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        """What the critics take: who of them is asked [updates, M], and noise for the units that they drop."""
        cfg, generator, drawn = self.cfg.critics, self.generator, {}
        assert generator is not None
        if cfg.aggregate == "subset":
            order = torch.rand((updates, cfg.count), generator=generator, device=generator.device).argsort(-1)
            drawn["some"] = order[:, : cfg.subset]
        for name in PASSES if cfg.dropout else ():
            drawn[name] = self.critics.noise(updates, batch_size, generator)
        return drawn

    def target(self, nets: networks.Nets, name: str) -> Any:
        """A target network, or, without one, the network itself."""
        return getattr(nets, f"{name}_target" if self.targets else name)

    def batches(self, *which: Any) -> AbstractContextManager[None]:
        """Inside, batch norms of these networks go by the batches that they are shown."""
        return networks.batch_statistics(*which) if self.joint else nullcontext()

    def ask(self, critics: Any, obs: Any, action: Tensor | None, **how: Any) -> Tensor:
        """The numbers of N critics for actions [B, *action], [N, B, K]; for all discrete ones [N, B, A, K]."""
        output: Tensor = critics(obs, action, **how)
        return output.unflatten(-1, (-1, self.estimate.outputs)) if self.discrete else output

    def outlook(
        self, nets: networks.Nets, batch: Batch, next_action: Tensor | None, drawn: Mapping[str, Tensor]
    ) -> tuple[Tensor, Returns]:
        """What the critics say of a batch, and what counts, for its targets, of what follows.

        Returns:
            Their numbers [N, B, K], and returns [B, S], or [B, A, S] of all discrete actions, without gradients.
        """
        action, some = None if self.discrete else batch.action, drawn.get("some")
        noise, next_noise = drawn.get("noise"), drawn.get("next_noise")
        target = self.target(nets, "critics")
        if self.joint:
            obs, action = both(batch.obs, batch.next_obs), both(action, next_action)
            noise = next_noise = both(noise, next_noise, 1)
            with self.batches(nets.critics, target):
                output, following = self.ask(nets.critics, obs, action, noise=noise).chunk(2, 1)
                if self.targets:
                    with torch.no_grad():
                        following = self.ask(target, obs, action, among=some, noise=chosen(noise, some)).chunk(2, 1)[1]
                else:
                    following = chosen(following.detach(), some)
        else:
            output = self.ask(nets.critics, batch.obs, action, noise=noise)
            with torch.no_grad():
                noise = chosen(next_noise, some)
                following = self.ask(target, batch.next_obs, next_action, among=some, noise=noise)
        if self.discrete:
            output = taken(output, batch.action)
        return output, for_target(self.cfg.critics, self.estimate.returns(following))

    def climbed(self, nets: networks.Nets, obs: Any, action: Tensor | None, drawn: Mapping[str, Tensor]) -> Returns:
        """What counts for the actor of what the critics say of its actions: [B, S], or [B, A, S] of all discrete."""
        output = self.ask(nets.critics, obs, action, noise=drawn.get("actor_noise"))
        return for_actor(self.cfg.critics, self.estimate.returns(output))

    def first(self, nets: networks.Nets, obs: Any, action: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """What the first critic says of the actor's actions [B, *action], [B]; of other ways to choose, what counts."""
        noise = drawn.get("actor_noise")
        if self.cfg.critics.aggregate != "minimum":
            return self.climbed(nets, obs, action, drawn).mean
        output = self.ask(nets.critics, obs, action, among=slice(1), noise=None if noise is None else noise[:1])
        return self.estimate.returns(output).mean.squeeze(0)

    def regression(self, output: Tensor, target: Returns, batch: Batch) -> tuple[Tensor, Aux]:
        """The loss of outputs [N, B, K] towards targets [B, S]; how far off they are on average is the priority."""
        loss = (batch.weight * self.estimate.error(output, target).sum(0)).mean()
        with torch.no_grad():
            value = self.estimate.returns(output).mean  # [N, B]
            return loss, {"td_error": (target.mean - value).abs().mean(0), "q_values": value.mean()}


def both(first: Any, second: Any, dim: int = 0) -> Any:
    """Two batches as one; of dicts every field; nothing of nothing."""
    if isinstance(first, Mapping):
        return {name: both(first[name], second[name], dim) for name in first}
    return None if first is None else torch.cat([first, second], dim)


def chosen(x: Tensor | None, some: Tensor | None) -> Any:
    """Of critics [N, ...] some."""
    return x if x is None or some is None else x[some]


def renew(ours: torch.nn.Module, fresh: torch.nn.Module) -> None:
    """Take over weights and statistics, but not those of observations."""
    for mine, new in zip(ours.modules(), fresh.modules(), strict=True):
        if not isinstance(mine, networks.RunningNorm):
            tensors = (*mine.parameters(recurse=False), *mine.buffers(recurse=False))
            for old, its in zip(tensors, (*new.parameters(recurse=False), *new.buffers(recurse=False)), strict=True):
                old.copy_(its)


def taken(output: Tensor, action: Tensor) -> Tensor:
    """Of [N, B, A, K] what belongs to discrete actions [B], [N, B, K]."""
    index = action.reshape(1, -1, 1, 1).expand(len(output), -1, 1, output.shape[-1])
    return output.gather(-2, index).squeeze(-2)


def actor_head(outputs: int) -> HeadSpec:
    """The actor's."""
    return HeadSpec("policy", outputs)


def critic_head(cfg: ActorCriticConfig, env: EnvSpec) -> HeadSpec:
    """The critics': shown an action, or, where actions are discrete, a value for each."""
    own, discrete = cfg.critics, env.num_actions
    return HeadSpec(
        "critic",
        (discrete or 1) * estimate(own).outputs,
        critics=own.count,
        action=None if discrete else env.action_space,
        hidden=None if own.hidden is None else tuple(own.hidden),
        layer_norm=own.layer_norm,
        dropout=own.dropout,
    )


def noisy_actor(kit: Kit, network: Any, policy: Distribution, cfg: ActorCriticConfig, **how: Any) -> NoisyActor:
    """Who plays what an actor [E, A] says, squashed into the bounds, with noise on top."""
    space: Any = kit.env.action_space
    bounds = {"low": space.low, "high": space.high}
    return NoisyActor(networks.Inference(network), policy, kit.rng, cfg.random_steps, noise=cfg.noise, **bounds, **how)


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
