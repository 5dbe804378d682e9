"""Bandits: one-step environments that tell of regret."""
