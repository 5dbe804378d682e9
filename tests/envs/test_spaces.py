"""Spaces of several parts and masks: what is seen of them, the same however the environments are stepped."""

from __future__ import annotations

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlrun.algos.algorithm import Kit
from rlrun.algos.policy.ppo import PPO, PPOConfig
from rlrun.envs.make import GymEnvs
from rlrun.envs.options import EnvConfig, NormalizeConfig
from rlrun.envs.spaces import action_map, mask_source, to_space
from rlrun.errors import ConfigError, EnvError
from rlrun.experience.rollouts import Rollouts
from rlrun.ops.distributions import distribution
from rlrun.seeding import SeedTree
from rlrun.types import MASK, Progress

NESTED = Dict(
    {
        "camera": Box(0, 255, (4, 5, 3), np.uint8),
        "joints": Dict({"angle": Box(-1.0, 1.0, (2,), np.float64), "touch": MultiBinary(3)}),
        "cards": Tuple([Discrete(4, start=-1), MultiDiscrete([2, 3], start=[5, 6])]),
    }
)


def factory(env_id, vector="in_process", **options):
    return GymEnvs(EnvConfig(id=env_id, vector=vector, **options), SeedTree(0))


class ShowEnv(gym.Env):
    """Shows what the test says, and keeps the actions it is given."""

    def __init__(self, shows=(0,), observation=None, action=None, infos=({},), ends=99):
        self.observation_space, self.action_space = observation or Discrete(9), action or Discrete(2)
        self.shows, self.infos, self.ends, self.t, self.taken = shows, infos, ends, 0, []

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.shows[0], self.infos[0]

    def step(self, action):
        self.taken.append(action)
        self.t += 1
        show, info = (items[min(self.t, len(items) - 1)] for items in (self.shows, self.infos))
        return show, 0.0, self.t == self.ends, False, info


gym.register("tests/Show-v0", ShowEnv, disable_env_checker=True)


def shown(vector="in_process", num_envs=1, options=None, **kwargs):
    return factory("tests/Show-v0", vector, kwargs=kwargs, **(options or {})).train(num_envs)


def test_a_dict_becomes_a_record_with_dotted_names():
    space = to_space(NESTED)
    assert space.kind == "dict"
    assert space.shape == ()
    assert {name: part.kind for name, part in space.fields.items()} == {
        "camera": "box",
        "cards.0": "discrete",
        "cards.1": "multi_discrete",
        "joints.angle": "box",
        "joints.touch": "multi_binary",
    }
    assert space.dtype == np.dtype(
        [
            ("camera", "u1", (4, 5, 3)),
            ("cards.0", "i8"),
            ("cards.1", "i8", (2,)),
            ("joints.angle", "f4", (2,)),
            ("joints.touch", "i1", (3,)),
        ]
    )
    assert space.fields["cards.1"].nvec == (2, 3)
    assert space.size == 60 + 1 + 2 + 2 + 3
    assert space.nbytes == 60 + 8 + 16 + 8 + 3


