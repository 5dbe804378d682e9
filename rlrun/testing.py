"""What holds for every algorithm, and for every run that is resumed; for our own tests and those of plug-ins.

    def test_my_algorithm():
        rlrun.testing.check_algorithm("my_algorithm", "env=cartpole")

Whatever does not hold is an AssertionError that says it in a sentence.
"""

from __future__ import annotations

import copy
import csv
import itertools
import json
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config import compose, folders, plugins
from rlrun.config.validate import validate
from rlrun.envs import state as env_state
from rlrun.errors import ConfigError
from rlrun.interrupt import Interrupt
from rlrun.run.build import Parts, parts
from rlrun.run.evaluation import evaluate
from rlrun.rundir.checkpoints import must_resemble
from rlrun.rundir.codec import decode, encode
from rlrun.state import Stateful, saved
from rlrun.types import Progress, StateDict

UPDATES = 8  # of the weights: how much an algorithm is let learn
CHUNKS = 96  # taken from the source, where an algorithm makes no gradient steps
FEWEST = 3  # chunks at least
CLOCK = ("time", "wall_seconds", "seconds")  # how names begin whose value depends on the clock
PREEMPTED = 75
FAST = ("cartpole", "cliffwalking", "pendulum")  # environments that need no extra, cost little and pay from the start
ENVIRONMENTS = ("env=cartpole", "env=frozenlake", "env=pendulum", "env=bandit/gaussian env.context=one_hot")
RUN = "+smoke=on total_timesteps=300 logger.freq=40 checkpoint.freq=75 eval.freq=120 eval.episodes=3".split()
RUN += ["eval.max_steps=50"]


def check_algorithm(algo: str | type, *words: str) -> None:
    """Check the contract of every algorithm, in a few seconds.

    Its actions are of the space; the same seed gives the same numbers and another one others; learning changes what is
    learned; what changes is part of the state; saved and loaded, it goes on like the one it was; an evaluation in
    between changes nothing; the greedy policy draws no random number; and a run that is preempted twice and resumed
    ends like the one left alone.

    Args:
        algo: the registered name, or the class that is registered.
        words: overrides, as for the command, such as `env=cartpole` and options that keep it small; without an
            environment among them one is chosen that has tuned values, or else that fits.

    Raises:
        AssertionError: something of this does not hold.
        ConfigError: the algorithm cannot be built.
    """
    plugins.load_installed()
    name = algo if isinstance(algo, str) else _name(algo)
    given = [*words] if any(word.startswith(("env=", "env.id=")) for word in words) else [*environment(name), *words]
    chosen = [f"algo={name}", *given]
    _check_learner(name, chosen)
    _check_resume(name, chosen)


def environment(name: str) -> list[str]:
    """The words that choose an environment for an algorithm: one it has tuned values for, else one that fits.

    Of several it has tuned values for, one of `FAST`, or else the first.

    Raises:
        ConfigError: none of ours does.
    """
    tuned = folders.conf_dir() / "tuned"
    files = sorted(str(file.relative_to(tuned).with_suffix("")) for file in tuned.rglob("*.yaml"))
    if found := [file.removeprefix(f"{name}-") for file in files if file.startswith(f"{name}-")]:
        return [f"env={min(found, key=lambda env: env not in FAST)}"]
    for words in ENVIRONMENTS:
        try:
            learner(f"algo={name}", *words.split()).close()
        except ConfigError as error:
            refused = error
        else:
            return words.split()
    raise refused


# --- a learner by itself ---------------------------------------------------------------------------------------------


