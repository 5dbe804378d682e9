"""Actors and critics that learn from replay: DDPG, TD3, SAC."""
