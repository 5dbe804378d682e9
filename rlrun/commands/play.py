"""`rlrun play RUN`: shows or films episodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from rlrun.checks import Above0, OneOf
from rlrun.config.values import from_words
from rlrun.envs.display import has_display
from rlrun.run import watch
from rlrun.run.film import Shown, record
from rlrun.run.restore import PlayingOptions, restore
from rlrun.rundir import find
from rlrun.seeding import Role


@dataclass
class PlayOptions(PlayingOptions):
    """Watch an agent play, in a window; where there is no display, episodes are filmed (videos/ of the run)."""

    record: bool = False  # film it even where there is a display
    # steps | episode (a picture of how each episode ends) | end (of the last one); pictures are PNG files in videos/
    show: Annotated[str, OneOf("steps", "episode", "end")] = "steps"
    fps: Annotated[float, Above0(1e4)] | None = None  # steps shown per second; null = the environment's own rate


def play(path: str, words: Sequence[str], trust: bool = False) -> int:
    """Show or film episodes."""
    options = from_words(PlayOptions, words)
    run_dir, ckpt = find.open_checkpoint(path, options.ckpt, usual="last")
    run = restore(run_dir, ckpt, trust)
    agent, environments, how = run.player(options), run.setting.environments, run.how(options)
    if options.show == "steps" and not options.record and not has_display():
        print("no display: episodes are filmed")
    for episode, seed in enumerate(run.setting.seeds.integers(Role.TEST, options.episodes)):
        file = run_dir.videos / f"{run.checkpoint.name}_{options.policy}_{episode}"
        shown = show(options, episode)(agent, environments, seed, file, **how)
        if shown is None:
            return 1
        cut = " (cut there)" if shown.result.cut else ""
        said = f"return {shown.result.mean:g} in {shown.result.mean_length:g} steps{cut}"
        print(said, *([shown.file] if shown.file else []))
    return 0


def show(options: PlayOptions, episode: int) -> Callable[..., Shown | None]:
    """How an episode is shown."""
    if options.show == "steps":
        return functools.partial(record if options.record else watch.play, fps=options.fps)
    seen = options.show == "episode" or episode == options.episodes - 1
    return functools.partial(record, ending=True) if seen else watch.unseen
