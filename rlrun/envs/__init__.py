"""Environments: how they are made, normalised, saved, and the small ones with known answers."""
