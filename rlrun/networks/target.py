"""The target network: a frozen copy that follows the network being trained, in jumps or as a moving average."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from rlrun.state import Stateful

if TYPE_CHECKING:
    from torch import Tensor, nn


class TargetNet(Stateful):
    """A copy of `module` without gradients, called like the module.

        target = TargetNet(q, interval=1000)
        target.sync(env_steps)                      # before the updates: a copy at every 1000th step
        next_q = target(next_obs)                   # or target.target_model(next_obs)

    tau = 1: copied by `sync` whenever a multiple of `interval` env steps is crossed (Mnih et al. 2015).
    tau < 1: w' <- (1 - tau) w' + tau w at every `follow` (Lillicrap et al. 2016); tau is the share of the NEW weights.

    PTAN's `alpha_sync(alpha)`, in which alpha is the share of the OLD weights, is `follow` with tau = 1 - alpha.

    The copy due at env step k holds the weights as they were when k was crossed. The network does not change while
    experience is collected, so that is what `sync` finds before the first update that follows; all updates of a burst
    then look at the same copy. A moving average follows every update instead.

    Float buffers (batch norm's statistics) are averaged like parameters, integer buffers are copied. The copy is in
    evaluation mode: it drops no units and gathers no statistics of its own.

    Args:
        module: the network to follow; it is never written to.
        tau: in (0, 1].
        interval: env steps between two copies, None for a copy at every `sync`; not used with tau < 1.

    Raises:
        ValueError: tau outside (0, 1], or an interval below 1.
    """

    state = ("module", "_copied_at")

    def __init__(self, module: nn.Module, tau: float = 1.0, interval: int | None = None):
        if not 0 < tau <= 1:
            raise ValueError(f"tau must be in (0, 1], got {tau}")
        if interval is not None and interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.tau = tau
        self.interval = interval or 1
        self.model = module
        self._ours: list[Tensor] = list(self.module.parameters())
        self._theirs: list[Tensor] = list(module.parameters())
        self._has_buffers = next(module.buffers(), None) is not None
        self._copied_at = 0  # env steps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @property
    def target_model(self) -> nn.Module:
        """The copy."""
        return self.module

    def sync(self, env_steps: int | None = None) -> None:
        """tau = 1: copy the source's weights if it is time; called before the updates of every chunk.

        Without a number of env steps it is always time, whatever tau is.
        """
        if env_steps is None:
            self._copy()
        elif self.tau == 1 and env_steps // self.interval > self._copied_at // self.interval:
            self._copy()
            self._copied_at = env_steps

    def follow(self) -> None:
        """tau < 1: take in a share of the source's weights; called after every update."""
        if self.tau < 1:
            self._blend()

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Parameters and buffers of the copy, each with the one that it follows."""
        return [*zip(self._ours, self._theirs, strict=True), *self._buffers()]

    def _blend(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(self._ours, self._theirs, self.tau)
            for ours, theirs in self._buffers():
                if ours.is_floating_point():
                    ours.lerp_(theirs, self.tau)
                else:
                    ours.copy_(theirs)

    def _copy(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._ours, self._theirs)
            for ours, theirs in self._buffers():
                ours.copy_(theirs)

    def _buffers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Looked up every time, as modules may replace their buffers; parameters stay the same objects."""
        if self._has_buffers:
            yield from zip(self.module.buffers(), self.model.buffers(), strict=True)
