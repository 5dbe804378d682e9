"""What deep Q-networks share: options, passes through a noisy network, and the agent that plays the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch

from rlrun import networks
from rlrun.agents.q import QAgent
from rlrun.algos.algorithm import Kit
from rlrun.algos.learners import ReplayConfig, replay_footprint
from rlrun.checks import Natural, Within, within
from rlrun.footprint import FLOAT, TRAINED, Footprint, Need, Parameters, weights
from rlrun.ops.fields import allowed
from rlrun.schedules import Probability, ScheduleConfig
from rlrun.types import MASK, Array, Batch, EnvSpec, HeadSpec, Tensor

Passes = Mapping[str, Mapping[str, Tensor]]
"""What a network takes beside observations, noise or fractions, in each pass of a loss: the online network (`q`) and
the target network (`target`), the online network that chooses with `double` (`choice`), the target network on the
observation before (`before`). Their noise is not the same (Fortunato et al. 2018, equation 12)."""
PLAIN: Passes = {"q": {}, "target": {}, "choice": {}, "before": {}}


def falling() -> ScheduleConfig:
    """The exploration of Mnih et al. 2015, over a tenth of the run."""
    return ScheduleConfig("linear", start=1.0, end=0.05, fraction=0.1)


@dataclass
class QConfig(ReplayConfig):
    """Options of every deep Q-network that learns from replay."""

    double: bool = False  # the online network chooses the next action, the target network evaluates it
    # probability of a random action; falls from the first env step on, also before learning_starts. A noisy network
    # explores by its noise: with one it is 0, unless another value is set
    epsilon: Probability = field(default_factory=falling)
    # environment i of N explores with epsilon^(1 + this * i / (N - 1)): 0.4 and 7 in Ape-X; 0: as much in all
    epsilon_spread: Annotated[float, Within(0, 100)] = 0.0
    # with a network that remembers: steps that gradients flow back through, at most
    sequence_length: Annotated[int, Within(1, 10**7)] = 16
    burn_in: Natural = 0  # with a network that remembers: steps before a sequence that bring its memory up to date

    def __post_init__(self) -> None:
        super().__post_init__()
        within("burn_in", self.burn_in, 0, self.sequence_length)


def passes(cfg: QConfig) -> Sequence[str]:
    """The passes through networks that a loss makes."""
    named = {"q": True, "target": True, "choice": cfg.double, "before": getattr(cfg, "munchausen", False)}
    return [name for name, made in named.items() if made]


def noises(network: Any, names: Sequence[str], updates: int, batch_size: int, generator: Any) -> dict[str, Any]:
    """Noise for so many updates, by pass; {} for a network without."""
    if not units(network):
        return {}
    return {name: {"noise": network.noise(updates, batch_size, generator)} for name in names}


def units(network: Any) -> int:
    """How many numbers of noise a pass through a network takes."""
    return getattr(network, "units", 0)


def agent(
    kit: Kit,
    network: Any,
    epsilon: ScheduleConfig,
    random_steps: int = 0,
    expected: Callable[[Array], Array] | None = None,
    records: bool = False,
    spread: float = 0.0,
) -> QAgent:
    """Who plays by the network: the best of its values, or of their means `expected` (see `QAgent`).

    Args:
        epsilon: probability of a random action; 0 for a noisy network, if it is the default.
        random_steps: env steps at the start during which every action is random.
        spread: how much less the last environment explores than the first.
    """
    if units(network) and epsilon == falling():
        epsilon = ScheduleConfig("constant", start=0.0)
    explorer = kit.explorer(epsilon, random_steps, spread=spread)
    return QAgent(networks.Inference(network), explorer, kit.env.num_actions, expected, records)


def online(network: Any, batch: Batch, drawn: Passes, chooses: bool) -> tuple[Tensor, Tensor | None]:
    """What the network says of a batch's observations; and, if it chooses next actions, of those that came next.

    A network that remembers comes by both on its one way along a sequence. The latter have no gradient.
    """
    if not chooses:
        return network(batch.obs, **drawn["q"]), None
    if getattr(network, "memory_size", 0):
        sequences: Any = batch.obs
        place = torch.cat((sequences["place"], batch.next_obs["place"]))
        now, then = network({**sequences, "place": place}).chunk(2)
        return now, then.detach()
    now = network(batch.obs, **drawn["q"])
    with torch.no_grad():
        return now, network(batch.next_obs, **drawn["choice"])


def best(values: Tensor, obs: Any, masked: bool) -> Tensor:
    """The action [B] with the highest of the values [B, A], among those that can be taken."""
    return allowed(values, obs[MASK] if masked else None).argmax(-1)


def taken(values: Tensor, action: Tensor) -> Tensor:
    """Of values [B, A, N], the N numbers [B, N] of an action [B]."""
    return values.gather(-2, action.reshape(-1, 1, 1).expand(-1, 1, values.shape[-1])).squeeze(-2)


def footprint(head: Callable[[Any, int], HeadSpec], pairs: Callable[[Any], int] | None = None) -> Footprint:
    """A network, its target network, and what is learned from.

    Args:
        head: the network's, of the config and the number of actions.
        pairs: of a value's quantiles and samples of its target, of the config; every transition of a batch has as many.
    """

    def own(cfg: Any, env: EnvSpec, parameters: Parameters) -> list[Need]:
        needs = [weights(parameters(head(cfg, env.num_actions)), TRAINED + 1)]
        if carried := parameters.memory(head(cfg, env.num_actions)):
            each = FLOAT * (carried + 1)  # and how old the episode was
            what = f"what was remembered at {parameters.stored:,} steps"
            needs.append(Need("buffer.capacity", each * parameters.stored, what, each))
        if pairs is not None:
            each = 5 * FLOAT * pairs(cfg)  # differences, errors, their sides, and what a gradient keeps of them
            what = f"the errors of {pairs(cfg):,} pairs of quantiles in {cfg.batch_size:,} transitions"
            needs.append(Need("algo.batch_size", each * cfg.batch_size, what, each, on_device=True))
        return needs

    return replay_footprint(own)