class Learner:
    """What computes in a run, taken through some chunks by hand."""

    def __init__(self, made: Parts):
        self.parts = made
        self.progress = Progress(500)
        self.stream = iter(made.source)
        made.source.prove()  # as a run does before it begins: from then on a state holds the environments'

    def learn(self, updates: int = UPDATES) -> Learner:
        """Go on for so many updates, or some chunks where it makes none."""
        goal = self.progress.gradient_steps + updates
        for number, chunk in enumerate(self.stream, 1):
            self.progress.advance(chunk)
            metrics = self.parts.algo.learn(chunk.data, self.progress)
            name = self.parts.cfg.algo.name
            assert isinstance(metrics, Mapping), f"{name}: learn returns {metrics!r}, not a dict of metrics"
            self.parts.source.publish(self.parts.algo.agent)
            done = self.progress.gradient_steps >= goal or (number >= CHUNKS and not self.progress.gradient_steps)
            if done and number >= FEWEST:
                break
        return self

    def state_dict(self) -> StateDict:
        """What a checkpoint holds of the learner and its experience; no array is shared with it."""
        plain, arrays = encode({name: part.state_dict() for name, part in self._own().items()})
        state: StateDict = decode(plain, {name: np.array(array) for name, array in arrays.items()})
        return state

    def load_state_dict(self, state: StateDict) -> None:
        must_resemble(state, {name: part.state_dict() for name, part in self._own().items()})
        for name, part in self._own().items():
            part.load_state_dict(state[name])
        self.stream = iter(self.parts.source)

    def close(self) -> None:
        self.parts.close()

    def _own(self) -> dict[str, Any]:
        made = self.parts
        own = {"algo": made.algo, "environments": made.environments, "buffer": made.buffer, "source": made.source}
        return {name: part for name, part in own.items() if part is not None} | {"progress": self.progress}


def learner(*words: str) -> Learner:
    """The parts of a small run that words describe, at its beginning."""
    return Learner(parts(validate(_composed(words))))


def _composed(words: Sequence[str]) -> dict[str, Any]:
    compose.set_up([])
    return compose.compose([*words, "+smoke=on", "device=cpu"]).data


def _check_learner(name: str, words: Sequence[str]) -> None:
    data = _composed(words)

    def begun(seed: int) -> Learner:
        return Learner(parts(validate(data | {"seed": seed})))

    with closing(begun(3)) as one, closing(begun(3)) as again, closing(begun(4)) as other:
        _check_actions(name, other)
        before, others = one.state_dict()["algo"], _data(one.parts.algo)
        for each in (one, again, other):
            each.learn()
        first = one.state_dict()
        _assert_same(name, first, again.state_dict(), "the same seed does not give the same numbers")
        assert different(first, other.state_dict()), f"{name}: another seed gives the same numbers"
        learned = {key for key, _ in leaves(_arrays(before))}
        assert not learned or different(_arrays(before), _arrays(first["algo"])), f"{name}: learning changes nothing"
        changed = [key for key, value in _data(one.parts.algo).items() if different(others.get(key), value)]
        assert not changed, f"{name}: learning changes what `state` does not name: {', '.join(changed)}"

        other.load_state_dict(first)
        _evaluate(again)
        going_on = one.learn().state_dict()
        _assert_same(name, going_on, other.learn().state_dict(), "loaded again, it goes on in another way")
        _assert_same(name, going_on, again.learn().state_dict(), "an evaluation in between changes how it goes on")
        _check_greedy(name, one)


def _check_actions(name: str, one: Learner) -> None:
    """What an agent does is of the space, one row for each environment."""
    space, agent = one.parts.spec.action_space, one.parts.algo.agent.fork(np.random.default_rng(9))
    with closing(one.parts.environments.evaluation(2)) as envs:
        said: Any = agent.act(envs.reset([1, 2]), agent.initial_memory(2), explore=False, env_steps=100)
    assert isinstance(said, tuple) and len(said) == 3, f"{name}: act returns {said!r}, not (actions, memory, extras)"
    action: Any = said[0]
    found = f"{getattr(action, 'dtype', type(action).__name__)} {np.shape(action)}"
    wanted = f"{space.dtype} {(2, *space.shape)}"
    fits = isinstance(action, np.ndarray) and np.can_cast(action.dtype, space.dtype, "same_kind")
    assert fits and action.shape == (2, *space.shape), f"{name}: its actions are {found}, two of the space are {wanted}"


