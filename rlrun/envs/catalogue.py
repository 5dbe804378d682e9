"""Which Gymnasium environment an id means, and what to tell a user whose id, package or argument does not exist."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as GymSpec

from rlrun.custom import import_module
from rlrun.envs import faults
from rlrun.errors import ConfigError, EnvError, RlrunError

T = TypeVar("T")

log = logging.getLogger(__name__)

GYMNASIUM_EXTRAS = {"jax", "torch"}

# part of an entry point -> the extra of rlrun that installs what it needs
EXTRAS = {"box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari", "pixels": "video"}


class Package(NamedTuple):
    """What has to be imported for its ids to be known to Gymnasium."""

    ids: str  # a pattern of their beginnings
    needs: str  # what they are, and what of
    modules: tuple[str, ...]  # the last registers them
    extra: str  # of ours, which installs it


ATARI = Package(r"ALE/|\w+(NoFrameskip|Deterministic)-v", "Atari games need ale-py", ("ale_py",), "atari")
SUITE = Package("dm_control/", "tasks of dm_control need dm-control and shimmy", ("dm_control", "shimmy"), "dm_control")
ROBOTS = Package(
    "Fetch|Hand|AdroitHand|PointMaze|AntMaze|FrankaKitchen",
    "robots and mazes need gymnasium-robotics",
    ("gymnasium_robotics",),
    "robotics",
)


def find(env_id: str) -> GymSpec:
    """The Gymnasium spec of an id; `module:Id` imports the module first.

    An id that works but has a newer version is used, with a hint in the log.

    Raises:
        ConfigError: nothing is registered under it; names the newest version or the nearest ids.
    """
    if env_id in ("", "???"):
        raise ConfigError("env.id", "no environment is chosen", "for instance env=cartpole or env.id=CartPole-v1")
    module, _, name = env_id.rpartition(":")
    if module:
        _import(module)
    elif name not in gym.registry:
        _register(name)
    newest = _newest(name)
    if name not in gym.registry:
        raise ConfigError("env.id", f"there is no environment {name!r}", _nearest(name, newest))
    if newest not in (None, name):
        log.warning("env.id: %s is an old version, the newest is %s", name, newest)
    return gym.registry[name]


def build(spec: GymSpec, make: Callable[[], T]) -> T:
    """Call `make`, with Gymnasium's warnings off and its errors as messages that say what to do."""
    if "mujoco" in str(spec.entry_point):
        _hear_mujoco()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except RlrunError:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise ConfigError("env.id", f"{spec.id} needs a package that is missing", _remedy(spec, error)) from error
    except ImportError as error:
        newest = _newest(spec.id)
        hint = _install(error) if newest in (None, spec.id) else f"its newest version is {newest!r}"
        raise ConfigError("env.id", f"{spec.id} cannot be made: {faults.described(error)}", hint) from error
    except TypeError as error:
        if "argument" not in str(error):
            raise EnvError(f"{spec.id} cannot be made: {faults.described(error)}") from error
        raise ConfigError(
            "env.kwargs", f"{spec.id} refuses them: {faults.shortened(str(error).split(' was raised from')[0])}"
        ) from error
    except BaseException as error:
        if faults.is_ours(error):
            raise
        raise EnvError(f"{spec.id} cannot be made: {faults.described(error)}") from error


def _import(module: str) -> None:
    try:
        import_module(module)
    except BaseException as error:
        if faults.is_ours(error):
            raise
        raise ConfigError(
            "env.id",
            f"importing {module!r} failed: {faults.described(error)}",
            "`module:Id` imports the module that registers Id",
        ) from error


def register_atari() -> None:
    """Have the Atari games registered with Gymnasium; ConfigError if ale-py is missing."""
    ale = _imported(ATARI)
    ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)  # no banner for every game


def _register(env_id: str) -> None:
    """Have ids like this one registered, where it is known who does that; ConfigError if it is missing."""
    for package in (ATARI, SUITE, ROBOTS):
        if re.match(package.ids, env_id):
            register_atari() if package is ATARI else _imported(package)


def _imported(package: Package) -> Any:
    """The module that registers the ids. What importing it warns of, and does to everybody's logging, is undone."""
    handlers = logging.root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(module) for module in package.modules][-1]
    except ImportError as error:
        raise ConfigError("env.id", package.needs, f"pip install 'rlrun[{package.extra}]'") from error
    finally:
        logging.root.handlers[:] = handlers


def _newest(name: str) -> str | None:
    """The registered id with the same name and the highest version."""
    stem = re.sub(r"-v\d+$", "", name)
    versions = [
        int(known[len(stem) + 2 :]) for known in gym.registry if re.fullmatch(re.escape(stem) + r"-v\d+", known)
    ]
    return f"{stem}-v{max(versions)}" if versions else None


def _nearest(name: str, newest: str | None) -> str:
    if newest:
        return f"its newest version is {newest!r}"
    near = difflib.get_close_matches(name, gym.registry, n=3)
    if near:
        return f"did you mean {' or '.join(repr(known) for known in near)}?"
    return "an id of another package is written 'module:Id', where importing the module registers it"


@functools.cache
def _hear_mujoco() -> None:
    """Have MuJoCo's library say every warning once and to us, not for every environment on stderr and into a file."""
    try:
        mujoco: Any = importlib.import_module("mujoco")
    except ImportError:
        return  # making the environment says so
    heard: set[str] = set()

    def hear(text: str) -> None:
        if text not in heard:
            heard.add(text)
            log.warning("MuJoCo: %s", text)

    if hasattr(mujoco, "set_mju_user_warning"):
        mujoco.set_mju_user_warning(hear)


def _install(error: ImportError) -> str:
    """How to install the module that was not found: with Gymnasium's extra, if there is one, or by its name."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    module = error.name.split(".")[0]
    return f"pip install {repr(f'gymnasium[{module}]') if module in GYMNASIUM_EXTRAS else module}"


def _remedy(spec: GymSpec, error: Exception) -> str:
    """How to install what an environment needs: our extra, or what Gymnasium says."""
    extras = (extra for part, extra in EXTRAS.items() if part in str(spec.entry_point))
    return next((f"pip install 'rlrun[{extra}]'" for extra in extras), str(error))
