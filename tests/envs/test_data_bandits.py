"""Data bandits: UCI's file layouts and other tables, no label in a context, rewards, walks, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, ROOT, Rlrun

from rlrun import cli
from rlrun.envs.bandits import datasets, tables
from rlrun.envs.bandits.datasets import BUNDLED, UCI, Dataset, bundled, encode, read_table, read_uci
from rlrun.envs.bandits.tables import (
    BundledBandits,
    BundledConfig,
    CSVBandits,
    CSVConfig,
    DataVector,
    MushroomBandits,
    MushroomConfig,
    UCIBandits,
    UCIConfig,
    Walk,
    one_for_the_right_arm,
)
from rlrun.errors import ConfigError
from rlrun.seeding import SeedTree

pytest.importorskip("sklearn")

SHAPES = {  # of the fixtures: rows, columns, arms
    "adult": (44, 39, 2),
    "census": (45, 207, 9),
    "covertype": (56, 54, 7),
    "magic": (40, 10, 2),
    "mushroom": (48, 117, 2),
    "shuttle": (42, 9, 7),
}


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    tables._last.clear()


def fixture(name: str, standardize: bool = True, label: str | None = None) -> Dataset:
    """A UCI data set as its bandit has it."""
    if name == "mushroom":
        return MushroomBandits(MushroomConfig(path=str(DATA), standardize=standardize), SeedTree(0))._data
    cfg = UCIConfig(dataset=name, path=str(DATA), label=label, standardize=standardize)
    return UCIBandits(cfg, SeedTree(0))._data


def any_data(name: str) -> Dataset:
    return encode(bundled(name), "target") if name in BUNDLED else fixture(name)


def toy(rows: int = 7, arms: int = 3) -> Dataset:
    """The context is the number of the row, the label that number modulo `arms`."""
    number = np.arange(rows)
    return Dataset(number[:, None].astype(np.float32), number % arms, [str(arm) for arm in range(arms)])


def toy_vector(num_envs: int = 1, rows: int = 7, separate: bool = False) -> DataVector:
    return DataVector("Toy", toy(rows), one_for_the_right_arm(3), num_envs, separate=separate)


def csv_data(path: Path, **options) -> Dataset:
    return CSVBandits(CSVConfig(path=str(path), **options), SeedTree(0))._data


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(UCI))
def test_a_file_as_uci_has_it(name):
    data = fixture(name)
    assert (*data.contexts.shape, len(data.classes)) == SHAPES[name]
    assert data.contexts.dtype == np.float32 and np.isfinite(data.contexts).all()


@pytest.mark.parametrize("name", [*BUNDLED, *sorted(UCI)])
def test_every_arm_can_win_and_no_context_tells_the_label(name):
    data = any_data(name)
    assert sorted(set(data.labels.tolist())) == list(range(len(data.classes)))
    arms = [data.labels, *(data.labels == arm for arm in range(len(data.classes)))]
    for column in data.contexts.T:
        values = len(np.unique(column))
        assert values > 1 or name == "mushroom"  # its one veil type
        for target in arms:
            pairs = len(np.unique(np.stack([column, target]), axis=1).T)
            assert not pairs == values == len(np.unique(target)), "the column is the label by another name"


@pytest.mark.parametrize("name", ["covertype", "magic", "shuttle"])
def test_rows_keep_their_label(name):
    """Against a plain reading of the file, whose numbers are the context as they stand."""
    data = fixture(name, standardize=False)
    lines = (DATA / UCI[name].file).read_text().replace(",", " ").splitlines()
    rows = [line.split() for line in lines]
    assert data.contexts.tolist() == [[np.float32(word) for word in row[:-1]] for row in rows]
    assert [data.classes[label] for label in data.labels] == [row[-1] for row in rows]


def test_numbers_are_standardised_and_words_are_not():
    scaled, raw = fixture("adult"), fixture("adult", standardize=False)
    assert scaled.contexts[:, :6].mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-5)
    assert scaled.contexts[:, :6].std(axis=0) == pytest.approx(np.ones(6), abs=1e-5)
    assert raw.contexts[0, :3].tolist() == [56, 314760, 12]  # age, fnlwgt, education-num
    assert set(np.unique(scaled.contexts[:, 6:])) == {0, 1}


def test_adult_leaves_out_incomplete_rows_and_can_ask_for_the_occupation():
    table = read_uci("adult", DATA)
    assert len(table["age"]) == 48 and (table["workclass"] == "").sum() == 3
    data = fixture("adult", label="occupation")
    assert len(data.labels) == 44 and "Sales" in data.classes and len(data.classes) == 7
    with pytest.raises(ConfigError, match=r"env.label: there is no column 'ocupation'\ndid you mean 'occupation'"):
        fixture("adult", label="ocupation")


def test_the_census_number_of_a_case_is_no_context():
    data = fixture("census")
    table = read_uci("census", DATA)
    codes = [len(np.unique(column)) for name, column in table.items() if name not in ("caseid", "dOccup")]
    assert data.contexts.shape[1] == sum(codes)
    assert data.contexts.sum(axis=1).tolist() == [len(codes)] * 45
    assert data.classes == [*map(str, range(9))]


def test_a_packed_file(tmp_path):
    (tmp_path / "covtype.data.gz").write_bytes(gzip.compress((DATA / "covtype.data").read_bytes()))
    table, packed = read_uci("covertype", DATA), read_uci("covertype", tmp_path)
    assert all(np.array_equal(table[name], packed[name]) for name in table)


def test_only_some_rows():
    some = UCIBandits(UCIConfig(dataset="magic", path=str(DATA), standardize=False, rows=12), SeedTree(0))._data
    whole = fixture("magic", standardize=False)
    pairs = {(*context, label) for context, label in zip(whole.contexts.tolist(), whole.labels, strict=True)}
    drawn = {(*context, label) for context, label in zip(some.contexts.tolist(), some.labels, strict=True)}
    assert len(drawn) == 12 and drawn < pairs


def test_a_table_with_words_and_missing_values(tmp_path):
    file = tmp_path / "pets.csv"
    file.write_text(
        'weight, coat ,name,same,kind\n2,short,"Tom, the old",1,cat\n?,long,Ann,1,dog\n4,,Bob,1,dog\n9,x,Z,1,\n'
    )
    data = csv_data(file, label="kind", leave_out=["name"], standardize=False)
    # the row without a kind is gone; weight with the mean of 2 and 4; coat: missing, long, short
    assert data.contexts.tolist() == [[2, 0, 0, 1], [3, 0, 1, 0], [4, 1, 0, 0]]
    assert (data.labels.tolist(), data.classes) == ([0, 1, 1], ["cat", "dog"])


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1,5\n2,6\n1,7\n", {"header": False, "label": 0}),
        ("5;1\n6;2\n7;1\n", {"header": False, "delimiter": ";"}),
        ("\n  5   1 \n6 2\n\n 7  1\n", {"header": False, "delimiter": " ", "label": "1"}),
        ("a\tb\n5\t1\n6\t2\n7\t1\n", {"delimiter": "\t", "label": "b"}),
    ],
)
def test_layouts_of_other_tables(text, options, tmp_path):
    (tmp_path / "t.txt").write_text(text)
    data = csv_data(tmp_path / "t.txt", standardize=False, **options)
    assert data.contexts.tolist() == [[5], [6], [7]]
    assert (data.labels.tolist(), data.classes) == ([0, 1, 0], ["1", "2"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, r"env.path: there is no file .*t\.csv$"),
        ("", {}, r"env.path: .* is empty$"),
        ("\n\n", {}, r"env.path: .* is empty$"),
        ("a,b\n", {}, "env.path: .* has a line of names and no rows"),
        ("a,b\n1,2\n3\n", {}, r"env.path: row 3 of .* has 1 values, not 2"),
        ("a,kind\n1,2\n1,3\n1,2\n", {"label": "knid"}, r"env.label: there is no column 'knid'\ndid you mean 'kind'\?"),
        ("a,b\n1,2\n", {"label": 2}, "env.label: there is no column 2\nthey are 0 to 1"),
        ("a,b\n1,x\n2,x\n", {}, "env.label: a choice needs two classes, but column 'b' has only x"),
        ("a,b\n1,?\n2,\n", {}, "env.label: a choice needs two classes, but column 'b' has no label at all"),
        ("a,b\n1,.5\n2,.7\n3,.9\n", {}, "env.label: column 'b' has 3 different values, too many for classes"),
        ("a,b\n1,x\n1,y\n1,x\n", {}, "env.path: no column but the label differs"),
        ("a,b\n1,2\n", {"leave_out": ["A"]}, "env.leave_out: there is no column 'A'"),
        ("a;b\n1;2\n", {}, "env.delimiter: .* has one column only\nwrite env.delimiter=';'"),
        ("1,2\n2,3\n", {}, "env.header: the first line of .* has numbers, not names\nwrite env.header=false"),
        ("a,a\n1,2\n", {}, "env.path: .* has two columns 'a'"),
        (b"\x80\xff\x00\n", {}, "env.path: .* cannot be read as a table"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_are_refused(text, options, message, tmp_path):
    file = tmp_path / "t.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as refused:
        csv_data(file, **options)
    assert len(str(refused.value).splitlines()) <= 2


def test_a_key_is_no_category(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("key,kind\n" + "".join(f"k{i},{i % 2}\n" for i in range(1001)))
    with pytest.raises(ConfigError, match=r"column 'key' has more than 1000 .*\n.*env.leave_out=\[key\]"):
        csv_data(file)


@pytest.mark.parametrize(("word", "shown"), [("inf", "inf"), ("-Infinity", "-inf"), ("1e999", "inf")])
@pytest.mark.parametrize("other", ["2", "x"])
def test_an_infinite_number_is_named_by_its_place(tmp_path, word, shown, other):
    file = tmp_path / "t.csv"
    file.write_text(f"a,b,kind\n1,2,{other}\n3,{word},y\n5,6,{other}\n")
    with pytest.raises(ConfigError, match=rf"env.path: row 3 of .*t.csv has {shown} in column 'b'\n"):
        csv_data(file)


def test_a_zipped_table_is_read_as_it_is(tmp_path):
    text = "a,kind\n1,x\n2,y\n3,x\n"
    (tmp_path / "t.csv").write_text(text)
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", text)
    plain, zipped = csv_data(tmp_path / "t.csv"), csv_data(tmp_path / "t.zip")
    assert np.array_equal(plain.contexts, zipped.contexts)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", text)
        archive.writestr("b.csv", text)
    with pytest.raises(ConfigError, match=r"two\.zip has 2 files, not one"):
        csv_data(tmp_path / "two.zip")
    (tmp_path / "bad.zip").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.zip cannot be read as a table"):
        csv_data(tmp_path / "bad.zip")


def test_files_that_are_not_what_was_asked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*covtype\.data$"):
        read_uci("covertype", tmp_path)
    with pytest.raises(ConfigError, match=r"line 1 of .* has 10 values, not 15"):
        read_table(DATA / "shuttle.trn", UCI["adult"].columns, delimiter=" ")
    with pytest.raises(ConfigError, match=r"is not USCensus1990.data.txt: it has no column 'dOccup'"):
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        read_uci("census", tmp_path / "other.csv")
    with pytest.raises(ConfigError, match="is packed\nunpack it first"):
        read_uci("shuttle", tmp_path / "shuttle.trn.Z")
    with pytest.raises(ConfigError, match=r"write env.path=FOLDER/magic04.data, or env.download=true"):
        UCIBandits(UCIConfig(dataset="magic"), SeedTree(0))
    with pytest.raises(ConfigError, match=r"env.path: needs a value"):
        CSVBandits(CSVConfig(), SeedTree(0))
    with pytest.raises(ConfigError, match="dataset: there is no 'wien'\ndid you mean 'wine'"):
        BundledConfig(dataset="wien")
    shutil.copy(DATA / "agaricus-lepiota.data", tmp_path)
    with (tmp_path / "agaricus-lepiota.data").open("a") as file:
        file.write("u" + ",x" * 22 + "\n")
    with pytest.raises(ConfigError, match="mushrooms are e or p, this file has e, p, u"):
        MushroomBandits(MushroomConfig(path=str(tmp_path)), SeedTree(0))


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"env: data bandits need scikit-learn\npip install 'rlrun\[data\]'"):
        BundledBandits(BundledConfig(dataset="iris"), SeedTree(0))


def test_a_change_of_the_file_is_seen_and_the_same_file_is_read_once(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,x\n2,y\n3,y\n")
    first = csv_data(file)
    assert csv_data(file) is first
    file.write_text("a,b\n1,x\n2,y\n3,z\n4,z\n")
    assert csv_data(file).classes == ["x", "y", "z"]


# --- downloads -------------------------------------------------------------------------------------------------------


def test_a_download_without_a_network(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    for name in ("adult", "covertype"):
        with pytest.raises(
            ConfigError, match=rf"{name} could not be fetched: .*not known.*\n.*env.path=FOLDER/"
        ) as refused:
            UCIBandits(UCIConfig(dataset=name, download=True), SeedTree(0))
        assert len(str(refused.value).splitlines()) == 2
    with pytest.raises(ConfigError, match="no place to fetch census from"):
        UCIBandits(UCIConfig(dataset="census", download=True), SeedTree(0))


@pytest.mark.parametrize("name", ["adult", "covertype", "magic", "mushroom", "shuttle"])
def test_a_download_gives_the_same_data_as_the_file(name, monkeypatch):
    """OpenML's form: float codes of categories, NaN where missing, the label apart; feature names of its own."""
    from sklearn import datasets as sk
    from sklearn.utils import Bunch

    table = read_uci(name, DATA)
    target = table.pop(UCI[name].label)
    codes, categories = [], {}
    for column, values in table.items():
        if values.dtype.kind != "f":
            categories[f"their-{column}"] = words = sorted(set(values) - {""}, reverse=True)
            values = np.array([words.index(value) if value else np.nan for value in values])
        codes.append(values)
    if target.dtype.kind == "f" and name != "covertype":
        target = np.array([f"{value:g}" for value in target], object)
    bunch = Bunch(
        data=np.stack(codes, axis=1), target=target, feature_names=[f"their-{column}" for column in table],
        categories=categories,
    )  # fmt: skip
    monkeypatch.setattr(sk, "fetch_covtype" if name == "covertype" else "fetch_openml", lambda **_: bunch)
    fetched = datasets.fetch(name)
    for column, values in read_uci(name, DATA).items():
        assert np.array_equal(fetched[column], values, equal_nan=values.dtype.kind == "f"), column


