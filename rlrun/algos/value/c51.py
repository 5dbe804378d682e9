"""Categorical DQN, "C51": learns the distribution of returns on fixed atoms (Bellemare et al. 2017, arXiv:1707.06887).

With atoms z_0 ... z_{N-1} between v_min and v_max and probabilities p_i(s, a) = softmax over i (algorithm 1):

    m = projection onto the atoms of  r + discount * z  with probabilities p_target(s', a*)
    L = E[ w * -sum over i of m_i log p_i(s, a) ],     a* = argmax over a of sum over i of z_i p_target,i(s', a)

with `double` a* is the online network's. Priorities are KL(m || p), as in Rainbow (Hessel et al. 2018, section 3).
Values beyond the support cannot be learned: `train/clipped_targets` is the share of targets most of whose mass lies
outside, and a run warns when it is high.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from rlrun import networks
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayLearner
from rlrun.algos.value import parts
from rlrun.algos.value.parts import PLAIN, Passes, QConfig, best, taken
from rlrun.checks import Within
from rlrun.compute.update import Aux
from rlrun.errors import ConfigError
from rlrun.ops.categorical import project, support
from rlrun.ops.distributions import softmax
from rlrun.registry import ANY_SPACE, Needs, register
from rlrun.types import Array, Batch, HeadSpec, Metrics, Progress, Rollout, Tensor

log = logging.getLogger(__name__)

LOOK = 100  # updates between two looks at how many they are
OFTEN = 0.01  # share of targets outside of the support from which on it is too narrow


@dataclass
class C51Config(QConfig):
    """Categorical DQN."""

    name: str = "c51"  # registered name of the algorithm
    atoms: Annotated[int, Within(2, 10**4)] = 51  # returns that have a probability, at equal distances
    v_min: Annotated[float, Within(-1e9, 1e9)] = -10.0  # the lowest of them
    # the highest; choose both such that discounted returns lie in between
    v_max: Annotated[float, Within(-1e9, 1e9)] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.v_min < self.v_max:
            raise ConfigError("v_max", f"must be above v_min = {self.v_min:g}, got {self.v_max:g}")


def head(cfg: C51Config, actions: int) -> HeadSpec:
    """Logits of the atoms for every action."""
    return HeadSpec("q", actions * cfg.atoms, atoms=cfg.atoms)


@register(
    "algo",
    C51Config,
    needs=Needs(
        action={"discrete"}, obs=ANY_SPACE, masks=True, memory="replay", recurrent=True, statistics={"obs"}, ranks=True
    ),
    network="mlp",
    smoke={"train_freq": 4, "gradient_steps": 1},
    footprint=parts.footprint(head),
    weights=("q", "q_target.module"),
)
class C51(ReplayLearner):
    """Q-learning of whole distributions of returns (Bellemare et al. 2017)."""

    cfg: C51Config
    state = ("q", "q_target", "warned", *ReplayLearner.state)

    def __init__(self, cfg: C51Config, kit: Kit):
        nets = kit.nets(q=head(cfg, kit.env.num_actions))
        generator = kit.generator if parts.units(nets.q) else None
        super().__init__(cfg, kit, nets, follow={"q_target": "q"}, generator=generator)
        self.masked, self.warned = kit.env.obs_space.masked, False
        self.agent = parts.agent(kit, nets.q, cfg.epsilon, cfg.random_steps, self.expected, spread=cfg.epsilon_spread)

    def expected(self, logits: Array) -> Array:
        """Action values [E, A] of logits [E, A * N]."""
        atoms = np.linspace(self.cfg.v_min, self.cfg.v_max, self.cfg.atoms, dtype=np.float32)
        values: Array = softmax(logits.reshape(-1, self.cfg.atoms)) @ atoms
        return values.reshape(len(logits), -1)

    def draw(self, updates: int, batch_size: int) -> dict[str, Any]:
        return parts.noises(self.nets.q, parts.passes(self.cfg), updates, batch_size, self.generator)

    def loss(self, nets: networks.Nets, batch: Batch, drawn: Passes = PLAIN) -> tuple[Tensor, Aux]:
        """Weighted cross-entropy from the projected target distribution, which gets no gradient."""
        cfg, shape = self.cfg, (-1, self.cfg.atoms)
        outputs, chooser = parts.online(nets.q, batch, drawn, cfg.double)
        logits = taken(outputs.unflatten(-1, shape), batch.action)  # [B, N]
        log_p = logits.log_softmax(-1)
        with torch.no_grad():
            z = support(cfg.v_min, cfg.v_max, cfg.atoms, like=logits)
            next_p = nets.q_target(batch.next_obs, **drawn["target"]).unflatten(-1, shape).softmax(-1)  # [B, A, N]
            chooser = next_p if chooser is None else chooser.unflatten(-1, shape).softmax(-1)
            p = taken(next_p, best((chooser * z).sum(-1), batch.next_obs, self.masked))  # [B, N]
            values = batch.reward.unsqueeze(-1) + batch.discount.unsqueeze(-1) * z
            target = project(p, values, cfg.v_min, cfg.v_max)
        cross_entropy = -(target * log_p).sum(-1)
        loss = (batch.weight * cross_entropy).mean()
        with torch.no_grad():
            step = (cfg.v_max - cfg.v_min) / (cfg.atoms - 1)
            outside = (values < cfg.v_min - 1e-3 * step) | (values > cfg.v_max + 1e-3 * step)
            return loss, {
                "td_error": cross_entropy + torch.xlogy(target, target).sum(-1),
                "q_values": (log_p.exp() * z).sum(-1).mean(),
                "clipped_targets": ((p * outside).sum(-1) > 0.5).float().mean(),
            }

    def learn(self, rollout: Rollout, progress: Progress) -> Metrics:
        before = progress.gradient_steps
        metrics = super().learn(rollout, progress)
        due = not self.warned and progress.gradient_steps // LOOK > before // LOOK
        if due and (share := float(metrics.get("clipped_targets", 0))) > OFTEN:
            self.warned = True
            between = f"algo.v_min={self.cfg.v_min:g} algo.v_max={self.cfg.v_max:g}"
            log.warning("%.0f %% of the targets lie outside of %s: widen the support", 100 * share, between)
        return metrics
