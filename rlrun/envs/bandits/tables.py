"""Contextual bandits made of tables: a row is shown without its label, and the arm that is its label wins.

Every step is an episode of length 1. Reward 1 for the right arm, else 0, so that the regret is 1 - reward. Only the
mushrooms pay otherwise: to pass one by gives nothing, to eat one does good or, with chance, great harm.

Source: Riquelme, Tucker & Snoek 2018, arXiv:1802.09127; mushrooms: Blundell et al. 2015, arXiv:1505.05424, section 5.3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np

from rlrun.checks import Bounded, OneOf, Share, Within, digest
from rlrun.envs.bandits import datasets
from rlrun.envs.bandits.copies import BanditEnvironments, Copies
from rlrun.envs.bandits.datasets import BUNDLED, UCI, Dataset, Table
from rlrun.errors import ConfigError
from rlrun.files import of_user
from rlrun.registry import register
from rlrun.seeding import Role, SeedTree
from rlrun.state import generator_state, restore_generator
from rlrun.types import Array, EnvSpec, Space, StateDict, Step


class Payoffs(NamedTuple):
    """What the arms bring, [K, A] for K kinds of rows: `win` with probability `chance`, else `lose`."""

    win: Array
    lose: Array
    chance: Array

    @property
    def expected(self) -> Array:
        return self.chance * self.win + (1 - self.chance) * self.lose


def one_for_the_right_arm(arms: int) -> Payoffs:
    """Payoffs of classification: kind k pays 1 for arm k."""
    right = np.eye(arms)
    return Payoffs(right, right, np.ones((arms, arms)))


class Walk:
    """Rows in random order, each once before any comes again in a new order.

    Its state is where the last shuffle began and how far the walk has come, not the order itself.
    """

    def __init__(self, rows: int, rng: np.random.Generator):
        self.rows, self.rng = rows, rng
        self._shuffle()

    def take(self, count: int) -> Array:
        """The next rows, int [count]."""
        taken: list[Array] = []
        while count:
            if self.at == self.rows:
                self._shuffle()
            taken.append(self.order[self.at : self.at + count])
            self.at += len(taken[-1])
            count -= len(taken[-1])
        return np.concatenate(taken)

    def state_dict(self) -> StateDict:
        return {"before_shuffle": self._before, "at": self.at}

    def load_state_dict(self, state: StateDict) -> None:
        restore_generator(self.rng, state["before_shuffle"])
        self._shuffle()
        self.at = state["at"]

    def _shuffle(self) -> None:
        self._before = generator_state(self.rng)
        self.order, self.at = self.rng.permutation(self.rows), 0


class DataVector(Copies):
    """E copies of a data bandit, stepped as arrays.

    One walk through the rows serves the whole vector: every copy is dealt the next row, so that all rows are seen once
    before any is seen again; one with a stream of its own draws rows and rewards from that.

    Args:
        env_id: name of the environment.
        data: rows; their labels say which of the K kinds they are.
        payoffs: [K, A] what the arms bring.
        num_envs: E.
        separate: give every copy its own stream: for evaluation.
    """

    def __init__(self, env_id: str, data: Dataset, payoffs: Payoffs, num_envs: int, *, separate: bool = False):
        kinds, arms = payoffs.win.shape
        spec = EnvSpec(
            id=env_id,
            obs_space=_box(data.contexts.shape[1]),
            action_space=Space("discrete", (), np.dtype(np.int64), n=arms),
            num_envs=num_envs,
            max_episode_steps=1,
            reward_range=(float(min(payoffs.win.min(), payoffs.lose.min())), float(payoffs.win.max())),
        )
        super().__init__(spec, kinds)
        self._data, self._payoffs, self._separate = data, payoffs, separate
        self._expected, self._best = payoffs.expected, payoffs.expected.max(axis=1)
        self._noisy = bool(((payoffs.chance < 1) & (payoffs.win != payoffs.lose)).any())
        self._row = np.zeros(num_envs, np.int64)  # [E] being shown
        self._start([0])

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start all copies, on one walk made of all seeds or each on its own. Returns obs [E, d]."""
        self._start(seeds)
        return self._begin(seeds, self._separate)

    def reset_one(self, env: int, seed: int) -> Array:
        """Start one copy on a stream of its own. Returns its obs [d]."""
        self._own[env] = np.random.default_rng(int(seed))
        self._row[env] = self._own[env].integers(len(self._data.labels))
        self.obs[env] = self._data.contexts[self._row[env]]
        return self.obs[env]

    def step(self, action: Array) -> Step:
        """Pull one arm in every copy; the reward belongs to the row that was shown before."""
        kind = self._data.labels[self._row]
        reward, best = self._pull(kind, action), self._best[kind]
        self._meter.add(action, reward, best - self._expected[kind, action], best - reward, kind)
        return self._end(reward)

    def state_dict(self) -> StateDict:
        return {
            "grade": "exact",
            "row": self._row.copy(),
            "walk": self._walk.state_dict(),
            "noise": generator_state(self._noise),
            **self._books(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._walk.load_state_dict(state["walk"])
        restore_generator(self._noise, state["noise"])
        self._restore_books(state)
        self._show(np.array(state["row"]))

    def _start(self, seeds: Sequence[int]) -> None:
        walk, noise = np.random.SeedSequence([int(seed) for seed in seeds]).spawn(2)
        self._walk = Walk(len(self._data.labels), np.random.default_rng(walk))
        self._noise = np.random.default_rng(noise)

    def _pull(self, kind: Array, action: Array) -> Array:
        """Rewards [E]."""
        if not self._noisy:
            return self._expected[kind, action]
        noise = self._noise.random(self.num_envs)
        for e, rng in self._own.items():
            noise[e] = rng.random()
        win, lose, chance = (table[kind, action] for table in self._payoffs)
        return np.where(noise < chance, win, lose)

    def _show_next(self) -> None:
        row = self._walk.take(self.num_envs)
        for e, rng in self._own.items():
            row[e] = rng.integers(len(self._data.labels))
        self._show(row)

    def _show(self, row: Array) -> None:
        self._row = row
        self.obs[:] = self._data.contexts[row]


def _box(size: int) -> Space:
    bound = np.full(size, np.inf, np.float32)
    return Space("box", (size,), np.dtype(np.float32), low=-bound, high=bound)


@dataclass
class DataConfig(Bounded):
    """Options of every data bandit."""

    name: str = "bandit/data"
    id: str = "Data"  # what the run is filed under
    num_envs: Annotated[int, Within(1, 10**6)] = 1  # copies played side by side
    standardize: bool = True  # scale numbers to mean 0 and standard deviation 1
    rows: Annotated[int, Within(2)] | None = None  # keep so many rows, drawn at random; null: all


@dataclass
class BundledConfig(DataConfig):
    """Options of the data sets that come with scikit-learn."""

    name: str = "bandit/sklearn"
    id: str = "Wine"  # what the run is filed under
    dataset: Annotated[str, OneOf(*BUNDLED)] = "wine"  # breast_cancer, digits, iris or wine


@dataclass
class FileConfig(DataConfig):
    """Options of data sets from the UCI repository."""

    path: str | None = None  # the file as UCI has it, gzipped or not, or the folder that it is in
    download: bool = False  # fetch the data where no path is given; they are kept for the next time


@dataclass
class UCIConfig(FileConfig):
    """Options of the data sets from the UCI repository that are classified."""

    name: str = "bandit/uci"
    id: str = "Covertype"  # what the run is filed under
    # adult, census, covertype, magic or shuttle
    dataset: Annotated[str, OneOf(*(UCI.keys() - {"mushroom"}))] = "covertype"
    label: str | None = None  # the column to predict; null: the data set's usual one


@dataclass
class MushroomConfig(FileConfig):
    """Options of the mushrooms."""

    name: str = "bandit/mushroom"
    id: str = "Mushroom"  # what the run is filed under
    r_pass: float = 0.0  # reward for passing one by
    r_edible: float = 5.0  # reward for eating an edible one
    r_lucky: float = 5.0  # reward for eating a poisonous one that does no harm
    r_poisoned: float = -35.0  # reward for eating a poisonous one that does
    p_lucky: Share = 0.5  # how probable it is that a poisonous one does no harm


@dataclass
class CSVConfig(DataConfig):
    """Options of a table of your own."""

    name: str = "bandit/csv"
    id: str = "Table"  # what the run is filed under
    path: str | None = None  # the file, gzipped or not
    label: Any = -1  # the column to predict: its name, or its number from 0 on (-1 is the last)
    delimiter: str = ","  # what stands between the values; a space stands for any number of blanks
    header: bool = True  # the first line has the names of the columns
    leave_out: list[str] = field(default_factory=list)  # columns that shall be no part of the context

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delimiter) != 1:
            raise ConfigError("delimiter", f"must be one character, got {self.delimiter!r}")


class _DataBandits(BanditEnvironments):
    """Base: training and evaluation show the same rows, each in an order of its own."""

    def __init__(self, cfg: DataConfig, data: Dataset, payoffs: Payoffs):
        self._cfg, self._data, self._payoffs = cfg, data, payoffs

    def fingerprint(self) -> str:
        """A hash of all rows and of what the arms pay."""
        return digest(self._data.contexts, self._data.labels, *self._payoffs)

    def _vector(self, num_envs: int, training: bool = False, separate: bool = False) -> DataVector:
        return DataVector(self._cfg.id, self._data, self._payoffs, num_envs, separate=separate)


@register("env", BundledConfig)
class BundledBandits(_DataBandits):
    """A data set that comes with scikit-learn; the arms are its classes."""

    def __init__(self, cfg: BundledConfig, seeds: SeedTree, **_: Any):
        data = _load(cfg, seeds, lambda: datasets.bundled(cfg.dataset), "target")
        super().__init__(cfg, data, one_for_the_right_arm(len(data.classes)))


@register("env", UCIConfig)
class UCIBandits(_DataBandits):
    """A data set from the UCI repository; the arms are its classes."""

    def __init__(self, cfg: UCIConfig, seeds: SeedTree, **_: Any):
        data = _load_uci(cfg, cfg.dataset, cfg.label, seeds)
        super().__init__(cfg, data, one_for_the_right_arm(len(data.classes)))


@register("env", MushroomConfig)
class MushroomBandits(_DataBandits):
    """Mushrooms: to pass by (arm 0) or to eat (arm 1)."""

    def __init__(self, cfg: MushroomConfig, seeds: SeedTree, **_: Any):
        data = _load_uci(cfg, "mushroom", None, seeds)
        if data.classes != ["e", "p"]:
            raise ConfigError("env.path", f"mushrooms are e or p, this file has {', '.join(data.classes)}")
        edible, poisonous = [cfg.r_pass, cfg.r_edible], [cfg.r_pass, cfg.r_lucky]
        win, lose = np.array([edible, poisonous]), np.array([edible, [cfg.r_pass, cfg.r_poisoned]])
        super().__init__(cfg, data, Payoffs(win, lose, np.array([[1.0, 1.0], [1.0, cfg.p_lucky]])))


@register("env", CSVConfig)
class CSVBandits(_DataBandits):
    """A table of your own; the arms are the values of one of its columns."""

    def __init__(self, cfg: CSVConfig, seeds: SeedTree, **_: Any):
        if cfg.path is None:
            raise ConfigError("env.path", "needs a value", "write env.path=FILE.csv")
        path = of_user(cfg.path)
        read = functools.partial(datasets.read_table, path, delimiter=cfg.delimiter, header=cfg.header)
        data = _load(cfg, seeds, read, cfg.label, leave_out=cfg.leave_out)
        super().__init__(cfg, data, one_for_the_right_arm(len(data.classes)))


def _load_uci(cfg: FileConfig, name: str, label: str | None, seeds: SeedTree) -> Dataset:
    """From the given file, or else by a download that was asked for."""
    layout, path = UCI[name], cfg.path
    if path is None and not cfg.download:
        hint = f"write env.path=FOLDER/{layout.file}, or env.download=true"
        raise ConfigError("env.path", f"{name} is a file of the UCI repository", hint)
    read = functools.partial(datasets.fetch, name)
    if path is not None:
        read = functools.partial(datasets.read_uci, name, of_user(path))
    return _load(
        cfg,
        seeds,
        read,
        label or layout.label,
        leave_out=layout.leave_out,
        categorical=layout.categorical,
        complete_rows=layout.complete_rows,
        keep_constant=layout.keep_constant,
    )


_last: dict[Any, Dataset] = {}  # the data set loaded last: a run asks for it twice, to be checked and to be built


def _load(cfg: Any, seeds: SeedTree, read: Callable[[], Table], label: str | int, **how: Any) -> Dataset:
    """Read and encode, unless the same was done just before."""
    key = repr(cfg), seeds.seed, _stamp(getattr(cfg, "path", None))
    if key not in _last:
        _last.clear()
        rng = seeds.generator(Role.PROBLEM)
        sample = None if cfg.rows is None else (cfg.rows, rng)
        _last[key] = datasets.encode(read(), label, standardize=cfg.standardize, sample=sample, **how)
    return _last[key]


def _stamp(path: str | None) -> tuple[int, int] | None:
    """What changes with a file."""
    if path is None or not of_user(path).is_file():
        return None
    stat = of_user(path).stat()
    return stat.st_mtime_ns, stat.st_size