# --- the bandit ------------------------------------------------------------------------------------------------------


def test_reward_is_one_for_the_label_and_regret_the_rest():
    envs = toy_vector(3)
    shown = envs.reset([0, 1, 2])[:, 0].copy()
    step = envs.step(np.array([0, 1, 2]))
    right = (shown % 3 == [0, 1, 2]).astype(float)
    assert step.reward.tolist() == right.tolist()
    assert step.terminated.all() and not step.truncated.any()
    assert [(stat.episode_return, stat.length, stat.env) for stat in step.episodes] == [
        (reward, 1, e) for e, reward in enumerate(right)
    ]
    metrics = envs.metrics()
    assert metrics["bandit/regret"] == metrics["bandit/realised_regret"] == pytest.approx(1 - right.mean())
    assert metrics["bandit/optimal_share"] == pytest.approx(right.mean())


@pytest.mark.parametrize("num_envs", [1, 3, 10])
def test_all_rows_are_shown_before_any_comes_again(num_envs):
    envs = toy_vector(num_envs)
    rows = [*envs.reset(range(num_envs))[:, 0]]
    while len(rows) < 70:
        rows += [*envs.step(np.zeros(num_envs, int)).obs[:, 0]]
    passes = [tuple(rows[i : i + 7]) for i in range(0, 70, 7)]
    assert all(sorted(walk) == list(range(7)) for walk in passes)
    assert len(set(passes)) > 5  # every pass in an order of its own


