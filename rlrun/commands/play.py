"""`rlrun play RUN`: shows or films episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlrun.config.values import from_words
from rlrun.run import film
from rlrun.run.restore import PlayingOptions, restore
from rlrun.rundir import find
from rlrun.seeding import Role


@dataclass
class PlayOptions(PlayingOptions):
    """Watch an agent play; where there is no display it is filmed."""

    record: bool = False  # film it even where there is a display


def play(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Show or film episodes."""
    options = from_words(PlayOptions, words)
    run_dir = find.open_run(path)
    run = restore(run_dir, options.ckpt, trust)
    where, how = run.setting, run.how(options)
    agent = run.player(options)
    films = options.record or not film.has_display()
    show = film.record if options.record else film.play
    for episode, seed in enumerate(where.seeds.integers(Role.TEST, options.episodes)):
        file = run_dir.videos / f"{run.checkpoint.name}_{options.policy}_{episode}.mp4"
        result = show(agent, where.environments, seed, file, **how)
        if result is None:
            return 1
        cut = " (cut there)" if result.cut else ""
        print(f"return {result.mean:g} in {result.mean_length:g} steps{cut}", *([file] if films else []))
    return 0
