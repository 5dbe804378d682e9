"""`rlrun inspect env=…`: a picture of what an agent would see of an environment, under random play."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from rlrun import files
from rlrun.commands.check import RandomActions, described
from rlrun.config import compose, memory, validate
from rlrun.envs.display import without_display
from rlrun.envs.environments import Environments
from rlrun.envs.faults import described as said_by
from rlrun.envs.faults import is_ours
from rlrun.report import observations
from rlrun.report.observations import Seen
from rlrun.run import build, film
from rlrun.seeding import Role, SeedTree
from rlrun.text import table
from rlrun.types import EnvSpec, VectorEnv

log = logging.getLogger(__name__)

MOMENTS = 4  # pictures of one thing


def look(words: Sequence[str], steps: int, file: str | None) -> int:
    """Play at random in the environment that the words describe, print what is to be seen and draw it.

    Args:
        steps: how many to play.
        file: where the picture goes, `.png` or a directory; None for a place of its own under `outputs/`.

    Raises:
        ConfigError: there is no such environment.
        EnvError: it fails.
    """
    composed = compose.compose(words)
    cfg = validate.parsed(composed.data)
    memory.check(cfg, memory.of_environments(cfg))
    environments, seed = build.environments(cfg), SeedTree(cfg.seed).integer(Role.TEST)
    spec = environments.spec(1)
    if getattr(getattr(cfg.env, "normalize", None), "obs", False):  # by what random play has shown by then
        with closing(environments.train(1)) as envs:
            play(envs, seed, steps)
    seen = watched(environments, spec, seed, steps)
    print(f"{spec.id}\n\n{table(rows(spec, seen))}")
    path = files.of_user(file) if file else composed.dir.parents[1]  # beside the runs in it
    path = path / "seen.png" if path.is_dir() or not file else path.with_name(path.name.removesuffix(".png") + ".png")
    title = f"{spec.id}, {steps} steps of random play"
    try:
        picture = observations.draw(title, seen, spec.obs_space)
    except ImportError:
        log.warning("no picture: matplotlib is not installed; get it with `pip install 'rlrun[plot]'`")
        return 1
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, picture)
    print(f"\n{path}")
    return 0


def watched(environments: Environments, spec: EnvSpec, seed: int, steps: int) -> Seen:
    """Random play, with the environment's own pictures if it draws any."""
    if "rgb_array" in spec.render_modes:
        without_display()
        try:
            env = environments.render("rgb_array")
            with closing(environments.watch(env)) as envs:
                return play(envs, seed, steps, env.render)
        except BaseException as error:
            if is_ours(error):
                raise
            log.warning("no picture of the environment itself: %s", said_by(error).splitlines()[-1])
    with closing(environments.evaluation(1)) as envs:
        return play(envs, seed, steps)


def play(envs: VectorEnv, seed: int, steps: int, render: Callable[[], Any] | None = None) -> Seen:
    """Play at random in an environment, and keep what was seen.

    Args:
        render: draws it as it stands.
    """
    actions = RandomActions(envs.spec)
    moments = tuple(dict.fromkeys(np.linspace(0, steps, MOMENTS).round().astype(int).tolist()))
    envs.reset([seed])
    obs, begins, drawn = [envs.obs.copy()], [0], {}
    for t in range(steps + 1):
        if render is not None and t in moments:
            drawn[t] = film.must_be_picture(render())
        if t < steps:
            step = envs.step(actions(envs.obs))
            obs.append(step.obs.copy())
            begins += [t + 1] if step.final_obs else []
    return Seen(np.concatenate(obs), tuple(begins), moments, drawn)


def rows(spec: EnvSpec, seen: Seen) -> Iterator[tuple[str, str]]:
    """What there is to be seen, in words."""
    for what, space in (("observations", spec.obs_space), ("actions", spec.action_space)):
        yield from ((what if not n else "", part) for n, part in enumerate(described(space).split("; ")))
    if spec.obs_space.stack:
        yield "stack", f"{spec.obs_space.stack} frames, the newest last"
    for name, obs, _ in observations.parts(seen.obs, spec.obs_space):
        yield (
            "seen",
            f"{f'{name}: ' if spec.obs_space.fields else ''}{obs.min():.4g} to {obs.max():.4g}, mean {obs.mean():.4g}",
        )
    steps, ended = len(seen.obs) - 1, len(seen.begins) - 1
    yield "random play", f"{steps:,} steps, in which {ended or 'no'} episode{'' if ended == 1 else 's'} ended"
