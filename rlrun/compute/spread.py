"""A learner on several ranks: processes that make the same updates together, each from a share of the batch.

The ranks start from the same weights and average their gradients before every step, so they have the same weights for
ever. With losses that are means, as all of ours are, the mean of their gradients is the gradient of all shares as one
batch, and clipping comes after it: N ranks do what one process would do with the same totals.

torch's DistributedDataParallel wraps a module whose forward pass gives the loss, and averages from hooks while
`backward` fills `.grad`. Here a loss is a function of all networks, only some of which are trained, and gradients are
values between `gradients` and `apply`: one mean of all of them, side by side in one tensor, stands there.

    torchrun --nproc-per-node=2 -m rlrun algo=ppo env=cartpole
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from rlrun.compute.update import Update
from rlrun.errors import Abandoned, Interrupted, RankFailed, RanksLost, RlrunError, described
from rlrun.ranks import Place, end_with_torchrun
from rlrun.types import Array, Tensor

WORDS = "rlrun/words"  # in the store: of the rank that failed first, why
FOR_EVER = timedelta(days=365)  # how long ranks wait for each other: one may evaluate for hours, and a lost one is told


class Alone:
    """The only rank there is: what is asked of the others is nothing."""

    rank, size = 0, 1
    place: Place | None = None

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Of things that are dealt out evenly, which are this rank's."""
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all ranks; the tensor may be overwritten."""
        return tensor

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the values that they have on rank 0."""

    def led(self, numbers: Array) -> Array:
        """The numbers that rank 0 gives; the others give any of the same shape."""
        return numbers

    def each(self, numbers: Array) -> list[Array]:
        """Numbers of every rank, in their order, all of one shape."""
        return [numbers]

    def every(self, rows: Array, counts: Sequence[int]) -> list[Array]:
        """Rows [n, ...] of every rank, in their order, of which there are so many."""
        return [rows]

    def same(self, data: Any) -> Any:
        """Plain data as rank 0 has them."""
        return data

    def meet(self) -> None:
        """Wait until all have come here."""

    def leave_word(self, error: BaseException) -> None:
        """Say why this rank ends, if none has said so before."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """What goes wrong inside on one rank ends all."""
        yield


class Group(Alone):
    """This process among others.

    Args:
        processes: a `torch.distributed` process group, or a backend of one.
        store: where a rank leaves word why it ends.
        close: what ends the group.

    Raises:
        RanksLost: another rank is gone while this one waits for it, and has left no word.
        RankFailed: it has.
    """

    def __init__(self, processes: Any, store: Any, place: Place, close: Callable[[], None] | None = None):
        self.processes, self.store, self.place, self._close = processes, store, place, close
        self.rank, self.size = place.rank, place.size

    def mean(self, tensor: Tensor) -> Tensor:
        self._do("allreduce", [tensor])
        return tensor.div_(self.size)

    def copy(self, tensors: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                self._do("broadcast", [values])
                tensor.copy_(values)

    def led(self, numbers: Array) -> Array:
        values = torch.from_numpy(numbers.copy())
        self._do("broadcast", [values])
        found: Array = values.numpy()
        return found

    def each(self, numbers: Array) -> list[Array]:
        mine = torch.from_numpy(numbers)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        self._do("allgather", [found], [mine])
        return [tensor.numpy() for tensor in found]

    def every(self, rows: Array, counts: Sequence[int]) -> list[Array]:
        padded = np.zeros((max(counts), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        found = self.each(padded) if len(padded) else [padded] * self.size
        return [values[:count] for values, count in zip(found, counts, strict=True)]

    def same(self, data: Any) -> Any:
        text = np.frombuffer(json.dumps(data).encode() if self.leads else b"", np.uint8)
        counts = [int(count) for (count,) in self.each(np.array([len(text)]))]
        return json.loads(self.every(text, counts)[0].tobytes())

    def meet(self) -> None:
        self.each(np.zeros(1))

    def leave(self) -> None:
        """Close the connections: whoever waits for this rank is told that it is gone."""
        self.processes, close, self._close = None, self._close, None
        if close is not None:
            close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What goes wrong inside on one rank ends all: it leaves word of it, and the others say that."""
        try:
            yield
        except BaseException as error:
            words = self._words() if isinstance(error, self._consequences()) else None
            if words is not None and words["rank"] != self.rank and not stopped_alike(error, words["state"]):
                self.leave()
                raise RankFailed(**words) from error
            self.leave_word(error)
            self.leave()
            raise

    def _do(self, what: str, *tensors: Any) -> None:
        if self.processes is None:
            raise RanksLost
        try:
            getattr(self.processes, what)(*tensors).wait()
        except RuntimeError as error:
            raise RanksLost(f"rank {1 - self.rank}" if self.size == 2 else "another rank") from error

    def _consequences(self) -> tuple[type[BaseException], ...]:
        """What a rank may meet because another one failed: whoever started them ends them all then."""
        return RanksLost, Interrupted, Abandoned, torch.distributed.DistError

    def _words(self) -> dict[str, Any] | None:
        with suppress(RuntimeError):  # whoever kept the store may be gone, too
            if self.store.check([WORDS]):
                found: dict[str, Any] = json.loads(self.store.get(WORDS))
                return found
        return None

    def leave_word(self, error: BaseException) -> None:
        if isinstance(error, RankFailed | RanksLost):
            return
        if isinstance(error, Abandoned):
            error = Interrupted(signal.SIGTERM, "in the middle of something")
        known = error if isinstance(error, RlrunError) else RlrunError(described(error))
        code = known.exit_code if known is error else 1
        words = {"rank": self.rank, "text": str(known), "exit_code": code, "state": known.state}
        with suppress(RuntimeError):
            self.store.compare_set(WORDS, "", json.dumps(words))


def stopped_alike(error: BaseException, state: str) -> bool:
    """Whether an error stops a rank as another one was stopped, by a signal: neither is the other's failure."""
    return isinstance(error, Interrupted) and state == error.state


@contextmanager
def joined(place: Place | None) -> Iterator[Alone]:
    """The ranks that torchrun has started, for as long as this is open; nobody else where it has started none."""
    if place is None:
        yield Alone()
        return
    end_with_torchrun()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed = torch.distributed
    store, rank, size = next(distributed.rendezvous("env://", place.rank, place.size))
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=FOR_EVER)
    group = Group(distributed.group.WORLD, store, place, distributed.destroy_process_group)
    try:
        with group.together():
            group.meet()  # nobody may end before all are connected: they would say that, and not what went wrong
            yield group
    finally:
        group.leave()


class SpreadUpdate(Update):
    """The same update on every rank, from the mean of their gradients.

    Networks begin with the weights of rank 0.

    Args:
        group: the ranks.
    """

    def __init__(self, *args: Any, group: Alone, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group = group
        sizes = [p.numel() for p in self.params]
        self.flat = torch.zeros(sum(sizes), device=self.params[0].device)
        self.parts = [part.view(p.shape) for part, p in zip(self.flat.split(sizes), self.params, strict=True)]
        group.copy([*self.nets.parameters(), *self.nets.buffers()])

    def apply(self, grads: list[Tensor], learning_rate: float) -> None:
        """Make the step that follows from the mean of what the ranks give."""
        torch._foreach_copy_(self.parts, grads)
        self.group.mean(self.flat)
        super().apply(self.parts, learning_rate)
