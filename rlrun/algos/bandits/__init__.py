"""Bandits without context."""
