"""`rlrun check env.id=…`: an environment is tried before anything learns in it, for whoever brings one.

Gymnasium's own checker looks at it, random play measures it as an agent would meet it, and what the run's other parts
would make of it is said: which algorithms fit, whether a resumed run is exact, what a replay of it takes.
"""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from rlrun import registry
from rlrun.checks import Bounded, Count, NotNegative
from rlrun.commands.train import command_line
from rlrun.config import compose, fit, memory, validate
from rlrun.config.values import from_words
from rlrun.envs import faults
from rlrun.envs.contact import Contact
from rlrun.errors import ConfigError, EnvError
from rlrun.ops.distributions import distribution
from rlrun.run import build
from rlrun.run.evaluation import UNLIMITED
from rlrun.seeding import Role, SeedTree
from rlrun.text import number, size, table
from rlrun.types import MASK, Array, EnvSpec, Space, VectorEnv

FEW = 4  # algorithms that are named for a reason not to fit
REPEATED = 200  # steps of an episode that is played twice
SEED = 7
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class CheckOptions(Bounded):
    """Try an environment: its spaces, its returns under random play, what fits, whether a resume is exact."""

    json: bool = False  # print one JSON object
    steps: Count = 10_000  # of random play, at most
    seconds: NotNegative = 10.0  # of random play, at most


@dataclass
class Findings:
    """What was found; None where it could not be."""

    id: str
    observation: str
    action: str
    time_limit: int | None
    cut_at: int | None  # where evaluation cuts an episode if there is no time limit
    checker: str = "not asked"  # "passed", or what Gymnasium's checker refused
    warnings: list[str] = field(default_factory=list)  # of Gymnasium's checker
    steps: int = 0  # of random play
    steps_per_second: float | None = None
    returns: list[float] = field(default_factory=list)  # of the episodes that ended
    lengths: list[int] = field(default_factory=list)
    reward: list[float] | None = None  # least and greatest of one step
    observed: list[float] | None = None  # least and greatest element
    outside: int = 0  # observations beyond their declared bounds
    seeds: str = ""  # how the same seed fails to repeat an episode; "" if it does
    resume: str = ""  # in what a resumed run differs; "" if in nothing
    transition_bytes: int = 0
    replay_bytes: int = 0  # at the default capacity
    capacity: int = 0
    fits: list[str] = field(default_factory=list)
    unaware: list[str] = field(default_factory=list)  # of those that fit: which take no notice of a mask of the actions
    misfits: dict[str, str] = field(default_factory=dict)  # algorithm -> why not
    failure: str = ""  # what the environment did when it was played

    @property
    def trainable(self) -> bool:
        return not self.failure and bool(self.fits)


def check(words: Sequence[str]) -> int:
    """Try the environment that the words describe, and print what was found.

    Returns:
        0 if something can be trained in it, 1 if it fails.

    Raises:
        ConfigError: there is no such environment, or its spaces are of no supported kind.
    """
    own = [word for word in words if word.partition("=")[0] in ("json", "steps", "seconds")]
    options = from_words(CheckOptions, own)
    overrides = [word for word in words if word not in own]
    if bare := next((word for word in words if "=" not in word and not word.startswith("~")), None):
        raise ConfigError(bare, "options are written key=value", f"did you mean env.id={bare}?")
    if not any(word.startswith(("env=", "env.id=")) for word in overrides):
        raise ConfigError("check", "needs an environment", "rlrun check env.id=CartPole-v1, or env=…")
    cfg = validate.parsed(compose.compose(overrides).data)
    memory.check(cfg, memory.of_environments(cfg))
    found = examine(cfg, options)
    print(json.dumps(report(found)) if options.json else "\n".join(lines(found, overrides)))
    return 0 if found.trainable else 1


def examine(cfg: Any, options: CheckOptions) -> Findings:
    """All findings on the environment of a config."""
    environments = build.environments(cfg)
    spec = environments.spec(1)
    unlimited = spec.max_episode_steps is None
    found = Findings(
        spec.id,
        described(spec.obs_space),
        described(spec.action_space),
        spec.max_episode_steps,
        (getattr(cfg.eval, "max_steps", None) or UNLIMITED) if unlimited else None,
    )
    misfits = fit.misfits(spec)
    found.fits = [name for name in registry.names("algo") if name not in misfits]
    found.misfits = misfits
    if spec.obs_space.masked:
        found.unaware = [name for name in found.fits if not registry.get("algo", name).needs.masks]
    replay = registry.get("buffer", "uniform")
    found.capacity = getattr(replay.config, "capacity", 0)
    (need,) = replay.footprint(replay.config() if replay.config else None, spec)
    found.transition_bytes, found.replay_bytes = int(need.each), int(need.bytes)
    found.checker, found.warnings = ask_gymnasium(environments.single)
    try:
        with closing(environments.evaluation(1)) as envs:
            play(envs, options, found)
        found.seeds = repeated(lambda: environments.evaluation(1))
        with closing(environments.train(1)) as envs:
            found.resume = difference(envs)
    except EnvError as error:
        found.failure = str(error)
    return found