@pytest.mark.parametrize("vector", ["in_process", "subprocess"])
def test_every_part_counts_from_zero_in_its_own_type(vector):
    def show(t):
        return {
            "camera": np.full((4, 5, 3), t, np.uint8),
            "joints": {"angle": np.array([t, -t]) / 8, "touch": np.array([t, 0, 1], np.int8)},
            "cards": (t - 1, np.array([5, 6 + t])),
        }

    envs = shown(vector, 2, observation=NESTED, shows=[show(0), show(1)], ends=1)
    try:
        envs.reset([1, 2])
        step = envs.step(np.array([0, 1]))
        for obs, t in ((envs.obs[1], 0), (step.final_obs[1], 1)):
            assert (obs["camera"] == t).all()
            assert obs["cards.0"] == t
            assert obs["cards.1"].tolist() == [0, t]
            assert obs["joints.angle"].tolist() == [t / 8, -t / 8]
            assert obs["joints.touch"].tolist() == [t, 0, 1]
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("space", "show", "says"),
    [
        (NESTED, {"camera": 0}, "the observation's 'camera' is int64 \\(\\)"),
        (Dict({"a": Discrete(2)}), {"b": 0}, "the observation has no 'a': it is {'b': 0}"),
        (Dict({"a": Discrete(2)}), 3, "the observation has no 'a': it is 3"),
        (Dict({"a": Discrete(2)}), {"a": 2}, "its space is Discrete\\(2\\), but the observation's 'a' is 2"),
        (Tuple([Discrete(2), Box(0, 1, (2,))]), (0,), "the observation has no 1"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), "its space is MultiDiscrete\\(\\[2 3\\]\\), but the observation is"),
        (MultiBinary(2), np.array([1, 0, 1]), "its space is int8 \\(2,\\), but the observation is int64 \\(3,\\)"),
        (Dict({"a": Box(-9, 9, (2,))}), {"a": np.array([0, np.nan])}, "the observation is not finite"),
    ],
)
def test_what_is_not_of_its_space_has_a_name(space, show, says):
    with pytest.raises(EnvError, match=f"environment 0 .seed 5. failed in reset..\n.*{says}"):
        shown(observation=space, shows=[show]).reset([5])


def test_a_tuple_of_numbers_is_one_number_while_they_can_be_counted():
    assert shown(observation=Tuple([Discrete(1000), Discrete(1000)]), shows=[(0, 7)]).spec.obs_space.n == 10**6
    many = shown(observation=Tuple([Discrete(1000)] * 30), shows=[tuple(range(30))])
    assert many.spec.obs_space.kind == "dict"
    assert many.reset([1])["29"].tolist() == [29]


ACTIONS = Dict(
    {"b": Tuple([Discrete(3, start=2), Box(-1, 1, (2,), np.float64)]), "a": MultiDiscrete([2, 2], start=[1, 0])}
)


def test_an_environment_gets_the_dict_that_it_declared():
    actions = action_map(ACTIONS)
    record = np.array([([1, 1], 2, [0.5, 7.0])], actions.space.dtype)
    (taken,) = actions.singly(actions(record))
    assert list(taken) == ["a", "b"]
    assert taken["a"].tolist() == [2, 1]
    assert taken["b"][0] == 4
    assert type(taken["b"][0]) is int
    assert taken["b"][1].tolist() == [0.5, 1.0]  # clipped
    assert taken["b"][1].dtype == np.float64
    assert ACTIONS.contains(taken)


@pytest.mark.parametrize("space", [ACTIONS, NESTED["joints"]["touch"], MultiDiscrete([[2, 3], [4, 5]]), Box(-2, 2, ())])
def test_uniform_actions_are_the_environments_own(space):
    actions = action_map(space)
    drawn = distribution(actions.space).uniform(50, np.random.default_rng(0))
    assert drawn.shape == (50, *actions.space.shape)
    assert drawn.dtype == actions.space.dtype
    assert all(space.contains(one) for one in actions.singly(actions(drawn)))


@pytest.mark.parametrize("vector", ["in_process", "subprocess"])
@pytest.mark.parametrize("toy", ["MultiIdentity", "Bits", "Parts"])
def test_an_action_arrives_as_it_was_sent(toy, vector):
    """These environments reward the answer that equals what they show: all of it, however they are stepped."""
    envs = factory(f"rlrun/{toy}-v0", vector).train(2)
    try:
        obs = envs.reset([3, 4])
        for _ in range(5):
            assert envs.step(obs.copy()).reward.tolist() == [1.0, 1.0]
    finally:
        envs.close()


# Masks


TELLS = ["info", "method", "field"]


