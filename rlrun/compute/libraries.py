"""Functions of tensors as shared libraries: compiled ahead of time, kept, and found by what they compute.

A library is named by a hash of all that determines it: the operations of its function in order, with the shapes of
their tensors and the values of their constants, the versions of torch and of this room, threads and processor. Another
loss, width or option is another name, and nothing needs to be told or guarded. To find a library, its function runs
once on copies of the tensors while its operations are listened to: some milliseconds, in which the compiler is not even
imported.

The libraries lie in the user's own cache folder, where torch keeps its own; one that others may write to is not used.
The 200 that were used last are kept, half a gigabyte at most.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlrun.errors import ConfigError
from rlrun.files import remove, sync
from rlrun.types import Tensor

log = logging.getLogger(__name__)

Function = Callable[..., list[Tensor]]  # of tensors; changes some of them in place
Call = Callable[[list[Tensor]], Sequence[Tensor]]
LIBRARY = "graph.so"
NAME = 40  # characters of a library's name
KEPT = 200  # libraries, of some 2 MB each
OPTIONS = {"size_asserts": False, "alignment_asserts": False}


def load_or_compile(
    function: Function, kept: Sequence[Tensor], one: Sequence[Tensor], inputs: Sequence[Tensor], cache: Path
) -> Call:
    """A function as one compiled call, on tensors of the same shapes, strides and types as `kept` and `inputs`.

    Args:
        function: called with kept tensors and inputs, it repeats for every row of them what it does with `one`.
        kept: the first of its arguments, the same objects in every call; some of them it changes in place.
        one: inputs of a single row: enough to know the function by, and quicker to listen to.
        inputs: the inputs of a call.
        cache: folder of the libraries; made if it is not there.
    """
    if kept[0].is_cuda:
        return _on_gpu(function, kept, inputs)
    one, inputs = [*kept, *one], [*kept, *inputs]
    private, place = _private(cache), cache / _name(function, one, inputs)
    if private and place.exists():
        try:
            call = _load(place)
        except RuntimeError as error:  # half of one, after a power cut
            log.warning("%s cannot be loaded and is made anew: %s", place, str(error).split("\n")[0])
            shutil.rmtree(place, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):  # another process makes room
                os.utime(place)
            return call
    with tempfile.TemporaryDirectory(dir=cache if private else None) as work:
        made = Path(work) / place.name
        try:
            _compile(function, inputs, made)
        except Exception as error:
            problem = f"the update cannot be compiled: {type(error).__name__}: {str(error).strip()}".splitlines()[0]
            raise ConfigError("device.compile", problem, "write device.compile=false") from error
        if private:
            with suppress(OSError):  # another process was quicker
                made = made.rename(place)
            _make_room(cache)
        return _load(made)


def _make_room(cache: Path) -> None:
    """Remove the libraries that were not used for longest. A process that has one loaded keeps it, as files are kept
    that are open; one that comes for it makes it anew."""
    last_used = []
    for folder in cache.iterdir():
        with suppress(FileNotFoundError):  # another process makes room, too
            if len(folder.name) == NAME:  # the others are being made
                last_used.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(last_used, reverse=True)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _name(function: Function, one: Sequence[Tensor], inputs: Sequence[Tensor]) -> str:
    """The hash of what determines a library."""
    copies = [x.clone() for x in one]
    with torch.no_grad(), Operations(copies) as operations:
        function(*copies)
    determined_by = [
        *operations.lines,
        *[_layout(x) for x in inputs],
        *[source.read_text() for source in sorted(Path(__file__).parent.glob("*.py"))],
        f"{torch.__version__} {torch.version.git_version} {OPTIONS}",
        f"{torch.get_num_threads()} threads {_processor()}",
    ]
    return hashlib.sha256("\n".join(determined_by).encode()).hexdigest()[:NAME]


class Operations(TorchDispatchMode):
    """Listens to operations on tensors: which, in what order, on which of the tensors that came before.

    Tensors are known by the memory that they lie in, as one may be handed out again as another object. A tensor that
    nobody computed from the inputs is a constant, and told by its values.
    """

    def __init__(self, inputs: Sequence[Tensor]):
        super().__init__()
        self.lines: list[str] = []
        self._known: dict[Any, int] = {}
        self._alive: list[Tensor] = []  # so that no memory is used twice
        for x in inputs:
            self._learn(x)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it is imported to be skipped, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        said = f"{func} {self._told(args)} {self._told(kwargs or {})}"
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, torch.Tensor):
                self._learn(x)
        self.lines.append(said)
        return result

    def _learn(self, x: Tensor) -> None:
        self._alive.append(x)
        self._known.setdefault(_place(x), len(self._known))

    def _told(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            if _place(value) not in self._known:
                self.lines.append(f"constant {_layout(value)} {value.tolist()}")
                self._learn(value)
            return f"t{self._known[_place(value)]} {_layout(value)}"
        if isinstance(value, (tuple, list)):
            return f"[{', '.join(self._told(item) for item in value)}]"
        if isinstance(value, dict):
            return str({key: self._told(item) for key, item in value.items()})
        return repr(value)


def _place(x: Tensor) -> tuple[Any, ...]:
    return x.untyped_storage().data_ptr(), x.storage_offset(), x.shape, x.stride(), x.dtype


def _layout(x: Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)} {x.stride()}"


def _processor() -> str:
    """What a library for this very processor may rely on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {flags}"


def _private(folder: Path) -> bool:
    """Whether a folder, made if it is not there, belongs to this user and lets nobody else write."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _trace(function: Function, inputs: Sequence[Tensor]) -> Any:
    """The function as a graph of operations; what looks at a value of a tensor is refused."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        return make_fx(function, tracing_mode="fake", decomposition_table={torch.ops.aten.mm.default: product})(*inputs)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b; one of few columns is taken as (b' a')': the products of processors are up to seven times slower at them."""
    if b.shape[1] < 16 <= a.shape[0] and not a.is_cuda:
        return torch.ops.aten.mm.default(b.t(), a.t()).t()
    return NotImplemented


def _compile(function: Function, inputs: Sequence[Tensor], folder: Path) -> None:
    """Make a folder with the library in it."""
    from torch._inductor import aot_compile

    log.info("compiling updates for this machine; the next run of this kind will find them")
    begun = time.monotonic()
    folder.mkdir()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = _trace(function, inputs)
        aot_compile(graph, tuple(inputs), options=OPTIONS | {"aot_inductor.output_path": str(folder / LIBRARY)})
    for path in folder.iterdir():
        if path.stem != Path(LIBRARY).stem:  # sources and parts
            remove(path)
    with open(folder / LIBRARY, "rb") as file:
        sync(file.fileno())
    log.info("compiled in %.0f s", time.monotonic() - begun)


def _load(folder: Path) -> Call:
    runner: Any = torch._C._aoti.AOTIModelContainerRunnerCpu(str(folder / LIBRARY), 1)
    call: Call = runner.run
    return call


def _on_gpu(function: Function, kept: Sequence[Tensor], inputs: Sequence[Tensor]) -> Call:
    """By torch.compile, which captures CUDA graphs. They replay on fixed addresses, also of what they return."""
    for tensor in kept:
        torch._dynamo.mark_static_address(tensor)
    torch.compiler.reset()  # each run compiles its own updates: without this a sweep runs into the recompile limit
    compiled = torch.compile(
        _trace(function, [*kept, *inputs]), fullgraph=True, dynamic=False, options={"triton.cudagraphs": True}
    )
    return lambda tensors: [x.clone() for x in compiled(*tensors)]
