"""Events of episodes in PyTorch Ignite; runs where the extra `ignite` is installed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from rlrun.agents import BaseAgent
from rlrun.envs.toy import CountingEnv
from rlrun.experience import ExperienceSourceFirstLast


class Idle(BaseAgent):
    def __call__(self, states: Any, agent_states: Any = None) -> Any:
        return [0] * len(states), agent_states


def test_a_missing_ignite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    monkeypatch.delitem(sys.modules, "rlrun.experience.ignite", raising=False)
    with pytest.raises(ImportError, match=r"rlrun\[ignite\]"):
        importlib.import_module("rlrun.experience.ignite")


def test_events_of_episodes() -> None:
    """Two environments, whose episodes bring 1 + 2 = 3 and 1 + 2 + 3 = 6."""
    engine_module = pytest.importorskip("ignite.engine")
    from rlrun.experience.ignite import EndOfEpisodeHandler, EpisodeEvents, EpisodeFPSHandler

    source = ExperienceSourceFirstLast([CountingEnv(2), CountingEnv(3)], Idle(), gamma=1.0)
    engine = engine_module.Engine(lambda _engine, _item: None)
    EndOfEpisodeHandler(source, alpha=0.5, bound_avg_reward=4.4, subsample_end_of_episode=2).attach(engine)
    EpisodeFPSHandler().attach(engine)
    heard: list[tuple[str, int, float]] = []
    for event in EpisodeEvents:
        engine.add_event_handler(
            event, lambda e, name: heard.append((name, e.state.episode, e.state.metrics["avg_reward"])), event.name
        )
    engine.run(source, epoch_length=12, max_epochs=1)
    assert heard == [
        ("BEST_REWARD_REACHED", 1, 3.0),  # the first one is the best so far
        ("EPISODE_COMPLETED", 2, 4.5),
        ("BOUND_REWARD_REACHED", 2, 4.5),
        ("BEST_REWARD_REACHED", 2, 4.5),
        ("EPISODE_COMPLETED", 4, 3.375),  # (4.5 + 3) / 2 = 3.75, and once more 3
    ]
    metrics = engine.state.metrics
    assert engine.state.episode == 4
    assert (metrics["reward"], metrics["steps"]) == (3.0, 2)
    assert metrics["fps"] > 0 and metrics["avg_fps"] > 0 and metrics["time_passed"] > 0