@pytest.mark.parametrize("vector", ["in_process", "subprocess"])
@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("tells", TELLS)
def test_a_mask_travels_with_the_observation(tells, choices, vector):
    made = factory("rlrun/Masked-v0", vector, kwargs={"tells": tells, "choices": choices, "length": 5})
    envs = made.train(2)
    policy, rng = distribution(envs.spec.action_space), np.random.default_rng(0)
    try:
        assert made.recipe.masks == tells
        assert envs.spec.obs_space.masked
        assert envs.spec.obs_space.unmasked.kind == "discrete"
        envs.reset([1, 2])
        for t in range(1, 11):
            mask = envs.obs[MASK].copy()
            assert mask.shape == (2, 12 * choices)
            assert (mask.reshape(2, choices, 12).sum(-1) == 3).all()
            highest = 11 - mask.reshape(2, choices, 12)[:, :, ::-1].argmax(-1)
            best = policy.mode(np.tile(np.arange(12.0), (2, choices)), mask)
            assert (best.reshape(2, choices) == highest).all()
            step = envs.step(best if t % 2 else policy.uniform(2, rng, mask))
            assert not step.terminated.any(), "a masked action was taken"
            assert sorted(step.final_obs) == ([0, 1] if t % 5 == 0 else [])
            assert all(last[MASK].sum() == 3 * choices for last in step.final_obs.values())
    finally:
        envs.close()


def test_the_three_ways_of_telling_show_the_same():
    streams = []
    for tells in TELLS:
        envs = factory("rlrun/Masked-v0", kwargs={"tells": tells}).train(1)
        envs.reset([7])
        streams.append([envs.step(envs.obs[MASK].argmax(1)).obs[MASK].tolist() for _ in range(20)])
    assert streams[0] == streams[1] == streams[2]


def test_no_notice_is_taken_of_masks_that_are_not_wanted():
    assert factory("rlrun/Masked-v0", action_masks=False).spec(1).obs_space.kind == "discrete"
    assert factory("Taxi-v4", action_masks=False).spec(1).obs_space.n == 500
    assert factory("Taxi-v4").spec(1).obs_space.unmasked.n == 500
    assert not factory("CartPole-v1").spec(1).obs_space.masked


@pytest.mark.parametrize("field", [MultiBinary(2), Box(0, 1, (2,), np.int8)])
def test_a_mask_of_which_no_notice_is_taken_is_a_field_like_any_other(field):
    observation = Dict({"a": Discrete(2), MASK: field})
    for options, action in (({"action_masks": False}, None), ({}, Box(-1, 1, (2,)))):
        envs = shown(observation=observation, action=action, shows=[{"a": 1, MASK: [1, 0]}], options=options)
        space = envs.spec.obs_space
        assert not space.masked
        assert space.unmasked.fields.keys() == {"a", MASK}
        algo = PPO(PPOConfig(n_steps=4, batch_size=4), Kit(envs.spec))
        with closing(Rollouts(envs, algo.agent, 4, [1])) as source:
            algo.learn(next(iter(source)).data, Progress(8, env_steps=4))


def test_looking_for_masks_leaves_the_global_streams_alone():
    class Draws(ShowEnv):
        def reset(self, *, seed=None, options=None):
            return int(np.random.randint(5)), {"action_mask": [1, 1]}

    np.random.seed(1)
    assert mask_source(Draws()) == "info"
    assert np.random.randint(10**6) == np.random.RandomState(1).randint(10**6)


@pytest.mark.parametrize(
    ("infos", "says"),
    [
        ([{MASK: [1, 1]}, {MASK: [0, 0]}], "the action mask leaves nothing to do: \\[0, 0\\]"),
        ([{MASK: [1, 1]}, {MASK: [1, 0, 1]}], "the action mask is \\[1, 0, 1\\], its actions take 2 times true or fal"),
        ([{MASK: [1, 1]}, {MASK: ["yes", "no"]}], "the action mask is \\['yes', 'no'\\]"),
        ([{MASK: [1, 1]}, {}], "info has no 'action_mask'; if it has one at all"),
    ],
)
def test_a_mask_that_cannot_be_has_a_name(infos, says):
    envs = shown(infos=infos)
    envs.reset([5])
    with pytest.raises(EnvError, match=f"environment 0 .seed 5, step 1. failed in step.0.\n{says}"):
        envs.step(np.array([0]))


