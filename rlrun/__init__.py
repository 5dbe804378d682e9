"""rlrun: train, evaluate, resume and compare reinforcement-learning agents from one command.

In Python:

    import rlrun

    run = rlrun.train(["algo=ppo", "env=cartpole"])    # as the command does; run.path, run.results, run.metrics
    policy = rlrun.load(run.path, checkpoint="best")   # policy(obs), policy.predict(obs, state, episode_start)
    table = rlrun.runs("outputs")                      # configs, results and metrics of all runs as NumPy columns

For a loop of your own there are action selectors and agents in `rlrun.agents`, experience sources and the buffers that
they fill in `rlrun.experience`, and the target network in `rlrun.networks`.

Importing this package is free of torch; the parts load when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlrun.lazy import face

if TYPE_CHECKING:
    from rlrun import agents as agents
    from rlrun import experience as experience
    from rlrun import networks as networks
    from rlrun.agents.agent import Agent as Agent
    from rlrun.algos.algorithm import Algorithm as Algorithm
    from rlrun.algos.algorithm import Kit as Kit
    from rlrun.notebook import train as train
    from rlrun.registry import Needs as Needs
    from rlrun.registry import register as register
    from rlrun.report.table import runs as runs
    from rlrun.run.callbacks.callback import Callback as Callback
    from rlrun.run.policy import load as load

__version__ = "0.2.0.dev0"

_FACE = {  # what a user of Python needs, and where it is
    "Agent": "agents.agent",
    "Algorithm": "algos.algorithm",
    "Callback": "run.callbacks.callback",
    "Kit": "algos.algorithm",
    "Needs": "registry",
    "agents": "agents",
    "experience": "experience",
    "load": "run.policy",
    "networks": "networks",
    "register": "registry",
    "runs": "report.table",
    "train": "notebook",
}

__getattr__, __dir__ = face(__name__, _FACE)
