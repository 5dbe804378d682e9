"""Bandits with context."""
