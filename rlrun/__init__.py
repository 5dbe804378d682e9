"""rlrun: train, evaluate, resume and compare reinforcement-learning agents from one command.

In Python:

    import rlrun

    table = rlrun.runs("outputs")    # configs, results and metrics of all runs there as NumPy columns

Importing this package is free of torch; the parts load when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm as Algorithm
    from rlrun.algos.algorithm import Kit as Kit
    from rlrun.registry import Needs as Needs
    from rlrun.registry import register as register
    from rlrun.report.table import runs as runs
    from rlrun.run.callbacks.callback import Callback as Callback

__version__ = "0.2.0.dev0"

_FACE = {  # what a user of Python needs, and where it is
    "Algorithm": "rlrun.algos.algorithm:Algorithm",
    "Callback": "rlrun.run.callbacks.callback:Callback",
    "Kit": "rlrun.algos.algorithm:Kit",
    "Needs": "rlrun.registry:Needs",
    "register": "rlrun.registry:register",
    "runs": "rlrun.report.table:runs",
}


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own = _FACE[name].partition(":")
    return getattr(importlib.import_module(module), own)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
