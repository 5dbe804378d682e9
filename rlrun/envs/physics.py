"""MuJoCo's part of an environment's state: what moves (an MjData), what that is made of (an MjModel), and both in an
environment of dm_control's.

What the engine goes on from is its integration state: time, positions, velocities, activations, controls, forces from
outside and the solver's warm start. Environments look at more, such as the places of bodies, which were computed at the
beginning of the last substep and so are older than the positions. That is saved beside, and put back at the end.
"""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

import numpy as np

from rlrun.types import Array, StateDict

MOVES, MADE_OF, SUITE = "mujoco data", "mujoco model", "dm_control"
KINDS = {
    ("mujoco", "MjData"): MOVES,
    ("mujoco", "MjModel"): MADE_OF,
    ("dm_control", "Environment"): SUITE,
}

STATIC = (
    "gymnasium.envs.mujoco.mujoco_rendering",
    "gymnasium_robotics.utils.mujoco_utils",
    "shimmy.dm_control_compatibility",
    "dm_control.rl.control",
)

# What an environment may read of an MjData: floating-point arrays whose sizes the model fixes.
COMPUTED = (
    "xpos xquat xmat xipos ximat xanchor xaxis geom_xpos geom_xmat site_xpos site_xmat cam_xpos cam_xmat light_xpos "
    "light_xdir subtree_com subtree_linvel subtree_angmom cdof cdof_dot cinert crb cvel cacc cfrc_int cfrc_ext "
    "ten_length ten_velocity actuator_length actuator_velocity actuator_force act_dot qacc qacc_smooth qfrc_bias "
    "qfrc_passive qfrc_spring qfrc_damper qfrc_gravcomp qfrc_fluid qfrc_actuator qfrc_smooth qfrc_constraint "
    "qfrc_inverse sensordata energy"
).split()

# What of an MjModel someone may change between two steps: properties, places, a terrain; not the shapes of bodies.
PARTS = ("body_", "jnt_", "dof_", "geom_", "site_", "cam_", "light_", "tendon_", "actuator_", "eq_", "hfield_", "qpos")


def kind(value: Any) -> str:
    """MOVES, MADE_OF or SUITE if it is MuJoCo's or dm_control's; "" for anything else."""
    cls = type(value)
    return KINDS.get((cls.__module__.partition(".")[0], cls.__name__), "")


def is_static(value: Any) -> bool:
    """Whether it only draws what moves, only names the parts of a model, or is but another mention of a known one."""
    return type(value).__module__.startswith(STATIC)


def fingerprint(model: Any) -> bytes:
    """A digest of an MjModel that changes with any property of it."""
    mujoco: Any = importlib.import_module("mujoco")
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.blake2b(content.tobytes()).digest()


def capture(value: Any) -> StateDict:
    """One of these kinds as plain data."""
    if kind(value) == SUITE:
        return {"type": SUITE} | _capture_suite(value)
    if kind(value) == MADE_OF:
        numbers = _joined(_properties(value))
        return {"type": MADE_OF, "numbers": numbers, "options": [getattr(value.opt, name) for name in _options(value)]}
    mujoco: Any = importlib.import_module("mujoco")
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    numbers = np.empty(mujoco.mj_stateSize(value.model, spec))
    mujoco.mj_getState(value.model, value, numbers, spec)
    return {"type": MOVES, "numbers": numbers, "computed": _joined(_computed(value))}


def restore(value: Any, state: StateDict) -> None:
    """Put what was captured into another of the same kind; ValueError, TypeError or KeyError if it does not fit."""
    if kind(value) == SUITE:
        _restore_suite(value, state)
        return
    if kind(value) == MADE_OF:
        _put(_properties(value), state["numbers"])
        for name, option in zip(_options(value), state["options"], strict=True):
            setattr(value.opt, name, option)
        return
    mujoco: Any = importlib.import_module("mujoco")
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(value.model, value, state["numbers"], spec)
    mujoco.mj_forward(value.model, value)  # contacts, and all else that is there between two steps
    mujoco.mj_setState(value.model, value, state["numbers"], spec)  # with the warm start that it had
    _put(_computed(value), state["computed"])


def _capture_suite(env: Any) -> StateDict:
    """Physics, the numbers that the task keeps, its random stream, and where in the episode it stands."""
    physics, task = env._physics, env._task
    return {
        "data": capture(physics.data.ptr),
        "model": capture(physics.model.ptr),
        "task": {name: value for name, value in vars(task).items() if type(value) in (bool, int, float)},
        "random": list(task.random.get_state()),
        "steps": env._step_count,
        "over": env._reset_next_step,
    }


def _restore_suite(env: Any, state: StateDict) -> None:
    restore(env._physics.model.ptr, state["model"])
    restore(env._physics.data.ptr, state["data"])
    vars(env._task).update(state["task"])
    env._task.random.set_state(tuple(state["random"]))
    env._step_count, env._reset_next_step = state["steps"], state["over"]


def _computed(data: Any) -> list[Array]:
    return [getattr(data, name) for name in COMPUTED if hasattr(data, name)]


def _properties(model: Any) -> list[Array]:
    of_parts = (getattr(model, name) for name in sorted(dir(model)) if name.startswith(PARTS))
    of_world = (getattr(model.opt, name) for name in sorted(dir(model.opt)))
    return [values for values in (*of_parts, *of_world) if isinstance(values, np.ndarray)]


def _options(model: Any) -> list[str]:
    return [name for name in sorted(dir(model.opt)) if type(getattr(model.opt, name)) in (int, float)]


def _joined(arrays: list[Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays])


def _put(arrays: list[Array], numbers: Array) -> None:
    parts = np.split(numbers, np.cumsum([array.size for array in arrays]))
    if len(parts.pop()):
        raise ValueError("it is of another model")
    for array, part in zip(arrays, parts, strict=True):
        array[...] = part.reshape(array.shape)
