"""Where tensors live and how the machine is set up for them: device choice, threads, precision, compilation."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch

from rlrun.checks import Bounded, OneOf, Within
from rlrun.compute.allocator import keep_freed
from rlrun.compute.rules import Rule
from rlrun.compute.spread import Alone, SpreadUpdate
from rlrun.compute.update import Follower, LossFn, Update
from rlrun.errors import ConfigError
from rlrun.ops.fields import tensors
from rlrun.registry import register

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

# A graph takes 20-60 CPU seconds to compile, 0.1 to be found again, and saves 0.3-0.5 ms an update on small networks.
COMPILE_PAYS_AFTER = 300_000


@dataclass
class DeviceConfig(Bounded):
    """Hardware and numerics."""

    name: str = "torch"  # registered kind of device
    accelerator: str = "auto"  # auto (a GPU if there is one) | cpu | cuda | cuda:N
    # torch threads; more than 1 helps from about 256-wide layers at batch 256, and for CNNs
    threads: Annotated[int, Within(1, 1024)] = 1
    # true | false | auto: updates as compiled graphs; auto if the run has 300k or more and there is a C++ compiler
    compile: Annotated[str, OneOf("auto", "true", "false")] = "auto"
    # float32 products on a GPU: highest | high (TF32) | medium (bfloat16)
    matmul_precision: Annotated[str, OneOf("highest", "high", "medium")] = "highest"
    deterministic: bool = True  # choose GPU kernels whose results repeat, and warn where there are none

    def __post_init__(self) -> None:
        self.compile = self.compile.lower()
        super().__post_init__()
        if not (self.accelerator in ("auto", "cpu", "cuda") or self.accelerator.removeprefix("cuda:").isdecimal()):
            raise ConfigError("accelerator", f"there is no {self.accelerator!r}", "choose auto, cpu, cuda or cuda:N")


@register("device", DeviceConfig)
class Device:
    """The torch device of a run, and the process set up for it.

    Args:
        group: the ranks that make the run together; each computes on a device of its own.
    """

    def __init__(self, cfg: DeviceConfig | None = None, group: Alone | None = None):
        self.cfg, self.group = cfg or DeviceConfig(), group or Alone()
        self.torch = _own(self.cfg.accelerator, self.group)
        self._on_cpu = self.torch.type == "cpu"
        _set_up(self.cfg, self.torch)

    @property
    def is_cpu(self) -> bool:
        return self._on_cpu

    def update(
        self,
        loss: LossFn,
        nets: nn.Module,
        trains: str | Sequence[str],
        rule: Rule,
        *,
        max_grad_norm: float | None = None,
        followers: Sequence[Follower] = (),
        ahead: int = 0,
        bursts: Sequence[int] = (1,),
    ) -> Update:
        """The update that descends a loss, eager or compiled, with one result up to rounding; on several ranks eager.

        Args:
            loss, nets, trains, rule, max_grad_norm, followers: see `Update`.
            ahead: how many updates the whole run will make; decides `compile=auto`. What happens to be compiled
                already may not: the two ways round differently, and same seed means same bytes.
            bursts: how many updates are made in a row, time and again (see `GraphUpdate`).
        """
        parts: Any = {"max_grad_norm": max_grad_norm, "followers": followers}
        if self.group.size > 1:
            return SpreadUpdate(loss, nets, trains, rule, **parts, group=self.group)
        if not self._compiles(ahead):
            return Update(loss, nets, trains, rule, **parts)
        from rlrun.compute.graph import GraphUpdate  # needs torch as soon as it is imported

        return GraphUpdate(loss, nets, trains, rule, **parts, bursts=bursts, cache=_cache() / "graphs")

    def _compiles(self, ahead: int) -> bool:
        """Whether so many updates are worth a graph, or one is asked for.

        Raises:
            ConfigError: it is asked for where nothing can be compiled.
        """
        able = not self.is_cpu or shutil.which(os.environ.get("CXX", "g++")) is not None
        if self.cfg.compile == "true" and not able:
            raise ConfigError("device.compile", "there is no C++ compiler", "install g++, or write device.compile=auto")
        return self.cfg.compile == "true" or (self.cfg.compile == "auto" and able and ahead >= COMPILE_PAYS_AFTER)

    def tensor(self, array: np.ndarray) -> Any:
        """A tensor, or of an array of records a dict of tensors; one copy each, on the CPU a view."""
        if self._on_cpu and array.dtype.names is None:
            return torch.from_numpy(array)
        return tensors(array, self.torch)


def _choose(accelerator: str) -> torch.device:
    if accelerator == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "auto":
        return torch.device("cuda" if count else "cpu")
    index = int(accelerator.removeprefix("cuda:")) if ":" in accelerator else 0
    if index >= count:
        raise ConfigError(
            "device.accelerator",
            f"{accelerator!r} was asked for, this machine has {count} usable GPUs",
            "use device=auto or device=cpu",
        )
    return torch.device("cuda", index)


def _own(accelerator: str, group: Alone) -> torch.device:
    """The GPU whose number is the rank's among those of its machine, where GPUs are asked for or there are any.

    Raises:
        ConfigError: there are too few, or one is named.
    """
    place = group.place
    if place is None:
        return _choose(accelerator)
    if ":" in accelerator:
        problem = f"{accelerator!r} is one GPU, and there are {place.beside} ranks on this machine"
        raise ConfigError("device.accelerator", problem, "write device=cuda: each rank takes one of its own")
    device = _choose(accelerator)
    if device.type == "cpu":
        return device
    if place.beside > (count := torch.cuda.device_count()):
        problem = f"there are {place.beside} ranks on this machine, which has {count} GPUs"
        raise ConfigError("device.accelerator", problem, f"start {count}, or write device=cpu")
    torch.cuda.set_device(place.local)
    return torch.device("cuda", place.local)


def _set_up(cfg: DeviceConfig, device: torch.device) -> None:
    keep_freed()
    torch.set_num_threads(cfg.threads)
    # Adam's moments of dead ReLU units decay into denormals, on which CPUs are many times slower.
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    strict = cfg.deterministic and device.type == "cuda"
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if strict or torch.are_deterministic_algorithms_enabled():  # switching them off imports the compiler
        torch.use_deterministic_algorithms(strict, warn_only=True)
    # Compiled graphs outlive the run, so that the second run of a kind starts in seconds.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_cache() / "inductor"))
    warnings.filterwarnings("ignore", message=".*TensorFloat32 tensor cores.*")


def _cache() -> Path:
    """The user's folder for what can be made anew; among the temporary files for a user without a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "rlrun"
    try:
        return Path.home() / ".cache" / "rlrun"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"rlrun-{os.getuid()}"
