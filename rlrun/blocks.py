"""Parts of a state that stay as they are from one checkpoint to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class Block:
    """A piece of a large state. A checkpoint keeps it in a file of its own and writes it again only if it has changed.

    Whoever owns the data sets `seal` to None when they change; whoever saves or loads them sets it to what tells their
    file from any other (its size and hash). So a block that has a seal equals a file that was written before.

    Args:
        contents: makes the data, a dict of arrays; they may be views, and are used at once.
    """

    __slots__ = ("contents", "seal")

    def __init__(self, contents: Callable[[], Mapping[str, Any]], seal: Mapping[str, Any] | None = None):
        self.contents, self.seal = contents, seal
