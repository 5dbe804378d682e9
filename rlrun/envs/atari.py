"""Atari 2600 games as DQN plays them: the emulator with everything between it and the agent, alone or many at once.

A step repeats a button for `frameskip` frames of the emulator and shows the elementwise maximum of the last two, grey
and small (Mnih et al. 2015, Nature 518:529, "Methods"); `sticky` is the chance that a frame repeats the button of the
frame before (Machado et al. 2018, arXiv:1709.06009, section 5.2). The frames of the game's id are not skipped a second
time: the emulator is driven frame by frame.

`AtariGame` is one game, whose state can be saved at any time. `AtariVector` steps many in threads of ALE's own C++, and
shows the same: the same seed and the same actions give the same pictures, rewards and ends, bit for bit. So `AtariGame`
follows it in details that are nobody's choice: which random numbers it takes, and that the last picture of a game shows
the frames before its end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py import Action, roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode

from rlrun.envs import catalogue
from rlrun.envs.resize import Resize
from rlrun.envs.vector.base import GOES_ON
from rlrun.errors import ConfigError
from rlrun.types import Array, StateDict

Info = dict[str, Any]
catalogue.register_atari()  # in a child process, too: it keeps the emulator from talking
NEVER = 2**30  # frames of an episode: the limit is kept here, where the last picture is the true one


@dataclass(frozen=True)
class Protocol:
    """How a game is played and seen."""

    frameskip: int = 4  # emulator frames of a step, all with one button
    sticky: float = 0.0  # chance of a frame to repeat the button of the one before
    full_action_space: bool = False  # all 18 buttons, also those that do nothing in this game
    noop_max: int = 30  # a game begins after 0 to so many frames without a button, FIRE included; 0 for none
    # where the game has a FIRE button, it is pressed for the agent when a game begins, and in place of whatever it
    # chooses in the first step after it lost a life: there are games that wait for it
    fire_reset: bool = True
    # what it is to lose a life while others are left. "terminal": the episode terminates, and the next one goes on with
    # the game; "penalty": `life_penalty` is taken off the reward, with the last life, too; "ignore"
    life_loss: str = "ignore"
    life_penalty: float = 1.0
    grayscale: bool = True  # one number for a pixel, its luminance
    screen_size: int = 84  # side of the square that pictures are brought to
    # frames after which a game is truncated, in whole steps; the beginning not counted
    max_num_frames_per_episode: int = 108_000
    threads: int = 0  # of many games, how many are stepped at a time; 0 for as many as there are processors
    mode: int | None = None  # of the cartridge; None: its own
    difficulty: int | None = None  # the same

    @property
    def max_steps(self) -> int:
        """Steps after which a game is truncated."""
        return max(1, self.max_num_frames_per_episode // self.frameskip)

    @property
    def picture(self) -> Box:
        """The space of what is seen."""
        return Box(0, 255, (self.screen_size, self.screen_size, *([] if self.grayscale else [3])), np.uint8)


class AtariGame(gym.Env):
    """One game, seen as uint8 [screen_size, screen_size], or with a last axis of 3 colours.

    Args:
        game: name of the ROM, such as "ms_pacman".
        protocol: fields of `Protocol`.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 15}  # noqa: RUF012  Gymnasium's own form

    def __init__(self, game: str, *, render_mode: str | None = None, **protocol: Any):
        asked = Protocol(**protocol)
        self._ale = ale = ale_py.ALEInterface()
        ale.setFloat("repeat_action_probability", asked.sticky)
        ale.setInt("random_seed", 0)
        if render_mode == "human":
            ale.setBool("display_screen", True)
        self._rom = str(roms.get_rom_path(game))
        ale.loadROM(self._rom)
        self._cartridge = asked.mode, asked.difficulty
        self._set_cartridge()
        self.render_mode = render_mode
        self._buttons = list(ale.getLegalActionSet() if asked.full_action_space else ale.getMinimalActionSet())
        self.action_space = Discrete(len(self._buttons))
        self._rules = Rules(asked, self._buttons)
        self._skip, self._noop_max, self._max_steps = asked.frameskip, asked.noop_max, asked.max_steps
        height, width = ale.getScreenDims()
        self._read = ale.getScreenGrayscale if asked.grayscale else ale.getScreenRGB
        self._resize = Resize(height, width, asked.screen_size, asked.screen_size)
        self.observation_space = asked.picture
        self._screens = np.zeros(
            (2, height, width, *asked.picture.shape[2:]), np.uint8
        )  # the last two frames of a step, newest first
        self._shown = np.zeros(self.observation_space.shape, np.uint8)
        self._noops = np.random.RandomState(0)  # the generator that ALE's vector has, std::mt19937
        self._steps = self._lives = 0
        self._life_began = False  # after another one was lost; nothing was done in it yet
        self._goes_on = False  # the episode has ended, but the game has not

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Info]:
        if seed is None and self._goes_on:
            self._goes_on = False
            return self._shown.copy(), {"lives": self._lives}
        ale = self._ale
        if seed is not None:
            ale.setInt("random_seed", seed)
            self._noops = np.random.RandomState(seed)
            ale.loadROM(self._rom)
            self._set_cartridge()
        ale.reset_game()
        if self._rules.fire:
            ale.act(Action.FIRE)
        for _ in range(self._drawn() - self._rules.fire):
            ale.act(Action.NOOP)
            if ale.game_over():
                ale.reset_game()
        self._screens[:] = 0
        self._read(self._screens[0])
        self._shown = self._resize(self._screens[0])
        self._steps, self._lives = 0, ale.lives()
        self._life_began = self._goes_on = False
        return self._shown.copy(), {"lives": self._lives}

    def step(self, action: int) -> tuple[Array, float, bool, bool, Info]:
        ale, screens, rules, over = self._ale, self._screens, self._rules, False
        button = Action.FIRE if self._life_began and rules.fire else self._buttons[action]
        reward = 0.0
        for left in range(self._skip, 0, -1):
            reward += ale.act(button)
            if over := ale.game_over():
                break
            if left <= 2:
                self._read(screens[left - 1])
        np.maximum(screens[0], screens[1], out=screens[0])
        self._shown = self._resize(screens[0])
        self._steps += 1
        lives, before = ale.lives(), self._lives
        self._lives, self._life_began = lives, not over and 0 < lives < before
        cut = not over and self._steps >= self._max_steps
        if before and (over or lives < before):
            reward -= rules.penalty
        info: Info = {"lives": lives}
        if self._life_began and rules.terminal:
            over, self._goes_on = True, not cut
            info[GOES_ON] = not cut
            cut = False
        return self._shown.copy(), reward, over, cut, info

    def render(self) -> Array | None:
        return self._ale.getScreenRGB() if self.render_mode == "rgb_array" else None

    def state_dict(self) -> StateDict:
        """The emulator, sticky button included, and everything around it."""
        _, key, position, *_ = self._noops.get_state()
        return {
            "emulator": np.frombuffer(self._ale.cloneState(include_rng=True).serialize(), np.uint8).copy(),
            "noops": {"key": key, "position": position},
            "screens": self._screens.copy(),
            "shown": self._shown.copy(),
            "steps": self._steps,
            "lives": self._lives,
            "life_began": self._life_began,
            "goes_on": self._goes_on,
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._ale.restoreState(ale_py.ALEState(np.asarray(state["emulator"], np.uint8).tobytes()))
        noops = state["noops"]
        self._noops.set_state(("MT19937", np.asarray(noops["key"], np.uint32), int(noops["position"]), 0, 0.0))
        self._screens[:], self._shown = state["screens"], np.array(state["shown"], np.uint8)
        self._steps, self._lives = int(state["steps"]), int(state["lives"])
        self._life_began, self._goes_on = bool(state["life_began"]), bool(state["goes_on"])

    def _drawn(self) -> int:
        """How many frames without a button: 0 to noop_max - 1, as std::uniform_int_distribution draws (Lemire 2019)."""
        count = self._noop_max
        if not count:
            return 0
        while True:
            product = int(self._noops.randint(0, 2**32, dtype=np.uint32)) * count
            if product % 2**32 >= 2**32 % count:
                return product >> 32

    def _set_cartridge(self) -> None:
        mode, difficulty = self._cartridge
        if mode is not None:
            self._ale.setMode(mode)
        if difficulty is not None:
            self._ale.setDifficulty(difficulty)


class Rules:
    """What a life is worth, and whether the game is begun for the agent."""

    def __init__(self, asked: Protocol, buttons: Sequence[Action]):
        self.terminal = asked.life_loss == "terminal"
        self.penalty = asked.life_penalty if asked.life_loss == "penalty" else 0.0
        self.fire = asked.fire_reset and Action.FIRE in buttons


def _first_processor(busy: int) -> int:
    """Where to bind threads, one to each processor from this one on, if so many are busy; -1 leaves it to the system.

    Linux wakes two of them on one processor now and then, and leaves them there while the other one idles: a step then
    takes twice its time, in some runs nearly every one. Games go to whichever thread is free, so no thread that shares
    its processor with something else holds up the others.
    """
    if not hasattr(os, "sched_getaffinity"):
        return -1
    processors = os.sched_getaffinity(0)
    return 0 if processors == set(range(os.cpu_count() or 0)) and busy >= len(processors) else -1


class AtariVector(gym.vector.VectorEnv):
    """Games in the threads of ALE's own vector: each as `AtariGame` with the same arguments shows it.

    It resets in the same step, takes a seed for every game, and can start one by itself (`options["reset_mask"]`). Its
    state cannot be saved: ALE does not hand it out.

    Args:
        num_envs: how many games.
        game, protocol: as of `AtariGame`; no mode or difficulty of a cartridge can be set.
    """

    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "seeds": "each",
        "render_modes": AtariGame.metadata["render_modes"],
    }

    def __init__(self, num_envs: int, game: str, **protocol: Any):
        asked = Protocol(**protocol)
        if cartridge := [key for key in ("mode", "difficulty") if getattr(asked, key) is not None]:
            problem = f"{' and '.join(cartridge)} cannot be chosen in ALE's own vector"
            raise ConfigError("env.vector", problem, "use env.vector=in_process or subprocess")
        self._games = games = AtariVectorEnv(
            game,
            num_envs,
            num_threads=asked.threads,
            thread_affinity_offset=_first_processor(min(asked.threads or num_envs, num_envs)),
            max_num_frames_per_episode=NEVER,
            repeat_action_probability=asked.sticky,
            full_action_space=asked.full_action_space,
            autoreset_mode=AutoresetMode.SAME_STEP,
            img_height=asked.screen_size,
            img_width=asked.screen_size,
            grayscale=asked.grayscale,
            stack_num=1,  # frames are stacked outside, so that a replay can keep each of them once
            frameskip=asked.frameskip,
            noop_max=asked.noop_max,
            episodic_life=False,  # it would begin a new game with every life
            reward_clipping=False,
            use_fire_reset=asked.fire_reset,
        )
        self.num_envs = num_envs
        self.single_observation_space = asked.picture
        self.single_action_space = games.single_action_space
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = games.action_space
        buttons = list(games.ale.get_action_set())
        self._fire = buttons.index(Action.FIRE) if Action.FIRE in buttons else 0
        self._rules = Rules(asked, buttons)
        self._max_steps = asked.max_steps
        self._clock, self._first_cut = 0, 0  # steps so far, and the one at which a game would be too long
        self._start = np.zeros(num_envs, np.int64)  # the clock when each game began
        self._lives = [0] * num_envs
        self._life_began, self._begun = np.zeros(num_envs, bool), False  # whether any did
        self._uncut = np.zeros(num_envs, bool)
        self._strength = np.ones(num_envs, np.float32)  # of pressing a paddle, where one is played with

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Info]:
        """Start games.

        Args:
            seed: one for each game; an int stands for itself and those that follow it.
            options: `reset_mask` [E] says which games; by default all.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        seeds = np.full(self.num_envs, -1) if seed is None else np.array([-1 if s is None else s for s in seed])
        obs, info = self._games.reset(seed=seeds[mask], options={"reset_mask": mask})
        self._count_from_now(mask)
        self._lives = np.where(mask, info["lives"], self._lives).tolist()
        self._life_began[mask] = False
        self._begun = bool(self._life_began.any())
        return obs[:, 0], {"lives": info["lives"]}

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, Info]:
        if self._begun and self._rules.fire:
            action = np.where(self._life_began, self._fire, action)
        self._games.ale.send(action, self._strength)
        obs, reward, over, _, told = self._games.ale.recv()
        lives = told["lives"]
        self._clock += 1
        # Lists: the games wait until this is known, and NumPy takes longer to say that nothing happened.
        eventful = self._begun or True in over.tolist() or lives.tolist() != self._lives
        if not eventful and self._clock < self._first_cut:
            return obs[:, 0], reward, over, self._uncut, {"lives": lives}
        return self._eventful(obs[:, 0], reward.astype(np.float64), over, lives, told.get("final_obs", obs)[:, 0])

    def _eventful(
        self, obs: Array, reward: Array, over: Array, lives: Array, last: Array
    ) -> tuple[Array, Array, Array, Array, Info]:
        """A step in which a life or a game may have ended; `last` has the last pictures of games that are over."""
        rules, began, before = self._rules, self._life_began, np.array(self._lives)
        cut = (self._clock - self._start >= self._max_steps) & ~over
        lost = (lives < before) & ~over
        began[:] = lost & (lives > 0)
        reward[lost | (over & (before > 0))] -= rules.penalty
        terminated = over | began if rules.terminal else over
        info: Info = {"lives": lives}
        if (terminated | cut).any():
            info |= {"final_obs": np.where(over.reshape(-1, *[1] * (obs.ndim - 1)), last, obs)}
            info |= {GOES_ON: terminated & ~over & ~cut}
        self._count_from_now(over)
        self._lives = lives.tolist()
        if cut.any():
            obs, _ = self.reset(options={"reset_mask": cut})
        self._begun = bool(began.any())
        return obs, reward, terminated, cut & ~terminated, info

    def _count_from_now(self, games: Array) -> None:
        """Of these [E] new ones have begun."""
        self._start[games] = self._clock
        self._first_cut = int(self._start.min()) + self._max_steps

    def close_extras(self, **kwargs: Any) -> None:
        self._games.close()
