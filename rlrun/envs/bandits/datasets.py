"""Tables for contextual bandits: read, cleaned and encoded, so that a row is a context and its label the right arm.

A table comes from scikit-learn itself (wine, iris, digits, breast_cancer), from a file in the layout of the UCI
repository, from a download that was asked for, or from any CSV file. Whatever its source, `encode` makes of it numbers
on comparable scales, takes the label out of the context, and gives every label an arm.

Letters: N rows, d context columns, A arms. scikit-learn is needed for all of it: `pip install 'rlrun[data]'`.

Source: the data sets and encodings of Riquelme, Tucker & Snoek 2018, arXiv:1802.09127, appendix.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import importlib
import io
import itertools
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from rlrun.errors import ConfigError
from rlrun.registry import did_you_mean
from rlrun.types import Array

Table = dict[str, Array]  # name -> column [N]: float64 with NaN where missing, or str with "" where missing

MISSING = {"", "?", "na", "nan", "null", "none"}
MAX_CATEGORIES = 1000  # a column with more different words is a key, not a property
BUNDLED = ("breast_cancer", "digits", "iris", "wine")


class Dataset(NamedTuple):
    """Rows with the arm that is right for each."""

    contexts: Array  # float32 [N, d]
    labels: Array  # int64 [N] in 0..A-1
    classes: list[str]  # [A] the labels as the table has them, in the order of the arms


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out at the UCI repository (https://archive.ics.uci.edu), and where else it can be had."""

    file: str
    label: str  # the column to predict, unless another one is asked for
    columns: tuple[str, ...] | None = None  # names; None: the first line has them
    delimiter: str = ","  # " ": any blanks
    leave_out: tuple[str, ...] = ()  # columns that say nothing of a row
    categorical: bool = False  # numbers are codes of categories
    complete_rows: bool = False  # rows with anything missing are left out
    keep_constant: bool = False  # one-hot columns of categories that all rows share stay
    openml: int | None = None  # id at https://www.openml.org
    fetcher: str | None = None  # function of sklearn.datasets


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}{i}" for i in range(1, count + 1))


UCI = {
    "adult": Layout(
        "adult.data",
        label="income",
        columns=(
            *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
            *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country"),
            "income",
        ),
        complete_rows=True,
        openml=1590,
    ),
    "census": Layout("USCensus1990.data.txt", label="dOccup", leave_out=("caseid",), categorical=True),
    "covertype": Layout(
        "covtype.data",
        label="cover-type",
        columns=(
            *("elevation", "aspect", "slope", "to-hydrology", "above-hydrology", "to-roads"),
            *("shade-9am", "shade-noon", "shade-3pm", "to-fire-points"),
            *_numbered("wilderness", 4),
            *_numbered("soil", 40),
            "cover-type",
        ),
        fetcher="fetch_covtype",
    ),
    "magic": Layout(
        "magic04.data",
        label="class",
        columns=(
            *("length", "width", "size", "conc", "conc1", "asym", "m3-long", "m3-trans", "alpha", "dist"),
            "class",
        ),
        openml=1120,
    ),
    "mushroom": Layout(
        "agaricus-lepiota.data",
        label="edibility",
        columns=(
            *("edibility", "cap-shape", "cap-surface", "cap-color", "bruises", "odor", "gill-attachment"),
            *("gill-spacing", "gill-size", "gill-color", "stalk-shape", "stalk-root", "stalk-surface-above-ring"),
            *("stalk-surface-below-ring", "stalk-color-above-ring", "stalk-color-below-ring", "veil-type"),
            *("veil-color", "ring-number", "ring-type", "spore-print-color", "population", "habitat"),
        ),
        keep_constant=True,  # the published 117 columns have the one veil type in them
        openml=24,
    ),
    "shuttle": Layout(
        "shuttle.trn", label="class", columns=(*_numbered("sensor", 9), "class"), delimiter=" ", openml=40685
    ),
}