@pytest.mark.parametrize("name", ["magic", "covertype"])
def test_a_shuffled_row_wins_with_its_own_label(name):
    """The oracle looks the shown context up in the unshuffled table."""
    data = fixture(name)
    label_of = {context.tobytes(): label for context, label in zip(data.contexts, data.labels, strict=True)}
    envs = DataVector(name, data, one_for_the_right_arm(len(data.classes)), 2)
    obs, orders = envs.reset([3, 4]), []
    for _ in range(100):
        orders.append([label_of[context.tobytes()] for context in obs])
        step = envs.step(np.array(orders[-1]))
        assert step.reward.tolist() == [1, 1]
        obs = step.obs
    assert np.ravel(orders)[: len(data.labels)].tolist() != data.labels.tolist()
    assert envs.metrics()["bandit/cumulative_regret"] == 0


def test_the_order_comes_from_the_seeds():
    def order(*seeds):
        envs = toy_vector(len(seeds), rows=50)
        obs = envs.reset(seeds)
        return [obs[:, 0].tolist(), *(envs.step(np.zeros(len(seeds), int)).obs[:, 0].tolist() for _ in range(20))]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)


def mushrooms(**options) -> MushroomBandits:
    return MushroomBandits(MushroomConfig(path=str(DATA), **options), SeedTree(0))