def test_with_several_choices_each_needs_something_to_do():
    envs = shown(action=MultiDiscrete([2, 3]), infos=[{MASK: ([1, 0], [0, 1, 1])}, {MASK: ([1, 1], [0, 0, 0])}])
    assert envs.reset([5])[MASK][0].tolist() == [True, False, False, True, True]
    with pytest.raises(EnvError, match="the action mask leaves nothing to do"):
        envs.step(np.array([[0, 1]]))


def test_where_an_episode_is_over_nothing_need_be_left_to_do():
    envs = shown(infos=[{MASK: [1, 0]}, {MASK: [0, 0]}], ends=1)
    envs.reset([5])
    step = envs.step(np.array([0]))
    assert step.terminated.all()
    assert step.final_obs[0][MASK].tolist() == [False, False]
    assert step.obs[0][MASK].tolist() == [True, False]


def test_a_field_that_is_no_mask_of_the_actions_is_refused():
    space = Dict({"a": Discrete(2), MASK: MultiBinary(3)})
    with pytest.raises(ConfigError, match=r"its field action_mask is MultiBinary\(3\)\na mask of its actions has 2"):
        shown(observation=space)
    with pytest.raises(ConfigError, match=r"it shows nothing but action_mask"):
        shown(observation=Dict({MASK: MultiBinary(2)}))


# What stands between


PARTS = Dict({"at": Box(-9, 9, (2,)), "n": Discrete(50), "seen": Box(0, 255, (2, 2), np.uint8)})


def moments(count):
    """Observations whose every part tells the time."""
    return [{"at": np.array([t, -t], np.float32), "n": t, "seen": np.full((2, 2), t, np.uint8)} for t in range(count)]


def test_every_box_of_a_dict_is_stacked():
    envs = shown(observation=PARTS, shows=moments(9), ends=4, options={"frame_stack": 3})
    space = envs.spec.obs_space
    assert {name: (part.shape, part.stack) for name, part in space.fields.items()} == {
        "at": ((3, 2), 3),
        "n": ((), 0),
        "seen": ((3, 2, 2), 3),
    }
    assert space.fields["at"].low.shape == (3, 2)
    assert envs.reset([1])[0]["at"][:, 0].tolist() == [0, 0, 0]
    for t in (1, 2, 3):
        step = envs.step(np.array([0]))
        frames = [max(0, t - 2), max(0, t - 1), t]
        assert step.obs[0]["at"][:, 0].tolist() == frames
        assert step.obs[0]["seen"][:, 1, 1].tolist() == frames
        assert step.obs[0]["n"] == t
    step = envs.step(np.array([0]))
    assert step.final_obs[0]["at"][:, 1].tolist() == [-2, -3, -4]
    assert step.final_obs[0]["n"] == 4
    assert step.obs[0]["seen"][:, 0, 0].tolist() == [0, 0, 0]


def test_the_floating_point_parts_of_a_dict_are_normalised():
    made = factory(
        "tests/Show-v0", kwargs={"observation": PARTS, "shows": moments(9)}, normalize=NormalizeConfig(obs=True)
    )
    envs = made.train(1)
    envs.reset([1])
    for _ in range(5):
        envs.step(np.array([0]))
    seen = np.arange(6)
    expected = (5 - seen.mean()) / np.sqrt(seen.var() + 1e-8)
    (obs,) = envs.obs
    assert obs["at"] == pytest.approx([expected, -expected], rel=1e-6)
    assert obs["n"] == 5
    assert (obs["seen"] == 5).all()
    assert envs.spec.obs_space.fields["at"].high.tolist() == [10, 10]
    frozen = made.evaluation(1)
    assert frozen.reset([1])[0]["at"] == pytest.approx([-seen.mean() / seen.std(), seen.mean() / seen.std()], rel=1e-6)
    again = factory(
        "tests/Show-v0", kwargs={"observation": PARTS, "shows": moments(9)}, normalize=NormalizeConfig(obs=True)
    )
    again.evaluation(1)
    again.load_state_dict(made.state_dict())
    assert again.evaluation(1).reset([1]) == frozen.obs


