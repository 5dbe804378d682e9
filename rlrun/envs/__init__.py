"""Environments: how they are made, normalised, saved, and the small ones with known answers."""

from rlrun.envs import bandits, gridworlds, make, toy

__all__ = ["bandits", "gridworlds", "make", "toy"]
