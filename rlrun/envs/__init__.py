"""Environments: how they are made, normalised, saved, and the small ones with known answers."""

from rlrun.envs import bandits, make, toy

__all__ = ["bandits", "make", "toy"]