def test_mushrooms_by_arithmetic():
    factory = mushrooms()
    edible = factory._data.labels == 0
    played = {}
    for arm in (0, 1):
        envs = factory.train(100)
        envs.reset(range(100))
        rewards, kinds = [], []
        for _ in range(200):
            kinds += [*factory._data.labels[envs._row]]
            rewards += [*envs.step(np.full(100, arm)).reward]
        played[arm] = np.array(rewards), np.array(kinds), envs.metrics()
    rewards, _, metrics = played[0]
    assert set(rewards) == {0.0}
    assert metrics["bandit/regret"] == pytest.approx(5 * edible.mean(), abs=0.02)
    rewards, kinds, metrics = played[1]
    assert set(rewards[kinds == 0]) == {5.0} and set(rewards[kinds == 1]) == {5.0, -35.0}
    assert rewards[kinds == 1].mean() == pytest.approx(-15, abs=1.5)
    assert metrics["bandit/regret"] == pytest.approx(15 * (~edible).mean(), abs=0.1)
    assert metrics["bandit/realised_regret"] == pytest.approx(metrics["bandit/regret"], abs=1)
    assert factory.spec(1).reward_range == (-35.0, 5.0)


def test_the_best_mushroom_eater_has_no_regret():
    factory = mushrooms()
    envs = factory.train(4)
    envs.reset(range(4))
    for _ in range(30):
        step = envs.step((factory._data.labels[envs._row] == 0).astype(int))
        assert set(step.reward.tolist()) <= {0.0, 5.0}
    metrics = envs.metrics()
    assert (metrics["bandit/cumulative_regret"], metrics["bandit/optimal_share"]) == (0, 1)


