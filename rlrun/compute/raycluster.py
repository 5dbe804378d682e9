"""The connection to a Ray cluster, which sweeps and actors on other machines share."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

from rlrun.errors import ConfigError, RlrunError, described
from rlrun.interrupt import SIGNALS

EXTRA = "get it with `pip install 'rlrun[ray]'`"


@contextmanager
def connected(address: str, key: str, cpus: int | None = None) -> Iterator[ModuleType]:
    """Ray, connected to a cluster while this is open. One that this process is connected to already stays so.

    Args:
        address: `HOST:PORT` or `ray://HOST:PORT` of a cluster; `local`: one of this process's own, on this machine,
            that ends with it; `auto`: the cluster that this machine belongs to, or else `local`.
        key: what asked for Ray, for messages: `sweep.cluster`, or a group whose `address` this is.
        cpus: of a local cluster, how many it deals out; None = as many as there are.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(key, "needs Ray, which is not installed", EXTRA) from error
    if ray.is_initialized():
        yield ray
        return
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}  # Ray takes SIGTERM for itself
    try:
        _connect(ray, address, cpus)
    except RlrunError:  # of a signal
        raise
    except Exception as error:  # of many kinds
        ray.shutdown()  # what has been started of a cluster of its own
        problem = "Ray does not start"
        if address not in ("auto", "local"):
            key, problem = f"{key.partition('.')[0]}.address", f"there is no Ray cluster at {address}"
        raise ConfigError(key, f"{problem}: {described(error)}", "`ray status` says whether one runs") from error
    finally:
        _restore(handlers)
    try:
        yield ray
    finally:
        ray.shutdown()
        _restore(handlers)


def _connect(ray: ModuleType, address: str, cpus: int | None) -> None:
    quiet = {"configure_logging": False, "log_to_driver": False}
    if address == "auto":
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            address = "local"
        else:
            return
    own = {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
    ray.init(address=address, **own, **quiet)


def _restore(handlers: Mapping[signal.Signals, object]) -> None:
    for signum, handler in handlers.items():
        if signal.getsignal(signum) is not handler:
            signal.signal(signum, handler)  # type: ignore[arg-type]
