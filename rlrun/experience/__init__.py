"""Where experience comes from: sources that let an agent act in environments.

The runner's is `rollouts`. For a loop of your own there are PTAN's, with PTAN's names:

    for piece in ExperienceSourceFirstLast(gym.make("CartPole-v1"), agent, gamma=0.99, steps_count=3):
        ...

Where things are that PTAN's users know:

    ptan.actions, ptan.agent            rlrun.agents
    ptan.agent.TargetNet                rlrun.networks.TargetNet
    ptan.experience                     rlrun.experience
    ptan.common.utils: the trackers     rlrun.experience
    ptan.ignite                         rlrun.experience.ignite

and what is otherwise: environments are Gymnasium's; a time limit is no death (`last_state` is None only where the MDP
ended, and `discount` is gamma^m or 0); environments are seeded once and not at every reset; whatever draws takes a
generator; a buffer that holds fewer items than a batch says so; the newest item can be drawn by its priority; and
averaged targets go by tau, the share of the new weights.
"""

from typing import TYPE_CHECKING

from rlrun.lazy import face

if TYPE_CHECKING:
    from rlrun.experience.pieces import Experience as Experience
    from rlrun.experience.pieces import ExperienceFirstLast as ExperienceFirstLast
    from rlrun.experience.pieces import RolloutBatch as RolloutBatch
    from rlrun.experience.pieces import unpack_batch as unpack_batch
    from rlrun.experience.replay import ExperienceReplayBuffer as ExperienceReplayBuffer
    from rlrun.experience.replay import ExperienceSourceBuffer as ExperienceSourceBuffer
    from rlrun.experience.replay import PrioritizedReplayBuffer as PrioritizedReplayBuffer
    from rlrun.experience.sources import ExperienceSource as ExperienceSource
    from rlrun.experience.sources import ExperienceSourceFirstLast as ExperienceSourceFirstLast
    from rlrun.experience.sources import ExperienceSourceRollouts as ExperienceSourceRollouts
    from rlrun.experience.trackers import RewardTracker as RewardTracker
    from rlrun.experience.trackers import TBMeanTracker as TBMeanTracker

_FACE = {
    "Experience": "pieces",
    "ExperienceFirstLast": "pieces",
    "ExperienceReplayBuffer": "replay",
    "ExperienceSource": "sources",
    "ExperienceSourceBuffer": "replay",
    "ExperienceSourceFirstLast": "sources",
    "ExperienceSourceRollouts": "sources",
    "PrioritizedReplayBuffer": "replay",
    "RewardTracker": "trackers",
    "RolloutBatch": "pieces",
    "TBMeanTracker": "trackers",
    "unpack_batch": "pieces",
}
__all__ = [*_FACE]
__getattr__, __dir__ = face(__name__, _FACE)