def test_rewards_of_mushrooms_are_options():
    factory = mushrooms(r_pass=-1.0, r_edible=2.0, r_lucky=3.0, r_poisoned=-10.0, p_lucky=0.25)
    assert factory._payoffs.expected.tolist() == [[-1, 2], [-1, 0.25 * 3 - 0.75 * 10]]
    with pytest.raises(ConfigError, match=r"p_lucky: must be in \[0, 1\]"):
        MushroomConfig(p_lucky=1.5)


@pytest.mark.parametrize("name", ["wine", "mushroom"])
def test_a_saved_bandit_goes_on_exactly(name):
    factory = BundledBandits(BundledConfig(), SeedTree(0)) if name == "wine" else mushrooms()
    whole, resumed = factory.train(5), factory.train(5)
    whole.reset(range(5))
    whole.reset_one(2, 9)
    for _ in range(30):
        whole.step(np.ones(5, int))
    saved = whole.state_dict()
    assert saved["grade"] == "exact"
    resumed.load_state_dict(saved)
    assert np.array_equal(resumed.obs, whole.obs)

    def go_on(envs):
        steps = [envs.step(np.ones(5, int)) for _ in range(60)]  # past the end of a walk
        return [(step.reward.tolist(), step.final_obs[0].tolist()) for step in steps], envs.metrics()

    assert go_on(resumed) == go_on(whole)


def test_an_evaluation_episode_depends_on_its_seed_alone():
    factory = mushrooms()
    one, three = (factory.evaluation(n) for n in (1, 3))
    alone, together = [], []
    for seed in range(30):
        context = one.reset_one(0, seed).tolist()
        alone.append((context, float(one.step(np.array([1])).reward[0])))
    for first in range(0, 30, 3):
        contexts = three.reset(range(first, first + 3)).tolist()
        together += zip(contexts, three.step(np.array([1, 1, 1])).reward.tolist(), strict=True)
    assert together == alone
    assert len({tuple(context) for context, _ in alone}) > 15


def test_a_walk_is_saved_without_its_order():
    walk = Walk(1000, np.random.default_rng(0))
    walk.take(1700)
    saved = walk.state_dict()
    assert not any(isinstance(value, np.ndarray) for value in saved.values())
    ahead = walk.take(900).tolist()
    other = Walk(1000, np.random.default_rng(1))
    other.load_state_dict(saved)
    assert other.take(900).tolist() == ahead


def test_data_bandits_have_nothing_to_show():
    with pytest.raises(ConfigError, match="Wine has nothing to show"):
        BundledBandits(BundledConfig(), SeedTree(0)).render("human")


