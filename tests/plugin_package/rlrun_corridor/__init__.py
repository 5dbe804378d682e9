"""A plug-in for rlrun. Importing it registers an environment, a network and an algorithm; `conf/` says more of some."""

import gymnasium

from rlrun_corridor import hill_climbing, linear

__all__ = ["hill_climbing", "linear"]

gymnasium.register("Corridor-v0", entry_point="rlrun_corridor.corridor:Corridor", max_episode_steps=40)