def _check_greedy(name: str, one: Learner) -> None:
    """The greedy policy is a function of what is seen, unless all it is is a draw."""
    agent, before = one.parts.algo.agent, one.state_dict()
    with closing(one.parts.environments.evaluation(2)) as envs:
        obs, memory = envs.reset([1, 2]), agent.initial_memory(2)
        first, second = (agent.act(obs, memory, explore=False, env_steps=100)[0] for _ in range(2))
    if different(before, one.state_dict()):
        assert not _arrays(before["algo"]), f"{name}: its greedy policy changes its state"
    else:
        assert np.array_equal(first, second), f"{name}: its greedy policy is not a function of what is seen"


def _evaluate(one: Learner) -> None:
    for explore in (False, True):
        agent = one.parts.algo.agent.fork(np.random.default_rng(9))
        with closing(one.parts.environments.evaluation(2)) as envs:
            evaluate(agent, envs, [1, 2, 3], explore=explore, max_steps=50)


def _data(part: Stateful) -> dict[str, Any]:
    """Copies of the data in attributes that the state of a part, or of a part of it, does not name, by dotted path.

    What is shared with an attribute that is named, an array or a random stream, counts as named.
    """
    named, others = dict[str, Any](), dict[str, Any]()
    for path, owner, name, value in _attributes(part):
        (named if name in (*owner.state, *owner.scratch) else others)[path] = value
    arrays = [value for value in named.values() if isinstance(value, np.ndarray)]
    shared = {id(value) for value in named.values() if isinstance(value, np.random.Generator)}
    return {
        path: copy.deepcopy(saved(value))
        for path, value in others.items()
        if _is_data(value)
        and id(value) not in shared
        and not (isinstance(value, np.ndarray) and any(np.shares_memory(value, array) for array in arrays))
    }


def _attributes(part: Any, path: str = "") -> Iterator[tuple[str, Stateful, str, Any]]:
    """Every attribute of a part and of the parts in its state: dotted path, owner, name, value."""
    if isinstance(part, Stateful):
        for name, value in vars(part).items():
            yield path + name, part, name, value
            if name in part.state:
                yield from _attributes(value, f"{path}{name}.")


