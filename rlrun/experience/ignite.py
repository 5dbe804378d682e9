"""Events of episodes for a loop that PyTorch Ignite runs: `pip install 'rlrun[ignite]'`.

    engine = Engine(process_batch)
    EndOfEpisodeHandler(source, bound_avg_reward=150).attach(engine)

    @engine.on(EpisodeEvents.EPISODE_COMPLETED)
    def log(engine):
        print(engine.state.episode, engine.state.episode_reward, engine.state.metrics["avg_reward"])

    @engine.on(EpisodeEvents.BOUND_REWARD_REACHED)
    def solved(engine):
        engine.terminate()

The names are PTAN's. What it calls PeriodicEvents Ignite has itself: `Events.ITERATION_COMPLETED(every=100)`.
"""

from __future__ import annotations

import time
from typing import Any

from rlrun.experience.sources import ExperienceSource, ExperienceSourceRollouts

try:
    from ignite.engine import Engine, EventEnum, Events
except ImportError as error:
    raise ImportError("these events need PyTorch Ignite: pip install 'rlrun[ignite]'") from error


class EpisodeEvents(EventEnum):
    """What can happen at the end of an iteration."""

    EPISODE_COMPLETED = "episode_completed"
    BOUND_REWARD_REACHED = "bound_reward_reached"  # the smoothed return is as high as was asked for
    BEST_REWARD_REACHED = "best_reward_reached"  # the smoothed return is higher than ever, the first one included


class EndOfEpisodeHandler:
    """Looks after each iteration which episodes have ended, and fires an event for each.

    `engine.state` has `episode` (how many), `episode_reward` and `episode_steps`; its metrics are `reward`, `steps`
    and, smoothed, `avg_reward` and `avg_steps`: x <- alpha x + (1 - alpha) new, from the first one on.

    Args:
        exp_source: whose episodes.
        alpha: weight of what has been.
        bound_avg_reward: `avg_reward` that fires BOUND_REWARD_REACHED, with every episode that keeps it up.
        subsample_end_of_episode: EPISODE_COMPLETED only for every so-manieth episode.
    """

    def __init__(
        self,
        exp_source: ExperienceSource | ExperienceSourceRollouts,
        alpha: float = 0.98,
        bound_avg_reward: float | None = None,
        subsample_end_of_episode: int = 1,
    ):
        self.source, self.alpha = exp_source, alpha
        self.bound, self.every = bound_avg_reward, subsample_end_of_episode
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Before handlers of these events are added, so that the engine knows them."""
        engine.register_events(*EpisodeEvents)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state = engine.state
        for reward, steps in self.source.pop_rewards_steps():
            state.episode = getattr(state, "episode", 0) + 1
            state.episode_reward, state.episode_steps = reward, steps
            for name, value in (("reward", reward), ("steps", steps)):
                before = state.metrics.get(f"avg_{name}", value)
                state.metrics[name] = value
                state.metrics[f"avg_{name}"] = self.alpha * before + (1 - self.alpha) * value
            average = state.metrics["avg_reward"]
            if state.episode % self.every == 0:
                engine.fire_event(EpisodeEvents.EPISODE_COMPLETED)
            if self.bound is not None and average >= self.bound:
                engine.fire_event(EpisodeEvents.BOUND_REWARD_REACHED)
            if average > self.best:
                self.best = average
                engine.fire_event(EpisodeEvents.BEST_REWARD_REACHED)


class EpisodeFPSHandler:
    """Metrics `fps`, `avg_fps` (smoothed) and `time_passed` (seconds), brought up to date with every finished episode.

    Args:
        fps_mul: frames of an iteration: the steps that it takes from the source.
        fps_smooth_alpha: weight of what has been.
    """

    def __init__(self, fps_mul: float = 1.0, fps_smooth_alpha: float = 0.98):
        self.frames, self.alpha = fps_mul, fps_smooth_alpha
        self.began = self.then = time.perf_counter()
        self.iteration = 0

    def attach(self, engine: Engine) -> None:
        """After EndOfEpisodeHandler, whose event it hears."""
        engine.add_event_handler(EpisodeEvents.EPISODE_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        now, metrics = time.perf_counter(), engine.state.metrics
        metrics["time_passed"] = now - self.began
        if engine.state.iteration == self.iteration:  # another episode of the same sweep
            return
        fps = self.frames * (engine.state.iteration - self.iteration) / max(now - self.then, 1e-9)
        metrics["fps"] = fps
        metrics["avg_fps"] = self.alpha * metrics.get("avg_fps", fps) + (1 - self.alpha) * fps
        self.iteration, self.then = engine.state.iteration, now