def test_masks_pass_stacks_and_statistics_as_they_are():
    options = {"frame_stack": 2, "normalize": NormalizeConfig(obs=True)}
    envs = shown(
        observation=Box(-9, 9, (1,)), shows=[np.ones(1)], infos=[{MASK: [1, 0]}, {MASK: [0, 1]}], options=options
    )
    assert envs.spec.obs_space.unmasked.shape == (2, 1)
    assert envs.reset([1])[MASK].tolist() == [[True, False]]
    assert envs.step(np.array([0])).obs[MASK].tolist() == [[False, True]]


@pytest.mark.parametrize("space", [MultiBinary(3), Dict({"a": Discrete(2), "b": MultiDiscrete([2, 3])})])
@pytest.mark.parametrize("options", [{"frame_stack": 2}, {"normalize": NormalizeConfig(obs=True)}])
def test_what_holds_no_numbers_is_neither_stacked_nor_normalised(space, options):
    with pytest.raises(ConfigError, match=r"(multi_binary|dict) observations cannot be (stacked|normalised)"):
        factory("tests/Show-v0", kwargs={"observation": space}, **options).spec(1)


# An environment's own vector


class OwnVector(gym.vector.VectorEnv):
    """Two environments at once that show what they are answered; `infos` are told at every reset."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs=1, observation=None, action=None, info=None):
        self.num_envs, self.info = num_envs, info or {}
        self.single_observation_space, self.single_action_space = observation, action
        self.observation_space, self.action_space = batch_space(observation, num_envs), batch_space(action, num_envs)

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 2), np.int64), self.info

    def step(self, action):
        no = np.zeros(self.num_envs, bool)
        return action, np.zeros(self.num_envs), no, no, {}


gym.register("tests/Own-v0", vector_entry_point=OwnVector)


def own(**kwargs):
    return factory("tests/Own-v0", "native", kwargs=kwargs)


def test_several_choices_in_an_environments_own_vector():
    envs = own(observation=MultiDiscrete([3, 4]), action=MultiDiscrete([3, 9])).train(2)
    envs.reset([1, 2])
    assert envs.step(np.array([[2, 3], [0, 1]])).obs.tolist() == [[2, 3], [0, 1]]
    with pytest.raises(EnvError, match=r"its space is MultiDiscrete\(\[3, 4\]\), but the observations are \[\[2, 4\]"):
        envs.step(np.array([[2, 4], [0, 1]]))


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"observation": Dict({"a": Discrete(2)}), "action": Discrete(2)}, "observations of several parts"),
        ({"observation": Discrete(2), "action": Tuple([Discrete(2)])}, "actions of several parts"),
        ({"observation": MultiDiscrete([2, 2]), "action": Discrete(2), "info": {MASK: [[1, 0]]}}, "the masks that"),
    ],
)
def test_what_an_own_vector_cannot_show_is_refused(kwargs, says):
    with pytest.raises(ConfigError, match=f"env.vector: .*{says}"):
        own(**kwargs).spec(1)


def test_masks_of_an_own_vector_can_be_ignored():
    kwargs = {"observation": MultiDiscrete([2, 2]), "action": Discrete(2), "info": {MASK: [[1, 0]]}}
    made = factory("tests/Own-v0", "native", kwargs=kwargs, action_masks=False)
    assert made.spec(1).obs_space.kind == "multi_discrete"