def _is_data(value: Any) -> bool:
    """Whether a value is an array, a random stream, or plain all through."""
    if isinstance(value, Mapping):
        return all(map(_is_data, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic | np.ndarray | np.random.Generator)


def _arrays(state: Any) -> dict[str, Any]:
    """The arrays of a state, by name."""
    return encode(state)[1]


def _assert_same(name: str, one: Any, other: Any, sentence: str) -> None:
    found = different(one, other)
    assert not found, f"{name}: {sentence}: {', '.join(found[:5])}{', …' * (len(found) > 5)}"


def different(one: Any, other: Any) -> list[str]:
    """The names of what differs between two states; NaN is like NaN."""
    (plain, arrays), (plain_too, arrays_too) = encode(one), encode(other)
    here, there = dict(leaves(plain)), dict(leaves(plain_too))
    found = [key for key in (here | there) if here.get(key, here) != there.get(key, there)]
    for key in arrays | arrays_too:
        mine, its = (np.asarray(found.get(key)) for found in (arrays, arrays_too))
        if mine.dtype != its.dtype or mine.shape != its.shape or mine.tobytes() != its.tobytes():
            found.append(key)
    return found


def _name(algo: type) -> str:
    """The name that a class is registered under."""
    for name in registry.names("algo"):
        if registry.get("algo", name).factory is algo:
            return name
    raise ConfigError("algo", f"{algo.__name__} is not registered", '@register("algo", ItsConfig) does that')


# --- whole runs ------------------------------------------------------------------------------------------------------


def _check_resume(name: str, words: Sequence[str]) -> None:
    """In this process, where a start costs nothing; a kill from outside finds nothing else on the disk."""
    from rlrun import cli

    with tempfile.TemporaryDirectory() as folder:
        alone, disturbed = Path(folder) / "alone", Path(folder) / "disturbed"
        quiet = [f"logger.{name}=false" for name in ("tensorboard", "jsonl")]  # without rows, no figure is drawn
        training = [*words, *RUN, "device=cpu", "logger.console=off", *quiet]
        with interrupted() as checks:
            assert cli.main([*training, f"hydra.run.dir={alone}"]) == 0, f"{name}: a run does not finish"
        for command in ([*training, f"hydra.run.dir={disturbed}"], ["resume", str(disturbed)]):
            with interrupted(after=checks[0] * 2 // 5):
                assert cli.main(command) == PREEMPTED, f"{name}: a signal does not preempt a run"
        assert cli.main(["resume", str(disturbed)]) == 0, f"{name}: a run that was preempted cannot be resumed"
        found = differences(alone, disturbed)
        assert not found, f"{name}: resumed, a run is not like the one left alone: {'; '.join(found[:5])}"


@contextmanager
def interrupted(after: int = 0) -> Iterator[list[int]]:
    """Runs in here get SIGTERM when they ask for the so many-th time whether there is a signal; 0 is never.

    They ask before every sweep over the environments, in training and evaluation, and what is yielded counts. That
    they ask as well while they try whether environments can be saved is left out: nothing is there yet to be resumed.
    """
    ask, prove, asked = Interrupt.check, env_state.prove, [0]

    def check(interrupt: Interrupt) -> None:
        asked[0] += 1
        if asked[0] == after:
            signal.raise_signal(signal.SIGTERM)
        ask(interrupt)

    Interrupt.check = check  # type: ignore[method-assign,assignment]
    env_state.prove = lambda make, check=None, masks="": prove(make, None, masks)
    try:
        yield asked
    finally:
        Interrupt.check, env_state.prove = ask, prove  # type: ignore[method-assign]


def differences(one: str | os.PathLike[str], two: str | os.PathLike[str]) -> list[str]:
    """What two finished runs do not share apart from the clock; empty if resuming was exact."""
    one, two = Path(one), Path(two)
    found = []
    for name in ("metrics.csv", "eval.csv"):
        rows, others = table(one / name), table(two / name)
        if len(rows) != len(others):
            found.append(f"{name}: {len(rows)} and {len(others)} rows")
        pairs = enumerate(zip(rows, others, strict=False))
        found += itertools.islice((f"{name}: row {n}: {a} != {b}" for n, (a, b) in pairs if a != b), 3)
    here, there = contents(one / "checkpoints" / "last"), contents(two / "checkpoints" / "last")
    if not any(".safetensors:" in key for key in here):
        found.append(f"no weights in {one / 'checkpoints' / 'last'}")
    return found + [
        f"checkpoint: {key}" for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)
    ]


def table(path: Path) -> list[list[str]]:
    """Header and rows of a CSV file without the columns that depend on the clock, every cell as the text it is."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    keep = [n for n, key in enumerate(header) if not key.startswith(CLOCK)]
    return [[row[n] for n in keep] for row in [header, *rows]]


def contents(checkpoint: Path) -> dict[str, Any]:
    """Everything that a checkpoint holds as `file:path -> bytes or value`."""
    from safetensors.numpy import load_file

    found: dict[str, Any] = {}
    for path in sorted(checkpoint.rglob("*.safetensors")):
        for name, array in load_file(path).items():
            found[f"{path.name}:{name}"] = (array.dtype.str, array.shape, array.tobytes())
    for path in sorted(checkpoint.rglob("*.json")):
        if path.name != "manifest.json":  # hashes of the other files, the clock's values included
            found |= {f"{path.name}:{key}": value for key, value in leaves(json.loads(path.read_text()))}
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its path, apart from the clock's."""
    items: Iterable[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    if items is None:
        yield path, value
        return
    for key, child in items:
        if not str(key).startswith(CLOCK):
            yield from leaves(child, f"{path}/{key}")
