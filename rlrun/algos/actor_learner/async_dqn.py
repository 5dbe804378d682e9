"""Asynchronous n-step Q-learning (Mnih et al. 2016, arXiv:1602.01783, algorithm S2).

Of the steps of a trajectory, with R_t = r_t + gamma r_{t+1} + ... to its end and Q_target(s, a*) of what follows there,

    L = sum h( R_t - Q(s_t, a_t) ),   h = Huber or squared error

so that the first step is learned from n rewards, and each that follows from one fewer. a* maximises Q_target(s, .);
with `double` it maximises Q(s, .) (van Hasselt et al. 2016, arXiv:1509.06461). Nothing corrects for random actions in
between, as in the paper.

    asynchronous=true    every actor takes this gradient at its own weights, of all that it has just done, and sends it;
                         it is applied to the shared weights as it arrives, as in the paper
    asynchronous=false   actors send what they did, and the learner takes the gradient of `batch_rollouts` trajectories

Where there are no actors (`experience=rollouts`) it is the second in any case. Actors explore with epsilons of their
own by `epsilon_spread`; the paper draws the epsilon that each ends with. Differs from the paper besides: means in place
of sums unless `reduction=sum`, Adam unless `optimizer=rmsprop`, the target network is copied every so many updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.agents.q import QAgent
from rlrun.algos.actor_learner import trajectories
from rlrun.algos.actor_learner.trajectories import TrajectoryConfig, TrajectoryLearner, now, outputs, then
from rlrun.algos.algorithm import Kit
from rlrun.algos.value import parts
from rlrun.algos.value.parts import best
from rlrun.buffers.trajectories import Batch
from rlrun.checks import Count, OneOf, Within
from rlrun.compute.update import Aux
from rlrun.footprint import TRAINED, Need, Parameters, weights
from rlrun.networks.target import TargetNet
from rlrun.ops.fields import leaves, rows
from rlrun.ops.losses import LOSSES, gather
from rlrun.ops.offpolicy import bootstrapped
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.schedules import Probability
from rlrun.types import EnvSpec, HeadSpec, Progress, Tensor


@dataclass
class AsyncDQNConfig(TrajectoryConfig):
    """Asynchronous n-step Q-learning."""

    name: str = "async_dqn"  # registered name of the algorithm
    asynchronous: bool = True  # actors send gradients at their own weights; false: what they did, in batches
    loss: Annotated[str, OneOf(*LOSSES)] = "huber"  # huber | mse
    double: bool = True  # the online network chooses the action behind a trajectory, the target network evaluates it
    sync_interval: Count = 1000  # updates between two copies into the target network
    # probability of a random action; it falls by the env steps of all environments of all actors. A noisy network
    # explores by its noise: with one it is 0, unless another value is set
    epsilon: Probability = field(default_factory=parts.falling)
    # environment i of N explores with epsilon^(1 + this * i / (N - 1)): 0.4 and 7 in Ape-X; 0: as much in all
    epsilon_spread: Annotated[float, Within(0, 100)] = 0.0


def footprint(cfg: AsyncDQNConfig, env: EnvSpec, parameters: Parameters) -> list[Need]:
    """The network, its target network, and the trajectories."""
    network = parameters(HeadSpec("q", env.num_actions))
    return [weights(network, TRAINED + 1), *trajectories.footprint(cfg, env, recorded=0)]


@register(
    "algo",
    AsyncDQNConfig,
    needs=Needs(action={"discrete"}, obs=ANY_SPACE, masks=True, recurrent=True, ranks=True),
    network="mlp",
    footprint=footprint,
    weights=("q", "q_target.module"),
)
class AsyncDQN(TrajectoryLearner):
    """Q-learning of n steps whose actors send gradients (Mnih et al. 2016)."""

    agent: QAgent
    cfg: AsyncDQNConfig
    state = ("q", "q_target", *TrajectoryLearner.state)
    gradient_aux = ("loss", "q_values")

    def __init__(self, cfg: AsyncDQNConfig, kit: Kit):
        nets = kit.nets(q=HeadSpec("q", kit.env.num_actions))
        self.q, self.q_target = nets.q, TargetNet(nets.q, interval=cfg.sync_interval)
        nets.q_target = self.q_target.module
        super().__init__(cfg, kit, nets, trains="q", asynchronous=cfg.asynchronous)
        self.error: Callable[..., Tensor] = getattr(torch.nn.functional, LOSSES[cfg.loss])
        self.agent = parts.agent(kit, nets.q, cfg.epsilon, spread=cfg.epsilon_spread)

    @property
    def published(self) -> Any:
        """Gradients take the target network as well."""
        return self.nets if self.sends == "gradients" else self.q

    def before_update(self, progress: Progress) -> None:
        self.q_target.sync(progress.gradient_steps)

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """With noise, for a network that takes some: of the online and of the target network."""
        found = super().tensors(batch)
        if units := parts.units(self.q):
            every = len(leaves(found["obs"])[0])
            for name, count in (("noise", every), ("target_noise", every - found["reward"].numel())):
                shape = (count, units) if self.q.noise_per_row else (units,)
                found[name] = self.device.tensor(self.agent.rng.standard_normal(shape, np.float32))
        return found

    def loss(self, nets: networks.Nets, batch: Mapping[str, Any]) -> tuple[Tensor, Aux]:
        """The objective above on a batch of trajectories; targets get no gradient."""
        values = outputs(nets.q, batch)  # [R, A]
        value = gather(now(values, batch), batch["action"]).view(batch["reward"].shape)
        with torch.no_grad():
            steps = value.numel()
            target = self.behind(nets.q_target, batch, steps)  # [R - T B, A]
            chooser = values[steps:] if self.cfg.double else target
            action = best(chooser, rows(batch["obs"], slice(steps, None)), self.masked)
            next_value = then(torch.cat([values.new_zeros(steps), gather(target, action)]), batch)
            returns = bootstrapped(batch["reward"], batch["discount"], next_value, batch["ended"])
        loss = self.reduced(self.error(value, returns, reduction="none"))
        return loss, {"q_values": value.mean()}

    def behind(self, network: Any, batch: Mapping[str, Any], steps: int) -> Tensor:
        """What a network says of the rows behind those that steps began with, which is all that targets take of it."""
        if "memory" in batch:
            said: Tensor = networks.unrolled(network, batch)[steps:]
            return said
        noise = {"noise": batch["target_noise"]} if "target_noise" in batch else {}
        return network(rows(batch["obs"], slice(steps, None)), **noise)
