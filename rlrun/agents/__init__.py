"""Agents: observations -> scores or policies -> actions, batch in, batch out.

For a loop of your own there are, with PTAN's names, action selectors and agents that act by a torch module:

    agent = DQNAgent(net, EpsilonGreedyActionSelector(epsilon=0.1))
    actions, agent_states = agent(observations)
"""

from typing import TYPE_CHECKING

from rlrun.lazy import face

if TYPE_CHECKING:
    from rlrun.agents.agent import Agent as Agent
    from rlrun.agents.base import BaseAgent as BaseAgent
    from rlrun.agents.modules import ActorCriticAgent as ActorCriticAgent
    from rlrun.agents.modules import DQNAgent as DQNAgent
    from rlrun.agents.modules import PolicyAgent as PolicyAgent
    from rlrun.agents.modules import default_states_preprocessor as default_states_preprocessor
    from rlrun.agents.modules import float32_preprocessor as float32_preprocessor
    from rlrun.agents.noise import OrnsteinUhlenbeck as OrnsteinUhlenbeck
    from rlrun.agents.noise import OrnsteinUhlenbeckAgent as OrnsteinUhlenbeckAgent
    from rlrun.agents.selectors import ActionSelector as ActionSelector
    from rlrun.agents.selectors import ArgmaxActionSelector as ArgmaxActionSelector
    from rlrun.agents.selectors import CategoricalActionSelector as CategoricalActionSelector
    from rlrun.agents.selectors import EpsilonGreedyActionSelector as EpsilonGreedyActionSelector
    from rlrun.agents.selectors import ProbabilityActionSelector as ProbabilityActionSelector
    from rlrun.agents.selectors import RandomArgmaxActionSelector as RandomArgmaxActionSelector

_FACE = {
    "ActionSelector": "selectors",
    "ActorCriticAgent": "modules",
    "Agent": "agent",
    "ArgmaxActionSelector": "selectors",
    "BaseAgent": "base",
    "CategoricalActionSelector": "selectors",
    "DQNAgent": "modules",
    "EpsilonGreedyActionSelector": "selectors",
    "OrnsteinUhlenbeck": "noise",
    "OrnsteinUhlenbeckAgent": "noise",
    "PolicyAgent": "modules",
    "ProbabilityActionSelector": "selectors",
    "RandomArgmaxActionSelector": "selectors",
    "default_states_preprocessor": "modules",
    "float32_preprocessor": "modules",
}
__all__ = [*_FACE]
__getattr__, __dir__ = face(__name__, _FACE)
