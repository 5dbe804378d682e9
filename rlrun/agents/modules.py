"""Agents for a loop of one's own: a torch module says what actions are worth, or how likely, and a selector takes one.

    net = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))
    agent = DQNAgent(net, EpsilonGreedyActionSelector(epsilon=0.1))
    actions, agent_states = agent(observations)      # [E, 4] -> [E], and a list of E times None

The names are PTAN's. The runner's own agents (`q`, `policy`) call networks as functions on arrays, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rlrun.agents.agent import NOTHING
from rlrun.agents.base import BaseAgent
from rlrun.agents.selectors import ActionSelector, ArgmaxActionSelector, ProbabilityActionSelector
from rlrun.ops.fields import mapped, tensors
from rlrun.types import Array

if TYPE_CHECKING:
    from torch import Tensor

Preprocessor = Callable[[Any], Any]  # observations, one for each environment -> what the module takes


def default_states_preprocessor(states: Any) -> Any:
    """Observations [E, *obs], or a list of E, as one tensor; of a Dict space a dict of tensors.

    Tensors are left as they are, and so are whole numbers: pixels stay bytes. What is finer than torch's default, such
    as the float64 that NumPy makes of everything, becomes that default: the one that modules are made of.
    """
    if isinstance(states, torch.Tensor):
        return states
    array = np.asarray(states)
    if array.dtype.kind == "f":
        array = array.astype(str(torch.get_default_dtype()).removeprefix("torch."))
    return tensors(np.ascontiguousarray(array))


def float32_preprocessor(states: Any) -> Tensor:
    """Observations [E, *obs], or a list of E, as one tensor of float32."""
    return torch.as_tensor(np.asarray(states, np.float32))


class Forward:
    """A module as a function of observations [E, *obs]: preprocessed, sent to its device, and without a graph.

    Args:
        model: called with what `preprocessor` makes of the observations.
        device: where they are sent; the module is there already.
        preprocessor: None hands the observations to the module as they are.
    """

    def __init__(self, model: Callable[[Any], Any], device: str | torch.device, preprocessor: Preprocessor | None):
        self.model, self.device, self.preprocessor = model, torch.device(device), preprocessor

    def __call__(self, states: Any) -> Any:
        if self.preprocessor is not None:
            states = mapped(lambda tensor: tensor.to(self.device), self.preprocessor(states))
        with torch.no_grad():
            return self.model(states)


class _SelectingAgent(BaseAgent):
    """What the three share: a module, a selector, and the best action where nobody wants to explore.

    Args:
        action_selector: takes an action for each row of what the module says.
        device, preprocessor: see Forward.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        action_selector: ActionSelector,
        device: str | torch.device = "cpu",
        preprocessor: Preprocessor | None = default_states_preprocessor,
    ):
        self.network, self.action_selector = model, action_selector
        self._forward = Forward(model, device, preprocessor)

    def __call__(self, states: Any, agent_states: Sequence[Any] | None = None) -> tuple[Array, Sequence[Any] | None]:
        actions = self.action_selector(self.scores(states), self.env_steps)
        return actions, [None] * len(actions) if agent_states is None else agent_states

    def act(
        self, obs: Array, memory: Array | None, *, explore: bool, env_steps: int
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        if explore:
            return super().act(obs, memory, explore=True, env_steps=env_steps)
        return ArgmaxActionSelector()(self.scores(obs)), memory, NOTHING

    def scores(self, states: Any) -> Array:
        """What the selector sees of observations [E, *obs]: [E, A]."""
        return as_numpy(self._forward(states))


class DQNAgent(_SelectingAgent):
    """Chooses by action values: `dqn_model` gives [E, A]."""

    def __init__(
        self,
        dqn_model: Callable[[Any], Tensor],
        action_selector: ActionSelector,
        device: str | torch.device = "cpu",
        preprocessor: Preprocessor | None = default_states_preprocessor,
    ):
        super().__init__(dqn_model, action_selector, device, preprocessor)
        self.dqn_model = dqn_model


class PolicyAgent(_SelectingAgent):
    """Samples a policy over discrete actions: `model` gives probabilities [E, A], or logits.

    Args:
        action_selector: ProbabilityActionSelector by default, which refuses what is no distribution; for logits set
            `apply_softmax`, or leave it and select with CategoricalActionSelector.
        apply_softmax: what the module gives are logits.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        action_selector: ActionSelector | None = None,
        device: str | torch.device = "cpu",
        apply_softmax: bool = False,
        preprocessor: Preprocessor | None = default_states_preprocessor,
    ):
        super().__init__(model, action_selector or ProbabilityActionSelector(), device, preprocessor)
        self.model, self.apply_softmax = model, apply_softmax

    def scores(self, states: Any) -> Array:
        return self._selectable(self._forward(states))

    def _selectable(self, output: Tensor) -> Array:
        return as_numpy(output.softmax(1) if self.apply_softmax else output)


class ActorCriticAgent(PolicyAgent):
    """Samples a policy and tells what states are worth: `model` gives a pair, policy [E, A] and value [E] or [E, 1].

    The values are the agent's states, as ExperienceSourceRollouts wants them.
    """

    def __call__(self, states: Any, agent_states: Sequence[Any] | None = None) -> tuple[Array, Sequence[float]]:
        output, value = self._forward(states)
        return self.action_selector(self._selectable(output), self.env_steps), value.reshape(-1).tolist()

    def scores(self, states: Any) -> Array:
        return self._selectable(self._forward(states)[0])

    def value(self, obs: Array, memory: Array | None = None) -> Array:
        """State values float32 [E] of observations [E, *obs]; nothing is drawn."""
        return as_numpy(self._forward(obs)[1].reshape(-1))


def as_numpy(tensor: Tensor) -> Array:
    """float32, on the CPU."""
    return tensor.detach().float().cpu().numpy()