def bundled(name: str) -> Table:
    """One of the data sets that come with scikit-learn; the label is the column `target`."""
    bunch = getattr(sklearn("datasets"), f"load_{name}")()
    return dict(zip(bunch.feature_names, bunch.data.T, strict=True)) | {"target": bunch.target.astype(np.float64)}


def fetch(name: str) -> Table:
    """A UCI data set by download, which scikit-learn keeps in its own folder for the next time.

    Raises:
        ConfigError: it cannot be had; says what to do instead.
    """
    layout, datasets = UCI[name], sklearn("datasets")
    hint = f"give the file itself: env.path=FOLDER/{layout.file}"
    if layout.fetcher is None and layout.openml is None:
        raise ConfigError("env.download", f"there is no place to fetch {name} from", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every attempt
            if layout.fetcher is not None:
                bunch = getattr(datasets, layout.fetcher)(n_retries=1)
            else:
                bunch = datasets.fetch_openml(data_id=layout.openml, as_frame=False, parser="liac-arff", n_retries=1)
    except (OSError, ValueError) as error:  # no network; an answer that is not the data
        reason = " ".join(str(error).split())
        raise ConfigError("env.download", f"{name} could not be fetched: {reason}", hint) from error
    return _from_bunch(name, layout, bunch)


def _from_bunch(name: str, layout: Layout, bunch: Any) -> Table:
    """What a fetcher returned, in the words of the UCI file: there categories are codes, counted from 0."""
    columns = [column for column in layout.columns or () if column != layout.label]
    if bunch.data.shape[1] != len(columns):
        raise ConfigError("env.download", f"{name} has {bunch.data.shape[1]} columns there, not {len(columns)}")
    categories = getattr(bunch, "categories", None) or {}
    table = {}
    for column, theirs, codes in zip(columns, bunch.feature_names, bunch.data.T, strict=True):
        words = np.array([*categories.get(theirs, ()), ""])  # a missing code counts from the end
        table[column] = words[np.nan_to_num(codes, nan=-1).astype(int)] if theirs in categories else codes
    return {column: _parsed(words) for column, words in table.items()} | {layout.label: _parsed(bunch.target)}


def read_uci(name: str, path: Path) -> Table:
    """A UCI data set from its file, or from the folder that has it, as it is or as .gz.

    Raises:
        ConfigError: the file is not there, or it is another one.
    """
    layout = UCI[name]
    if path.is_dir():
        found = [path / layout.file, path / f"{layout.file}.gz"]
        path = next((file for file in found if file.is_file()), found[0])
    table = read_table(path, columns=layout.columns, delimiter=layout.delimiter)
    if layout.label not in table:
        raise ConfigError("env.path", f"{path} is not {layout.file}: it has no column {layout.label!r}")
    return table


def read_table(path: Path, columns: Sequence[str] | None = None, delimiter: str = ",", header: bool = True) -> Table:
    """A text file as columns. Numbers alone are read fast; `?`, `NA`, `nan` and nothing at all count as missing.

    Args:
        path: the file, which may be gzipped.
        columns: their names; a file with names given has no line of names.
        delimiter: what stands between the values; a space stands for any number of blanks.
        header: the first line has the names; without it they are "0", "1", ...

    Raises:
        ConfigError: there is no such file, nothing in it, or its rows are of different lengths.
    """
    header = header and columns is None
    with _opened(path) as file:
        first, second = (next(lines, None) for lines in [_lines(file, delimiter)] * 2)
    if first is None:
        raise ConfigError("env.path", f"{path} is empty")
    if header and second is None:
        raise ConfigError("env.path", f"{path} has a line of names and no rows")
    names = list(columns or (first if header else map(str, range(len(first)))))
    _check_first_line(path, first, names, delimiter, header)
    values = _numbers(path, delimiter, header)
    if values is None:
        values = _words(path, len(names), delimiter, header)
    table = {name: _parsed(column) for name, column in zip(names, values.T, strict=True)}
    _require_finite(path, table, first=1 + header)
    return table


def _require_finite(path: Path, table: Table, first: int) -> None:
    """ConfigError names an infinite number by its place; `first` is the number of the first row."""
    for name, column in table.items():
        if column.dtype.kind == "f" and np.isinf(column).any():
            row = first + int(np.isinf(column).argmax())
            problem = f"row {row} of {path} has {column[row - first]} in column {name!r}"
            raise ConfigError("env.path", problem, "a context needs finite numbers; leave it empty where it is missing")


def _check_first_line(path: Path, first: Sequence[str], names: Sequence[str], delimiter: str, header: bool) -> None:
    if len(first) != len(names):
        raise ConfigError("env.path", f"line 1 of {path} has {len(first)} values, not {len(names)}")
    if len(first) == 1:
        likely = next((mark for mark in ",;\t " if mark != delimiter and mark in first[0]), None)
        hint = f"write env.delimiter={likely!r}" if likely else "a row needs a context and a label"
        raise ConfigError("env.delimiter", f"{path} has one column only", hint)
    if header and any(map(_is_number, first)):
        raise ConfigError("env.header", f"the first line of {path} has numbers, not names", "write env.header=false")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError("env.path", f"{path} has two columns {twice!r}", "give every column a name of its own")


def _numbers(path: Path, delimiter: str, header: bool) -> Array | None:
    """[N, columns] float64; None if not everything is a number."""
    with _opened(path) as file:
        try:
            blanks = None if delimiter == " " else delimiter
            return np.loadtxt(file, delimiter=blanks, skiprows=int(header), ndmin=2, comments=None)
        except ValueError:
            return None


def _words(path: Path, width: int, delimiter: str, header: bool) -> Array:
    """[N, width] of str; ConfigError names a line of another length."""
    with _opened(path) as file:
        rows = list(itertools.islice(_lines(file, delimiter), int(header), None))
    for number, row in enumerate(rows, start=1 + header):
        if len(row) != width:
            raise ConfigError("env.path", f"row {number} of {path} has {len(row)} values, not {width}")
    return np.array(rows, object)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The text of a file, gzipped or not; ConfigError if it cannot be read."""
    if path.suffix == ".Z":
        raise ConfigError("env.path", f"{path} is packed", "unpack it first; .gz and .zip can be read as they are")
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise ConfigError("env.path", f"{path} is no file")
    opener: Any = {".gz": gzip.open, ".zip": _open_zipped}.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except FileNotFoundError as error:
        raise ConfigError("env.path", f"there is no file {path}") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("env.path", f"{path} cannot be read as a table: {reason}") from error


def _open_zipped(path: Path, mode: str, **how: Any) -> TextIO:
    """The text of the one file in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ConfigError("env.path", f"{path} has {len(names)} files, not one", "unpack it, and name the file")
        return io.TextIOWrapper(archive.open(names[0]), **how)


def _lines(file: TextIO, delimiter: str) -> Iterator[list[str]]:
    """The values of every line that has any, without the blanks around them."""
    rows = map(str.split, file) if delimiter == " " else csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    for row in rows:
        if any(word and not word.isspace() for word in row):
            yield [word.strip() for word in row]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return word.lower() not in MISSING


def _parsed(column: Array) -> Array:
    """A column as numbers if it is nothing else, otherwise as words."""
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    words = ["" if str(word).lower() in MISSING else str(word) for word in column]
    try:
        return np.array([word or "nan" for word in words], np.float64)
    except ValueError:
        return np.array(words)


def encode(
    table: Table,
    label: str | int,
    *,
    standardize: bool = True,
    leave_out: Collection[str] = (),
    categorical: bool = False,
    complete_rows: bool = False,
    keep_constant: bool = False,
    sample: tuple[int, np.random.Generator] | None = None,
) -> Dataset:
    """Contexts and labels.

    Numbers come first: a missing one becomes its column's mean, and all are scaled to mean 0 and standard deviation 1.
    Then words, one-hot; a missing one is a category like the others. A column that is the same in all rows is left
    out. Rows without a label are, too. The arms are the labels that occur, sorted.

    Args:
        table: at least two columns.
        label: the column to predict, by name or number.
        standardize: scale the numbers.
        leave_out: columns that shall be no part of the context.
        categorical: encode numbers as if they were words.
        complete_rows: leave out every row with a missing value.
        keep_constant: keep one-hot columns that are the same in all rows.
        sample: (size, generator): keep so many rows, drawn without replacement.

    Raises:
        ConfigError: there is no such column, or nothing to choose from.
    """
    label = _name(table, label)
    for name in leave_out:
        _require("env.leave_out", table, name)
    used = {name: column for name, column in table.items() if name not in leave_out or name == label}
    used = _rows_of(used, _present(used.values() if complete_rows else [used[label]]))
    if sample is not None and sample[0] < len(used[label]):
        used = _rows_of(used, sample[1].choice(len(used[label]), sample[0], replace=False))
    target = used.pop(label)
    classes, labels = np.unique(target, return_inverse=True)
    if len(classes) < 2:
        only = f"only {classes[0]}" if len(classes) else "no label at all"
        raise ConfigError("env.label", f"a choice needs two classes, but column {label!r} has {only}")
    if len(classes) > MAX_CATEGORIES or len(classes) == len(target):
        raise ConfigError("env.label", f"column {label!r} has {len(classes)} different values, too many for classes")
    contexts = _contexts(used, standardize, categorical, keep_constant)
    names = [f"{value:g}" if target.dtype.kind == "f" else str(value) for value in classes]
    return Dataset(contexts, labels.astype(np.int64), names)


def _name(table: Table, column: str | int) -> str:
    """The name of the label's column; ConfigError if there is none."""
    names = list(table)
    if isinstance(column, str):
        _require("env.label", table, column)
        return column
    if not -len(names) <= column < len(names):
        raise ConfigError("env.label", f"there is no column {column}", f"they are 0 to {len(names) - 1}")
    return names[column]


def _require(key: str, table: Table, name: str) -> None:
    if name not in table:
        raise ConfigError(key, f"there is no column {name!r}", did_you_mean(name, table))


def _present(columns: Collection[Array]) -> Array:
    """[N] bool: rows in which all columns have a value."""
    return np.all([~np.isnan(c) if c.dtype.kind == "f" else c != "" for c in columns], axis=0)


def _rows_of(table: Table, rows: Array) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _contexts(table: Table, standardize: bool, categorical: bool, keep_constant: bool) -> Array:
    """float32 [N, d]: numbers, then words one-hot."""
    numbers = {} if categorical else {name: c for name, c in table.items() if c.dtype.kind == "f" and _varies(c)}
    words = {name: c for name, c in table.items() if categorical or c.dtype.kind != "f"}
    parts = []
    if numbers:
        values = sklearn("impute").SimpleImputer().fit_transform(np.stack(list(numbers.values()), axis=1))
        values = sklearn("preprocessing").StandardScaler().fit_transform(values) if standardize else values
        parts.append(values.astype(np.float32))
    for name, column in words.items():
        if len(np.unique(column)) > MAX_CATEGORIES:
            problem = f"column {name!r} has more than {MAX_CATEGORIES} different words"
            raise ConfigError("env.path", problem, f"if it is a key, leave it out: env.leave_out=[{name}]")
        if keep_constant or len(np.unique(column)) > 1:
            encoder = sklearn("preprocessing").OneHotEncoder(sparse_output=False, dtype=np.float32)
            parts.append(encoder.fit_transform(column[:, None]))
    if not parts:
        raise ConfigError("env.path", "no column but the label differs between rows: there is no context")
    return np.concatenate(parts, axis=1)


def _varies(column: Array) -> bool:
    """Whether a column of numbers has two different ones, missing ones aside."""
    present = column[~np.isnan(column)]
    return len(present) > 0 and bool(present.min() < present.max())


def sklearn(module: str) -> Any:
    """A module of scikit-learn; ConfigError if it is not installed."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ConfigError("env", "data bandits need scikit-learn", "pip install 'rlrun[data]'") from error