# --- the command -----------------------------------------------------------------------------------------------------


def regret(folder: Path) -> float:
    return json.loads((folder / "summary.json").read_text())["bandit/regret_per_step"]


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        (["env=bandit/csv", f"env.path={DATA / 'magic04.data'}", "env.header=false"], 0.45),
        (["env=bandit/mushroom", f"env.path={DATA}"], 10),
    ],
)
def test_a_run(words, bound, rlrun: Rlrun, tmp_path: Path):
    rlrun("algo=linear_posterior", *words, "+smoke=on", "hydra.run.dir=run")
    assert regret(tmp_path / "run") < bound


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["env=bandit/adult"], "env.path: adult is a file of the UCI repository"),
        (["env=bandit/wine", "env.datset=iris"], "did you mean env.dataset?"),
        (["env=bandit/csv", f"env.path={DATA / 'none.csv'}"], "there is no file"),
    ],
)
def test_a_mistake_is_answered_in_a_line(words, answer, rlrun: Rlrun):
    refused = rlrun("algo=linear_posterior", *words, code=2).stderr
    assert answer in refused and len(refused.strip().splitlines()) <= 3


@pytest.mark.parametrize(
    "words",
    [
        ["imports=[own_bandit]", "algo=linear_posterior", "env.id=OwnBandit-v0"],
        ["imports=[own_agent]", "algo=nearest_mean", "env=bandit/wine", "network=null", "buffer=null"],
    ],
    ids=["bandit", "agent"],
)
def test_the_examples_of_own_parts_run_and_learn(words, rlrun: Rlrun, tmp_path: Path):
    for file in (ROOT / "scripts" / "examples").glob("*.py"):
        shutil.copy(file, tmp_path)
    rlrun(*words, "+smoke=on", "hydra.run.dir=run")
    assert regret(tmp_path / "run") < 0.3  # random play: 0.67


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "bound"),
    [("iris", 2000, 0.14), ("wine", 2000, 0.06), ("breast_cancer", 2000, 0.085), ("digits", 3000, 0.45)],
)
def test_linear_posterior_on_real_data(name, steps, bound, rlrun: Rlrun, tmp_path: Path):
    for seed in range(3):
        run = f"run_{seed}"
        words = [f"env=bandit/{name}", f"total_timesteps={steps}", f"seed={seed}", f"hydra.run.dir={run}"]
        rlrun("algo=linear_posterior", *words)
        assert regret(tmp_path / run) <= bound


def test_a_run_goes_on_with_its_own_data_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same relative path from another folder is another file."""
    for folder, last in {"here": "b", "there": "a"}.items():
        (tmp_path / folder).mkdir()
        rows = "".join(f"{i % 7},{i % 3},{'ab'[i % 2]}\n" for i in range(39))
        (tmp_path / folder / "t.csv").write_text(f"x,y,label\n{rows}1,2,{last}\n")
    run = str(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "here")
    words = ["algo=lin_ucb", "env=bandit/csv", "env.path=t.csv", "+smoke=on", "logger.console=off"]
    assert cli.main([*words, f"hydra.run.dir={run}"]) == 0
    assert cli.main(["resume", run, "total_timesteps=600"]) == cli.main(["eval", run, "episodes=3"]) == 0
    monkeypatch.chdir(tmp_path / "there")
    for verb in (["resume", run, "total_timesteps=700"], ["eval", run]):
        assert cli.main(verb) == 2
        error = capsys.readouterr().err
        assert f"are not those that the run was started with in {tmp_path / 'here'}" in error
        assert len(error.splitlines()) == 2


def test_a_bandits_own_table_is_part_of_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, run = tmp_path / "probs.csv", tmp_path / "run"
    table.write_text("0.1,0.9\n")
    words = ["algo=ucb", "env=bandit/bernoulli", f"env.probs={table}", "+smoke=on", "logger.console=off"]
    assert cli.main([*words, f"hydra.run.dir={run}"]) == 0
    table.write_text("0.1,0.8\n")
    assert cli.main(["resume", str(run), "total_timesteps=600"]) == 2
    assert "env: the data of BernoulliBandit are not those" in capsys.readouterr().err


def test_what_never_ends_is_no_table():
    with pytest.raises(ConfigError, match=r"env\.path: /dev/zero is no file"):
        datasets.read_table(Path("/dev/zero"))
