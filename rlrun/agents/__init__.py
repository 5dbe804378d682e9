"""Agents: scores or policies -> actions, all numpy."""