def ask_gymnasium(make: Callable[[], gym.Env | None]) -> tuple[str, list[str]]:
    """What Gymnasium's checker says of the environment inside all wrappers: its verdict and its warnings.

    Args:
        make: opens one; None where there are none of Gymnasium's.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = make()
        if env is None:
            return "not asked", []
        contact = Contact(env)
        try:
            check_env(contact.env.unwrapped, skip_render_check=True, skip_close_check=True)
            verdict = "passed"
        except BaseException as error:  # an environment may raise anything
            if faults.is_ours(error):
                raise
            verdict = COLOUR.sub("", " ".join(faults.described(error).split()))
        finally:
            contact.close()
    said = (" ".join(COLOUR.sub("", str(warning.message)).split()).removeprefix("WARN: ") for warning in caught)
    return verdict, [text[:300] for text in dict.fromkeys(said)]


def play(envs: VectorEnv, options: CheckOptions, found: Findings) -> None:
    """Act at random for a bounded time, and measure."""
    actions = RandomActions(envs.spec)
    space, begun = envs.spec.obs_space, time.monotonic()
    low, high = np.inf, -np.inf
    least, greatest = np.inf, -np.inf
    with progress() as say:
        envs.reset([SEED])
        while found.steps < options.steps:
            if found.steps % 16 == 0 and time.monotonic() - begun > options.seconds:
                break
            seen = list(parts(envs.obs, space))
            low, high = min(low, *(float(o.min()) for o, _ in seen)), max(high, *(float(o.max()) for o, _ in seen))
            found.outside += any(outside(*part) for part in seen)
            step = envs.step(actions(envs.obs))
            found.steps += 1
            least, greatest = min(least, float(step.reward[0])), max(greatest, float(step.reward[0]))
            found.reward, found.observed = [least, greatest], [low, high]
            found.returns += [episode.episode_return for episode in step.episodes]
            found.lengths += [episode.length for episode in step.episodes]
            say(found.steps)
    seconds = time.monotonic() - begun
    found.steps_per_second = found.steps / seconds if seconds else None


def repeated(make: Callable[[], VectorEnv]) -> str:
    """Where the same seed and actions give another episode, tried again or in a new environment; "" if nowhere."""
    with closing(make()) as envs:
        first, again = trace(envs), trace(envs)
    with closing(make()) as envs:
        other = trace(envs)
    for what, second in (("a second episode in it", again), ("another one", other)):
        for t, (a, b) in enumerate(zip(first, second, strict=False)):
            if a != b:
                return f"{what} differs from step {t} on" if t else f"{what} differs at reset()"
    return ""


def trace(envs: VectorEnv) -> list[tuple[bytes, bytes]]:
    """What an episode from SEED shows under the same random actions, step by step."""
    actions = RandomActions(envs.spec)
    envs.reset([SEED])
    seen = [(envs.obs.tobytes(), b"")]
    for _ in range(REPEATED):
        step = envs.step(actions(envs.obs))
        last = step.final_obs.get(0)
        seen.append(((step.obs if last is None else last).tobytes(), step.reward.tobytes()))
        if last is not None:
            break
    return seen


def difference(envs: VectorEnv) -> str:
    """In what a resumed run would differ because of its environment; "" if in nothing."""
    envs.reset([SEED])
    envs.prove()
    return envs.caveat


class RandomActions:
    """Uniform in what is bounded, normal around the bound or 0 in what is not; always the same sequence.

    Args:
        spec: the environment's; its masks are obeyed.
    """

    def __init__(self, spec: EnvSpec):
        self._actions, self._masked = distribution(spec.action_space), spec.obs_space.masked
        self._rng = SeedTree(SEED).generator(Role.ACTION_SPACE)

    def __call__(self, obs: Array) -> Array:
        """Actions [1, *action] for observations [1, *obs]."""
        return self._actions.uniform(1, self._rng, obs[MASK] if self._masked else None)


def parts(obs: Array, space: Space) -> Iterator[tuple[Array, Space]]:
    """What is seen, part by part: observations [1, *part] and their space. A mask is no part."""
    for name, part in space.fields.items():
        if name != MASK:
            yield obs[name], part
    if not space.fields:
        yield obs, space


def outside(obs: Array, space: Space) -> bool:
    """Whether an observation of one part is beyond the bounds that its space declares."""
    if space.kind == "box":
        return bool((obs < space.low).any() or (obs > space.high).any())
    counts = np.reshape(space.nvec, space.shape) if space.nvec else space.n or 2
    return bool((obs < 0).any() or (obs >= counts).any())


@contextmanager
def progress() -> Iterator[Callable[[int], None]]:
    """Says every second on a terminal how far random play is, and wipes it away."""
    shown, due = False, time.monotonic() + 1

    def say(steps: int) -> None:
        nonlocal shown, due
        if sys.stderr.isatty() and steps % 16 == 0 and time.monotonic() > due:
            shown, due = True, time.monotonic() + 1
            print(f"\rrandom play: {steps:,} steps", end="", file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def described(space: Space) -> str:
    """A space in words; several parts are divided by semicolons."""
    if space.masked:
        return f"{described(space.unmasked)}; a mask of the actions"
    if space.fields:
        return "; ".join(f"{name}: {described(part)}" for name, part in space.fields.items())
    if space.n:
        return f"{space.n:,} discrete values"
    if space.nvec:
        return f"{len(space.nvec):,} choices of {' x '.join(map(str, space.nvec))} values"
    if space.kind == "multi_binary":
        return f"{space.size:,} bits"
    shape = " x ".join(map(str, space.shape)) or "one number"
    low, high = float(np.min(space.low)), float(np.max(space.high))  # type: ignore[arg-type]
    same = np.ptp(space.low) == 0 and np.ptp(space.high) == 0 if np.isfinite([low, high]).all() else True  # type: ignore[arg-type]
    return f"{space.dtype} [{shape}], {'' if same else 'at the most '}from {low:.4g} to {high:.4g}"


def report(found: Findings) -> dict[str, Any]:
    """The findings as strict JSON data."""
    ranges = {key: _finite(getattr(found, key)) for key in ("reward", "observed", "returns")}
    return {**vars(found), **ranges, "trainable": found.trainable}


def _finite(values: Sequence[float] | None) -> list[float | None] | None:
    return None if values is None else [value if np.isfinite(value) else None for value in values]


def lines(found: Findings, overrides: Sequence[str]) -> Iterator[str]:
    """The findings on 80 columns, and what to do next."""
    yield f"{found.id}\n"
    yield table(rows(found))
    yield ""
    if found.failure:
        yield f"It fails:\n{found.failure}"
    elif not found.fits:
        yield "No algorithm fits."
    else:
        algo = next((name for name in ("dqn", "ppo") if name in found.fits), found.fits[0])
        yield f"Ready to train: {command_line([f'algo={algo}', *overrides])}"


def rows(found: Findings) -> Iterator[tuple[str, str]]:
    for what, space in (("observations", found.observation), ("actions", found.action)):
        yield from ((what if not n else "", part) for n, part in enumerate(space.split("; ")))
    limit = found.time_limit
    if limit:
        yield "time limit", f"{limit:,} step{'s' if limit > 1 else ''}"
    else:
        yield "time limit", f"none; evaluation cuts at {found.cut_at:,} steps (eval.max_steps)"
    yield "checker", {"passed": "Gymnasium's checker passes it"}.get(found.checker, found.checker)
    for warning in found.warnings:
        yield "", f"warning: {warning}"
    if found.steps:
        yield "random play", f"{found.steps:,} steps, {number(found.steps_per_second)} a second"
        yield from played(found)
    if not found.failure:
        yield "seeds", (found.seeds and f"NOT repeatable: {found.seeds}") or "the same seed repeats an episode"
        yield "resume", f"not exact: {found.resume}" if found.resume else "exact, in mid-episode"
    replay = f"{found.capacity:,} transitions take {size(found.replay_bytes)}"
    yield "replay", f"{found.transition_bytes:,} bytes a transition; {replay} (buffer.capacity)"
    yield "fits", ", ".join(found.fits) or "nothing"
    if found.unaware:
        yield "", f"the mask is not heeded by {', '.join(found.unaware)}"
    reasons: dict[str, list[str]] = {}
    for name, reason in found.misfits.items():
        reasons.setdefault(reason, []).append(name)
    for n, (reason, names) in enumerate(reasons.items()):
        few = names if len(names) <= FEW else [*names[: FEW - 1], f"… ({len(names)})"]
        yield "" if n else "does not fit", f"{', '.join(few)}: {reason}"


def played(found: Findings) -> Iterator[tuple[str, str]]:
    """What random play has seen."""
    if found.returns:
        yield "episodes", f"{len(found.returns):,} ended, of {span(found.lengths)} steps"
        yield "returns", span(found.returns)
    else:
        yield "episodes", "none ended"
    yield "rewards", "{:.4g} to {:.4g} a step".format(*found.reward or (np.nan, np.nan))
    seen = "{:.4g} to {:.4g}".format(*found.observed or (np.nan, np.nan))
    beyond = f"{found.outside:,} of {found.steps:,} OUTSIDE of their declared bounds"
    yield "observed", f"{seen}, {beyond if found.outside else 'within the declared bounds'}"


def span(values: Sequence[float]) -> str:
    """Least, greatest and mean."""
    return f"{min(values):.4g} to {max(values):.4g}, mean {np.mean(values):.4g}"
