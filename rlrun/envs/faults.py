"""What to tell the user when an environment does something wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlrun.errors import EnvError
from rlrun.types import Array, Space


def checked_reset(result: Any, space: Space) -> Array:
    """The observation in what `reset` returned; TypeError if it is not as Gymnasium asks or not of its space."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(f"it must return (obs, info), not {type(result).__name__}")
    obs = np.asarray(result[0])
    if obs.shape != space.shape or not np.can_cast(obs.dtype, space.dtype, "same_kind"):
        raise TypeError(f"its space is {space.dtype} {space.shape}, but the observation is {obs.dtype} {obs.shape}")
    return obs


def failure(env_id: str, env: int, seed: int, call: str, error: Exception) -> EnvError:
    """The error of one environment, with what it takes to see it again."""
    return EnvError(f"{env_id}: environment {env} (seed {seed}) failed in {call}\n{type(error).__name__}: {error}")
