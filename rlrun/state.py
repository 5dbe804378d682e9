"""State, declared once: a class names the attributes that a checkpoint holds of it.

    class Sarsa(ControlLearner):
        state = (*ControlLearner.state, "traces", "waiting")

Saving and putting back go by the kind of the attribute. What has a state of its own, arrays, tensors and random
generators are put back in place, so that whoever shares them sees it; plain data is replaced. A class writes
`state_dict` and `load_state_dict` by hand only where more happens than that.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from rlrun.types import StateDict


class Stateful:
    """Base: the attributes named in `state` are what is saved, and put back in that order.

    An entry goes by the attribute's name without a leading underscore; an instance that has more of it names more.
    `scratch` names what changes, too, but is written before it is read: it is not saved.
    """

    state: tuple[str, ...] = ()
    scratch: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> StateDict:
        """The state as nested plain data and arrays.

        Raises:
            TypeError: an attribute is of no kind that can be saved; names it.
        """
        return {_key(name): self._named(name, saved, getattr(self, name)) for name in self.state}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from a state.

        Raises:
            KeyError: it has no entry for an attribute.
            ValueError: an array or tensor was saved in another shape; names the attribute.
        """
        for name in self.state:
            setattr(self, name, self._named(name, put_back, getattr(self, name), state[_key(name)]))

    def _named(self, name: str, do: Callable[..., Any], *args: Any) -> Any:
        try:
            return do(*args)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{type(self).__name__}.{name}: {error}") from error


def _key(name: str) -> str:
    return name.lstrip("_")


def saved(value: Any) -> Any:
    """What a checkpoint holds of a value; TypeError if it is of no kind that has a state.

    It shares no memory with the value, but for what modules return as theirs.
    """
    torch = sys.modules.get("torch")  # where torch was never imported, nothing is a tensor
    if hasattr(value, "load_state_dict"):
        return value.state_dict()
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.random.Generator):
        return generator_state(value)
    if isinstance(value, Mapping):
        return {key: saved(item) for key, item in value.items()}
    if isinstance(value, list | deque):
        return [saved(item) for item in value]
    if type(value) is tuple:
        return tuple(saved(item) for item in value)
    if torch and isinstance(value, torch.Tensor):
        return value.detach().clone()
    if torch and isinstance(value, torch.Generator):
        return value.get_state()
    raise TypeError(f"a {type(value).__qualname__} has no state")


def put_back(value: Any, state: Any) -> Any:
    """What a value becomes that goes on from a state: itself, changed in place, or a copy of plain data."""
    torch = sys.modules.get("torch")
    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
    elif isinstance(value, np.ndarray):
        overwrite(value, state)
    elif isinstance(value, np.random.Generator):
        restore_generator(value, state)
    elif torch and isinstance(value, torch.Tensor):
        if value.shape != state.shape:
            raise ValueError(f"a tensor of shape {tuple(state.shape)} was saved, expected {tuple(value.shape)}")
        with torch.no_grad():
            value.copy_(state)
    elif torch and isinstance(value, torch.Generator):
        value.set_state(state)
    elif isinstance(value, deque):
        value.clear()
        value.extend(state)
    elif _is_plain(value):
        return saved(state)
    elif isinstance(value, dict):
        value.update({key: put_back(item, state[key]) for key, item in value.items()})
    else:
        return type(value)(put_back(item, entry) for item, entry in zip(value, state, strict=True))
    return value


def _is_plain(value: Any) -> bool:
    """Whether a value is data, all through, that nobody shares."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def overwrite(array: np.ndarray, state: np.ndarray) -> None:
    """`array[...] = state` without broadcasting; ValueError if the saved one is of another shape."""
    if array.shape != np.shape(state):
        raise ValueError(f"an array of shape {np.shape(state)} was saved, expected {array.shape}")
    array[...] = state


def generator_state(rng: np.random.Generator) -> StateDict:
    """A generator's position as plain data."""
    return dict(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: StateDict) -> None:
    """Put a generator back to a saved position."""
    rng.bit_generator.state = state
