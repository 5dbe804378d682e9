"""One actor, wherever it works: some of the run's environments, and an agent that acts in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlrun.agents.agent import Agent
from rlrun.experience.actors.crew import Delivery, Order
from rlrun.experience.rollouts import Rollouts
from rlrun.experience.rows import Rows
from rlrun.interrupt import Interrupt
from rlrun.types import Gradients, StateDict, VectorEnv

if TYPE_CHECKING:
    from rlrun.algos.algorithm import Algorithm


class Actor:
    """Collects chunks to order, and computes their gradients if that is what the algorithm wants.

    Args:
        algo: whose chunks they are.
        agent: acts, at the algorithm's weights.
        envs: its environments.
        place: their indices among those of the run.
        num_envs: E, how many the run has.
        seeds: one for each of its environments.
        interrupt: checked before every sweep.
        rows: where the first chunk is written.
    """

    def __init__(
        self,
        algo: Algorithm,
        agent: Agent,
        envs: VectorEnv,
        place: range,
        num_envs: int,
        seeds: Sequence[int],
        interrupt: Interrupt | None = None,
        rows: Rows | None = None,
    ):
        agent.station(place, num_envs)
        self.algo, self.place, self.version = algo, place, 0
        self.source = Rollouts(envs, agent, algo.rollout_steps, seeds, interrupt, rows=rows, pace=num_envs)
        self.gradients: Gradients | None = None  # of the chunk, as long as it has not been delivered

    def collect(self, order: Order, version: int, rows: Rows | None = None) -> None:
        """Carry out an order, from where an interruption stopped it.

        Args:
            version: of the weights.
            rows: where the chunk is written; in place of the one before by default.
        """
        source = self.source
        source.make_room(rows)
        if not source.filled:
            self.version = version
        source.env_steps = order.env_steps + self.place.start + source.filled * source.pace
        source.fill(order.sweeps)
        if self.algo.sends == "gradients" and self.gradients is None:
            self.gradients = self.algo.gradients(source.chunk().data, order.env_steps)

    def deliver(self) -> Delivery:
        """The chunk of the order that was carried out."""
        chunk, version = self.source.hand_out(), self.version
        data = self.gradients or chunk.data
        self.gradients = None
        episodes = [episode._replace(env=episode.env + self.place.start) for episode in chunk.episodes]
        return Delivery(chunk._replace(data=data._replace(policy_version=version), episodes=episodes), version)

    def state_dict(self) -> StateDict:
        sent = self.gradients and {**self.gradients._asdict(), "aux": dict(self.gradients.aux)}
        return {"version": self.version, "source": self.source.state_dict(), "gradients": sent}

    def load_state_dict(self, state: StateDict) -> None:
        self.version = state["version"]
        self.source.load_state_dict(state["source"])
        self.gradients = state["gradients"] and Gradients(**state["gradients"])
