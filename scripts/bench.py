"""How fast rlrun is, measured beside its peers in one run: A, B, A, B, … with each measurement in a process of its own.

    python scripts/bench.py --case dqn --rounds 3
    python scripts/bench.py --case ppo --compile
    python scripts/bench.py --case a2c | ppo_mujoco | sac | td3 | ddpg
    python scripts/bench.py --case dqn --compile --steps 50000
    python scripts/bench.py --case sac --compile --turn 25
    python scripts/bench.py --case dqn --floor 'path/to/floor_loop.py --tech eager'
    python scripts/bench.py --case dqn_atari
    python scripts/bench.py --case profile | env | env_atari | startup
    python scripts/bench.py --case uniform | prioritized | memory
    python scripts/bench.py --case actors | actors_atari | actors_peer | transport

`dqn`, `ppo` and `a2c` train CartPole with RL Zoo's hyperparameters, `pqn` with its tuned ones beside the peers' DQN,
`ppo_mujoco` HalfCheetah with the original PPO's, `sac`, `td3` and `ddpg` Pendulum with RL Zoo's, but a warm-up of 100
steps, on one thread each. The training loop alone is clocked: imports and construction come before, and there is
neither evaluation nor checkpointing in it on any side. rlrun writes metrics.csv and TensorBoard events all the while;
the peers write nothing. The peers are stable-baselines3 and, where it is installed, sbx: the same in JAX, without A2C,
whose DQN does not clip gradients. `--floor` adds an external bare loop: a script that takes `--case NAME --steps N
--repeats 1 --threads 1` and prints a line of JSON with `steps_per_s`.

`dqn_atari` trains Pong on two threads, in rlrun's environment on both sides: what differs is the library. `env_atari`
steps ALE's own vector of 8 games, bare and as rlrun has it, and 8 single games. Linux may leave the bare one's threads
on one processor for a whole run: a speed of about half is such a run.

"steady" is the second half of the loop, where everything is compiled; "whole" is all of it, with what was compiled on
the way. Both in steps per CPU second of the process and its children, which a busy machine moves less than steps/s of
the clock on the wall.

`uniform` and `prioritized` draw batches of 32 and 256 from replays of vectors of 4 numbers, in microseconds of CPU time
per batch: one at a time, and as a learner draws them that owes 16 updates. `prioritized` also hands in new priorities,
beside cpprb where that is installed, which returns NumPy arrays where rlrun returns tensors. `memory` is what pictures
of 84 x 84 take in the replay, beside what the run says at its start.

`actors` and `actors_atari` train A2C on CartPole and Pong with 1, 2 and 4 actor processes of 1, 8 and 16 environments,
and say what a step costs in microseconds of CPU time: in the environment, in acting (both as the serial twin spends
them), in all else that the actors do, in the learner's gathering and in its learning. `actors_peer` is A2C on Pong with
2 actors of 4 environments beside stable-baselines3's with 8 in SubprocVecEnv. `transport` moves stacks of four pictures
of 84 x 84 through the slots of an actor and into a round.

With `--turn N` all sides live at once and make N steps each in turn, so that whatever else the machine does meets all
of them alike; what counts are the CPU milliseconds of a step and the ratios within each turn.

A ratio says more than a speed: machines drift. "foreign" is how many cores other processes kept busy meanwhile; above
0.1 repeat the run. "return" is the mean of the last 100 training episodes: a fast loop that does not learn counts for
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import operator
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
THREADS |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
Measurement = dict[str, Any]

# RL Zoo's CartPole hyperparameters, in both dialects.
STEPS = {"dqn": 20_000, "ppo": 51_200, "a2c": 40_000, "ppo_mujoco": 12_288, "pqn": 50_000, "dqn_atari": 3_000}
STEPS |= {"sac": 3_000, "td3": 3_000, "ddpg": 3_000}
PENDULUM = """
    env=pendulum ~tuned env.num_envs=1 network.activation=relu algo.learning_rate=1e-3 algo.batch_size=256
    algo.tau=0.005 algo.train_freq=1 algo.gradient_steps=1 algo.learning_starts=100 algo.random_steps=100
"""
GAUSSIAN = "algo.noise.kind=gaussian algo.noise.std=0.1"
RLRUN = {
    "dqn": """
        algo=dqn env=cartpole ~tuned env.num_envs=1 network.hidden=[256,256] network.activation=relu
        algo.learning_rate=2.3e-3 algo.batch_size=64 buffer.capacity=100000 algo.learning_starts=1000 algo.gamma=0.99
        algo.train_freq=256 algo.gradient_steps=128 algo.target_update_interval=10 algo.max_grad_norm=10
        algo.epsilon.kind=linear algo.epsilon.start=1 algo.epsilon.end=0.04 algo.epsilon.fraction=0.16
    """,
    "ppo": """
        algo=ppo env=cartpole ~tuned env.num_envs=8 network.hidden=[64,64] network.activation=tanh
        network.init=orthogonal algo.n_steps=32 algo.batch_size=256 algo.n_epochs=20 algo.gae_lambda=0.8 algo.gamma=0.98
        algo.learning_rate=1e-3 algo.learning_rate_schedule=linear algo.clip_range=0.2 algo.clip_range_schedule=linear
        algo.ent_coef=0 algo.max_grad_norm=0.5
    """,
    "a2c": """
        algo=a2c env=cartpole ~tuned env.num_envs=8 network.hidden=[64,64] network.activation=tanh
        network.init=orthogonal algo.n_steps=5 algo.gae_lambda=1 algo.gamma=0.99 algo.learning_rate=7e-4
        algo.optimizer=rmsprop algo.rmsprop_eps=1e-5 algo.ent_coef=0 algo.vf_coef=0.5 algo.max_grad_norm=0.5
    """,
    "ppo_mujoco": """
        algo=ppo env=gym env.id=HalfCheetah-v5 ~tuned env.num_envs=1 network.hidden=[64,64] network.activation=tanh
        network.init=orthogonal algo.n_steps=2048 algo.batch_size=64 algo.n_epochs=10 algo.gae_lambda=0.95
        algo.gamma=0.99 algo.learning_rate=3e-4 algo.clip_range=0.2 algo.ent_coef=0 algo.max_grad_norm=0.5
    """,
    "sac": f"algo=sac {PENDULUM} network.hidden=[256,256] buffer.capacity=1000000 algo.gamma=0.99",
    "td3": f"algo=td3 {PENDULUM} network.hidden=[400,300] buffer.capacity=200000 algo.gamma=0.98 {GAUSSIAN}",
    "ddpg": f"""
        algo=ddpg {PENDULUM} network.hidden=[400,300] buffer.capacity=200000 algo.gamma=0.98 {GAUSSIAN}
        algo.actor_learning_rate=null
    """,
    "pqn": "algo=pqn env=cartpole",
    "dqn_atari": """
        algo=dqn env=atari env.id=ALE/Pong-v5 ~tuned network=cnn_nature algo.learning_rate=1e-4 algo.batch_size=32
        buffer.capacity=10000 algo.learning_starts=500 algo.gamma=0.99 algo.train_freq=4 algo.gradient_steps=1
        algo.target_update_interval=1000 algo.max_grad_norm=10
        algo.epsilon.kind=linear algo.epsilon.start=1 algo.epsilon.end=0.05 algo.epsilon.fraction=0.1
    """,
}
CORES = {"dqn_atari": 2}  # threads of a case, where they are more than one
LIKE_WITH_LIKE = "device=cpu eval.freq=0 eval.episodes=0 checkpoint.freq=0 logger.console=off logger.freq=1000"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", required=True, choices=[*STEPS, *CASES])
    parser.add_argument("--algo", default="dqn", choices=list(STEPS), help="what --case profile looks at")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="env steps per measurement")
    parser.add_argument("--turn", type=int, default=0, help="env steps of a side in turn with the others")
    parser.add_argument("--compile", action="store_true", help="also rlrun with device.compile=true, cold and warm")
    parser.add_argument("--floor", action="append", default=[], metavar="COMMAND", help="an external bare loop")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        LoopClock.turn = options.turn
        steps = options.steps or STEPS.get(options.case, 0)
        print(json.dumps(WORKERS[options.worker](options.case, steps, options.seed)))
        return
    measured = CASES.get(options.case, bench_training)(options)
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "measurements": measured}, indent=2) + "\n")


# --- training: rlrun, its peer and the floor in turn -----------------------------------------------------------------


def bench_training(options: argparse.Namespace) -> list[Measurement]:
    """Speeds, ratios to the peer, and whether each of them learned."""
    case, steps = options.case, options.steps or STEPS[options.case]
    sides: dict[str, Callable[[int], Measurement]] = {"sb3": functools.partial(worker, "sb3", case, steps)}
    if importlib.util.find_spec("sbx") and case not in (*CORES, "a2c"):  # it has no A2C
        sides["sbx"] = functools.partial(worker, "sbx", case, steps)
    sides["rlrun"] = functools.partial(worker, "rlrun", case, steps)
    with tempfile.TemporaryDirectory(prefix="rlrun-graphs-") as cache:
        if options.compile:
            compiled = functools.partial(worker, "compiled", case, steps, XDG_CACHE_HOME=cache)
            print("compiling once with an empty cache", flush=True)
            cold = compiled(seed=0)
            sides["rlrun, compiled"] = compiled
        if options.turn:
            if options.compile:
                print(f"compiling: {cold['compile_seconds']:.1f} s with an empty cache")
            names = {"rlrun, compiled": "compiled"}
            return in_turns(case, steps, options.turn, {side: names.get(side, side) for side in sides}, cache)
        for command in options.floor:
            sides[f"floor {' '.join(shlex.split(command)[1:])}"] = functools.partial(floor, command, case, steps)
        results = alternate(sides, options.rounds)
    table = new_table(
        f"{case.upper()}, {steps:,} steps, {CORES.get(case, 1)} threads, {options.rounds} rounds",
        ["", "steps/s", "steady", *[f"× {peer}" for peer in results if peer in PEERS], "whole", "return", "foreign"],
    )
    for name, runs in results.items():
        table.add_row(
            name,
            median(runs, "steps_per_s"),
            median(runs, "steady"),
            *[ratio(runs, results[peer]) for peer in PEERS if peer in results],
            median(runs, "whole"),
            f"{statistics.median(run['return'] for run in runs):.0f}",
            f"{max(run['foreign'] for run in runs):.2f}",
        )
    show(table)
    print("steady, whole: steps per CPU second, in the second half of the loop and in all of it; ×: of steady")
    if options.compile:
        warm = statistics.median(run["compile_seconds"] for run in results["rlrun, compiled"])
        print(f"compiling: {cold['compile_seconds']:.1f} s with an empty cache, {warm:.2f} s with a warm one")
    return [{"side": name, **run} for name, runs in results.items() for run in runs]


def in_turns(case: str, steps: int, turn: int, sides: dict[str, str], cache: str) -> list[Measurement]:
    """CPU milliseconds of a step, of workers that wait for each other; those of the first half are not told."""
    spent: dict[str, list[float]] = {side: [] for side in sides}
    with contextlib.ExitStack() as running:
        workers = {side: running.enter_context(waiting(name, case, steps, turn, cache)) for side, name in sides.items()}
        while all(worker.poll() is None for worker in workers.values()):
            said = {side: in_turn(worker) for side, worker in workers.items()}
            if any(found is None for found in said.values()):
                break
            if all(found is not None and 2 * found[0] > steps for found in said.values()):
                for side, found in said.items():
                    spent[side].append(1e3 * found[1])  # type: ignore[index]
    title = f"{case.upper()}, {len(spent['rlrun'])} turns of {turn} steps: CPU milliseconds of a step"
    table = new_table(title, ["", "a quarter below", "median", *[f"× {peer}" for peer in PEERS if peer in sides]])
    for side, each in spent.items():
        ratios = [statistics.median(map(operator.truediv, spent[peer], each)) for peer in PEERS if peer in sides]
        quarter, middle, _ = statistics.quantiles(each, n=4)
        table.add_row(side, f"{quarter:.2f}", f"{middle:.2f}", *[f"{ratio:.2f}" for ratio in ratios])
    show(table)
    return [{"side": side, "milliseconds": each} for side, each in spent.items()]


@contextmanager
def waiting(name: str, case: str, steps: int, turn: int, cache: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that makes a turn for every line that it is sent, and ends with the block."""
    args = ["--worker", name, "--case", case, "--steps", str(steps), "--turn", str(turn)]
    env = {**os.environ, **THREADS, **({"XDG_CACHE_HOME": cache} if name == "compiled" else {})}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, __file__, *args], env=env, **pipes) as process:
        yield process
        process.kill()


def in_turn(process: Any) -> tuple[int, float] | None:
    """The next turn of a worker: how far it has come, and CPU seconds of a step; None if it is done."""
    process.stdin.write("\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith(TURN):
            step, seconds = line.removeprefix(TURN).split()
            return int(step), float(seconds)
    return None


TURN = "turn: "
PEERS = ("sb3", "sbx")


def median(runs: list[Measurement], key: str) -> str:
    return f"{statistics.median(run[key] for run in runs):,.0f}"


def alternate(sides: dict[str, Callable[[int], Measurement]], rounds: int) -> dict[str, list[Measurement]]:
    """Each side once per round, so that a drift of the machine hits all of them."""
    results: dict[str, list[Measurement]] = {name: [] for name in sides}
    for seed in range(rounds):
        for name, measure in sides.items():
            results[name].append(measure(seed))
            speeds = results[name][-1]
            steady = f"  {speeds['steady']:>8,.0f} per CPU second" if "steady" in speeds else ""
            print(f"round {seed + 1}  {name:<28} {speeds['steps_per_s']:>10,.0f} steps/s{steady}", flush=True)
    return results


def ratio(runs: list[Measurement], reference: list[Measurement]) -> str:
    """Median of the ratios within each round."""
    ratios = (run["steady"] / base["steady"] for run, base in zip(runs, reference, strict=True))
    return f"{statistics.median(ratios):.2f}"


def worker(name: str, case: str, steps: int, seed: int, **env: str) -> Measurement:
    """One measurement in a process of its own."""
    args = ["--worker", name, "--case", case, "--steps", str(steps), "--seed", str(seed)]
    return last_json([sys.executable, __file__, *args], env)


def floor(command: str, case: str, steps: int, seed: int) -> Measurement:
    """One measurement of an external loop, which has seeds of its own."""
    script, *args = shlex.split(command)
    args += ["--case", f"{case}_cartpole", "--steps", str(steps), "--repeats", "1", "--threads", "1"]
    found = last_json([sys.executable, script, *args], {})
    return {
        "steps_per_s": found["steps_per_s"],
        "steady": float("nan"),
        "whole": float("nan"),
        "return": found.get("last20_mean_return", float("nan")),
        "foreign": found.get("other_load_cores", float("nan")),
    }


def last_json(command: Sequence[str], env: dict[str, str]) -> Measurement:
    """The object that a process prints as its last line."""
    done = subprocess.run(command, env={**os.environ, **THREADS, **env}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


class LoopClock:
    """Clocks a training loop of so many steps, from its construction on; told by the loop how far it has come."""

    turn = 0  # steps after which it waits for a line on its input; 0: never

    def __init__(self, steps: int):
        self.begins: tuple[int, float] | None = None  # step and CPU seconds of this turn
        self.steps = steps
        self.half: tuple[int, float] | None = None  # steps and CPU seconds when the second half began
        self.load = foreign_load()
        self.begun = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        """Seconds on the wall, and of this process and its children on the CPU."""
        return time.perf_counter(), sum(os.times()[:4])

    def at(self, step: int) -> None:
        if self.turn and (self.begins is None or step >= self.begins[0] + self.turn):
            if self.begins is not None:
                begun, cpu = self.begins
                print(f"{TURN}{step} {(time.process_time() - cpu) / (step - begun)}", flush=True)
            if not sys.stdin.readline():
                raise SystemExit("nobody waits for another turn")
            self.begins = step, time.process_time()
        if self.half is None and 2 * step >= self.steps:
            self.half = (step, self.now()[1])

    def end(self, steps: int) -> Measurement:
        wall, cpu = self.now()
        half, cpu_then = self.half or (0, self.begun[1])
        return {
            "steps_per_s": steps / (wall - self.begun[0]),
            "steady": (steps - half) / (cpu - cpu_then),
            "whole": steps / (cpu - self.begun[1]),
            "foreign": self.load(),
        }


def train_rlrun(case: str, steps: int, seed: int, compiled: bool = False) -> Measurement:
    """rlrun with csv and TensorBoard on; clocked from the first env step to the end of the last chunk."""
    from rlrun.run.loop import loop

    overrides = [*words(case, steps, seed), f"device.compile={str(compiled).lower()}"]
    with tempfile.TemporaryDirectory() as folder:
        run, callbacks = make_run(overrides, Path(folder) / "run")
        import_tensorboard()
        compiling = time_compiling() if compiled else [0.0]
        clock = LoopClock(steps)
        with run.interrupt:
            for _ in loop(run, callbacks):
                clock.at(run.progress.env_steps)
        found = clock.end(run.progress.env_steps)
        run.close()
        learned = run.logger.last.get("rollout/ep_rew_mean", float("nan"))
        return {**found, "return": learned, "compile_seconds": sum(compiling)}


def train_sb3(case: str, steps: int, seed: int) -> Measurement:
    """stable-baselines3: `learn()` as it comes, without loggers."""
    import stable_baselines3
    import torch

    torch.set_num_threads(CORES.get(case, 1))
    extra = {"max_grad_norm": 10} if "dqn" in case or case == "pqn" else {}
    return train_peer(stable_baselines3, case, steps, seed, device="cpu", **extra)


def train_sbx(case: str, steps: int, seed: int) -> Measurement:
    """sbx, which takes stable-baselines3's words."""
    import sbx

    return train_peer(sbx, case, steps, seed)


def train_peer(library: Any, case: str, steps: int, seed: int, **extra: Any) -> Measurement:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    if case in ("dqn", "pqn"):
        model: Any = library.DQN(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=1, seed=seed),
            learning_rate=2.3e-3,
            batch_size=64,
            buffer_size=100_000,
            learning_starts=1000,
            gamma=0.99,
            target_update_interval=10,
            train_freq=256,
            gradient_steps=128,
            exploration_fraction=0.16,
            exploration_final_eps=0.04,
            policy_kwargs={"net_arch": [256, 256]},
            seed=seed,
            **extra,
        )
    elif case == "dqn_atari":
        model = library.DQN(
            "CnnPolicy",
            pong_for_sb3(seed),
            learning_rate=1e-4,
            batch_size=32,
            buffer_size=10_000,
            learning_starts=500,
            gamma=0.99,
            target_update_interval=1000,
            train_freq=4,
            gradient_steps=1,
            exploration_fraction=0.1,
            exploration_final_eps=0.05,
            seed=seed,
            **extra,
        )
    elif case in ("sac", "td3", "ddpg"):
        model = pendulum_for_peer(library, case, seed, **extra)
    elif case == "a2c":
        cartpoles = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
        model = library.A2C("MlpPolicy", cartpoles, n_steps=5, gae_lambda=1.0, ent_coef=0.0, seed=seed, **extra)
    elif case == "ppo_mujoco":
        model = library.PPO("MlpPolicy", make_vec_env("HalfCheetah-v5", n_envs=1, seed=seed), seed=seed, **extra)
    else:
        model = library.PPO(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=8, seed=seed),
            n_steps=32,
            batch_size=256,
            n_epochs=20,
            gae_lambda=0.8,
            gamma=0.98,
            learning_rate=lambda remaining: remaining * 1e-3,
            clip_range=lambda remaining: remaining * 0.2,
            ent_coef=0.0,
            seed=seed,
            **extra,
        )
    clock = LoopClock(steps)

    class Tell(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            clock.at(self.num_timesteps)

    model.learn(steps, callback=Tell())
    found = clock.end(model.num_timesteps)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    return {**found, "return": statistics.mean(returns) if returns else float("nan")}


def pendulum_for_peer(library: Any, case: str, seed: int, **extra: Any) -> Any:
    """An actor and critics before their training."""
    import numpy as np
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.noise import NormalActionNoise

    if case != "sac":
        noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))  # of actions from -1 to 1
        extra |= {"action_noise": noise, "buffer_size": 200_000, "gamma": 0.98}
    return getattr(library, case.upper())(
        "MlpPolicy",
        make_vec_env("Pendulum-v1", n_envs=1, seed=seed),
        learning_rate=1e-3,
        learning_starts=100,
        batch_size=256,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [256, 256] if case == "sac" else [400, 300]},
        seed=seed,
        **extra,
    )


def pong_for_sb3(seed: int, processes: int = 0) -> Any:
    """The game that rlrun plays, stacked by stable-baselines3, whose own wrappers would need OpenCV."""
    import gymnasium
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    from rlrun.envs.atari import AtariGame

    def pong() -> gymnasium.Env:
        game = AtariGame("pong", life_loss="terminal")
        seen = gymnasium.spaces.Box(0, 255, (84, 84, 1), game.observation_space.dtype)  # type: ignore[arg-type]
        shown: Any = gymnasium.wrappers.TransformObservation(game, lambda obs: obs[..., None], seen)
        return gymnasium.wrappers.TransformReward(shown, lambda reward: max(-1.0, min(1.0, float(reward))))

    how: dict[str, Any] = {"vec_env_cls": SubprocVecEnv} if processes else {}
    return VecFrameStack(make_vec_env(pong, n_envs=processes or 1, seed=seed, **how), 4)


# --- actors ----------------------------------------------------------------------------------------------------------

CREWS = [(actors, each) for actors in (1, 2, 4) for each in (1, 8, 16)]
A2C_PONG = """
    algo=a2c env=atari env.id=ALE/Pong-v5 ~tuned env.vector=in_process network=cnn_nature algo.n_steps=5
    algo.gae_lambda=1 algo.gamma=0.99 algo.learning_rate=7e-4 algo.optimizer=rmsprop algo.rmsprop_eps=1e-5
    algo.ent_coef=0.01 algo.vf_coef=0.5 algo.max_grad_norm=0.5
"""
LAYERS = ("environment", "acting", "rest of actors", "gathering", "learning")


def bench_actors(options: argparse.Namespace, case: str = "actors", steps: int = 20_000) -> list[Measurement]:
    sides: dict[str, Callable[[int], Measurement]] = {
        f"{actors} x {each}": functools.partial(worker, f"actors-{actors}-{each}", case, options.steps or steps)
        for actors, each in CREWS
    }
    results = alternate(sides, options.rounds)
    table = new_table(f"A2C with actors x environments, {case}", ["", "env steps/s", *LAYERS, "foreign"])
    for name, runs in results.items():
        costs = [f"{statistics.median(run[layer] for run in runs):,.0f} us" for layer in LAYERS]
        table.add_row(name, median(runs, "steps_per_s"), *costs, f"{max(run['foreign'] for run in runs):.2f}")
    show(table)
    return [{"side": name, **run} for name, runs in results.items() for run in runs]


def bench_actors_peer(options: argparse.Namespace) -> list[Measurement]:
    steps = options.steps or 4_000
    sides: dict[str, Callable[[int], Measurement]] = {
        name: functools.partial(worker, side, "actors_peer", steps)
        for name, side in (("rlrun, 2 actors x 4", "actors-2-4"), ("sb3, 8 in SubprocVecEnv", "sb3-subprocesses"))
    }
    results = alternate(sides, options.rounds)
    table = new_table("A2C on Pong, 8 games", ["", "env steps/s", "per CPU second", "ratio", "foreign"])
    reference = results["sb3, 8 in SubprocVecEnv"]
    for name, runs in results.items():
        foreign = f"{max(run['foreign'] for run in runs):.2f}"
        table.add_row(name, median(runs, "steps_per_s"), median(runs, "steady"), ratio(runs, reference), foreign)
    show(table)
    return [{"side": name, **run} for name, runs in results.items() for run in runs]


def actors_rlrun(actors: int, each: int, case: str, steps: int, seed: int) -> Measurement:
    """A run with actors in processes, and where a short one of the serial twin spends its time."""
    crew = [f"experience.actors={actors}", f"env.num_envs={actors * each}"]
    base = (RLRUN["a2c"] if case == "actors" else A2C_PONG).split()
    base += [*LIKE_WITH_LIKE.split(), f"seed={seed}"]
    spent = dict.fromkeys(("environment", "acting", "learning", "gathering"), 0.0)

    def timed(layer: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                spent[layer] += time.process_time() - begun

        return inner

    def through(kind: str, budget: int, watch: Callable[[Any], None]) -> Measurement:
        words = [*base, *crew, f"experience={kind}", f"total_timesteps={budget}"]
        with tempfile.TemporaryDirectory() as folder:
            run, _ = make_run(words, Path(folder) / "run")
            watch(run)
            stream, learn = iter(run.source), timed("learning", run.algo.learn)
            advance = timed("gathering", lambda: next(stream))
            run.progress.advance(advance())  # everyone is there
            before, own, load, begun = others(run), time.process_time(), foreign_load(), time.perf_counter()
            spent.update(dict.fromkeys(spent, 0.0))
            first = run.progress.env_steps
            while not run.progress.done:
                chunk = advance()
                run.progress.advance(chunk)
                learn(chunk.data, run.progress)
                run.source.publish(run.algo.agent)
            wall, taken = time.perf_counter() - begun, run.progress.env_steps - first
            theirs, mine = others(run) - before, time.process_time() - own
            foreign = max(0.0, load() - theirs / wall)
            run.close()
        each = {layer: 1e6 * seconds / taken for layer, seconds in spent.items()}
        speed = {"steps_per_s": taken / wall, "steady": taken / (theirs + mine), "foreign": foreign}
        return {**each, **speed, "actors": 1e6 * theirs / taken}

    def others(run: Any) -> float:
        """CPU seconds of the actors so far."""
        pids = [place.process.pid for place in getattr(run.source.crew, "places", ())]
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
        return sum(int(jiffies) for stat in stats for jiffies in stat) / os.sysconf("SC_CLK_TCK")

    def inside(run: Any) -> None:
        for actor in run.source.crew.actors:
            actor.source.envs.step = timed("environment", actor.source.envs.step)
            actor.source.acting.agent.act = timed("acting", actor.source.acting.agent.act)

    twin = through("serial", max(steps // 4, 2 * 5 * actors * each), inside)
    found = through("actors", steps, lambda run: None)
    rest = found["actors"] - twin["environment"] - twin["acting"]
    return {**found, "environment": twin["environment"], "acting": twin["acting"], "rest of actors": rest}


def train_sb3_subprocesses(case: str, steps: int, seed: int) -> Measurement:
    """A2C as it comes, on the games that rlrun plays."""
    import torch
    from stable_baselines3 import A2C

    torch.set_num_threads(1)
    envs = pong_for_sb3(seed, 8)
    clock = LoopClock(steps)
    model = A2C("CnnPolicy", envs, device="cpu", seed=seed)
    model.learn(steps)
    wall = time.perf_counter()
    envs.close()  # the time of processes counts when they have ended
    found = clock.end(steps)
    return {**found, "steps_per_s": steps / (wall - clock.begun[0]), "steady": found["whole"]}


def bench_transport(options: argparse.Namespace) -> list[Measurement]:
    """One process writes and reads: what it takes beside that two processes share the memory's bandwidth."""
    import numpy as np

    from rlrun.experience.actors.crew import Delivery
    from rlrun.experience.actors.slots import Content, Slots
    from rlrun.experience.actors.source import _beside
    from rlrun.experience.rows import Rows
    from rlrun.types import Chunk, EnvSpec, Rollout, Space

    pictures, actions = (
        Space("box", (4, 84, 84), np.dtype(np.uint8), stack=4),
        Space("discrete", (), np.dtype(int), n=6),
    )
    found = []
    for steps, envs in ((5, 1), (5, 8), (20, 8), (128, 8)):
        spec = EnvSpec("pictures", pictures, actions, num_envs=envs)
        slots, whole = Slots(Content(spec, steps), 1), Rows(EnvSpec("pictures", pictures, actions, 2 * envs), steps)
        sweep = np.random.default_rng(0).integers(256, size=(envs, *pictures.shape), dtype=np.uint8)

        def move(slots: Any = slots, whole: Any = whole, steps: int = steps, sweep: Any = sweep) -> None:
            rows = slots.rows(0)
            for t in range(steps + 1):
                rows.obs[t] = sweep
            rollout = Rollout(rows.obs, rows.action, rows.reward, rows.terminated, rows.truncated, {}, {})
            slots.put(0, Delivery(Chunk(rollout.env_steps, [], rollout), 0))
            _beside([slots.get(0), slots.get(0)], whole)

        cost = cpu_microseconds(move, number=20)
        size = (steps + 1) * sweep.nbytes
        found.append({"side": f"{steps} x {envs}", "us": cost, "mb_per_s": size / cost})
    table = new_table("chunks of stacks of four pictures, written by an actor and put into a round", ["", "us", "MB/s"])
    for row in found:
        table.add_row(row["side"], f"{row['us']:,.0f}", f"{row['mb_per_s']:,.0f}")
    show(table)
    return found


# --- profile: where rlrun's time goes --------------------------------------------------------------------------------


def bench_profile(options: argparse.Namespace) -> list[Measurement]:
    """Shares of the training loop's wall time."""
    found = worker("profile", options.algo, options.steps or STEPS[options.algo], 0)
    table = new_table(f"{options.algo.upper()} on CartPole: where the time goes", ["part", "share", "what it is"])
    for part, share in found["shares"].items():
        table.add_row(part, f"{share:.1%}", PARTS[part])
    show(table)
    print(f"{found['steps_per_s']:,.0f} steps/s with the clocks in place, foreign load {found['foreign']:.2f}")
    return [found]


PARTS = {
    "env": "stepping environments",
    "act": "observations to actions",
    "sample": "storing experience, drawing batches, advantages",
    "update": "losses, gradients, optimiser, target network",
    "log": "metrics to csv, jsonl and TensorBoard",
    "other": "the loop itself, collection, statistics",
}


def profile_rlrun(algo: str, steps: int, seed: int) -> Measurement:
    """Wrap the parts of a run in clocks that count their own time only, then train."""
    from rlrun.run.loop import loop

    with tempfile.TemporaryDirectory() as folder:
        run, callbacks = make_run([*words(algo, steps, seed), "device.compile=false"], Path(folder) / "run")
        import_tensorboard()
        clocks = Clocks()
        learner: Any = run.algo
        clocks.wrap(run.source.envs, "step", "env")
        clocks.wrap(learner.agent, "act", "act")
        memory = learner.buffer if hasattr(learner, "buffer") else learner.minibatches
        clocks.wrap(memory, "add", "sample")
        for method in ("bursts", "flat"):
            clocks.wrap_generator(memory, method, "sample")
        clocks.wrap(learner, "advantages", "sample")
        for method in ("burst", "eager"):
            clocks.wrap_generator(learner.optimiser, method, "update")
        clocks.wrap(run.logger, "log", "log")
        load = foreign_load()
        begun = time.perf_counter()
        with run.interrupt:
            for _ in loop(run, callbacks):
                total = time.perf_counter() - begun
        run.close()
    shares = {part: clocks.seconds.get(part, 0.0) / total for part in PARTS}
    shares["other"] = 1.0 - sum(shares.values())
    return {"shares": shares, "steps_per_s": run.progress.env_steps / total, "foreign": load()}


class Clocks:
    """Wall time per part; a part that calls another does not count the other's time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []  # per open clock: time spent in clocks inside it

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        self._inner.append(0.0)
        begun = time.perf_counter()
        yield
        took = time.perf_counter() - begun
        self.seconds[part] = self.seconds.get(part, 0.0) + took - self._inner.pop()
        if self._inner:
            self._inner[-1] += took

    def clocked(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.running(part):
                return function(*args, **kwargs)

        return call

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Clock a method of an object, if it has one of that name."""
        if hasattr(owner, method):
            setattr(owner, method, self.clocked(getattr(owner, method), part))

    def wrap_generator(self, owner: Any, method: str, part: str) -> None:
        """Clock what a generator does until each `yield`, not what its consumer does between them."""
        if not hasattr(owner, method):
            return
        make = getattr(owner, method)

        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = iter(make(*args, **kwargs))
            advance = self.clocked(lambda: next(items, END), part)
            while (item := advance()) is not END:
                yield item

        setattr(owner, method, generate)


END = object()


# --- environments: what stepping alone costs -------------------------------------------------------------------------


def bench_env(options: argparse.Namespace) -> list[Measurement]:
    """CartPole with random actions drawn beforehand, through three vectors."""
    vectors = [(name, num_envs) for num_envs in (1, 8) for name in ("gymnasium", "sb3-vector", "rlrun-vector")]
    return bench_vectors(options, "CartPole", vectors, options.steps or 50_000)


def bench_env_atari(options: argparse.Namespace) -> list[Measurement]:
    """Pong with random actions through ALE's own vector, bare, and as rlrun has it, and as single games."""
    vectors = [(name, 8) for name in ("ale-vector", "rlrun-atari", "rlrun-games")]
    return bench_vectors(options, "Pong", vectors, options.steps or 8_000)


def bench_vectors(
    options: argparse.Namespace, game: str, vectors: list[tuple[str, int]], steps: int
) -> list[Measurement]:
    sides: dict[str, Callable[[int], Measurement]] = {
        f"{name}, num_envs={num_envs}": functools.partial(vector_worker, name, steps, num_envs)
        for name, num_envs in vectors
    }
    results = alternate(sides, options.rounds)
    table = new_table(
        f"{game} without an agent, {options.rounds} rounds",
        ["", "env steps/s", "min – max", "per CPU second", "foreign"],
    )
    for name, runs in results.items():
        speeds = [run["steps_per_s"] for run in runs]
        table.add_row(
            name,
            f"{statistics.median(speeds):,.0f}",
            f"{min(speeds):,.0f} – {max(speeds):,.0f}",
            median(runs, "steady"),
            f"{max(run['foreign'] for run in runs):.2f}",
        )
    show(table)
    return [{"side": name, **run} for name, runs in results.items() for run in runs]


def vector_worker(name: str, steps: int, num_envs: int, round_: int) -> Measurement:
    return worker(name, "env", steps, num_envs)


def step_vector(step: Callable[[Any], Any], steps: int, num_envs: int) -> Measurement:
    import numpy as np

    actions = np.random.default_rng(0).integers(2, size=(steps // num_envs, num_envs))
    clock = LoopClock(actions.size)
    for t, action in enumerate(actions):
        clock.at(t * num_envs)
        step(action)
    return clock.end(actions.size)


def env_gymnasium(case: str, steps: int, num_envs: int) -> Measurement:
    import gymnasium

    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    vector: Any = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", disable_env_checker=True)] * num_envs, autoreset_mode=mode
    )
    vector.reset(seed=0)
    return step_vector(vector.step, steps, num_envs)


def env_sb3(case: str, steps: int, num_envs: int) -> Measurement:
    from stable_baselines3.common.env_util import make_vec_env

    vector = make_vec_env("CartPole-v1", n_envs=num_envs, seed=0)
    vector.reset()
    return step_vector(vector.step, steps, num_envs)


def env_rlrun(case: str, steps: int, num_envs: int) -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        run, _ = make_run([*words("dqn", steps, 0), f"env.num_envs={num_envs}"], Path(folder) / "run")
        vector: Any = run.source.envs
        vector.reset(list(range(num_envs)))
        return step_vector(vector.step, steps, num_envs)


def env_ale(case: str, steps: int, num_envs: int) -> Measurement:
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    vector = AtariVectorEnv("pong", num_envs, num_threads=2, autoreset_mode=AutoresetMode.SAME_STEP)
    vector.reset(seed=0)
    return step_vector(vector.step, steps, num_envs)


def env_rlrun_atari(case: str, steps: int, num_envs: int, way: str = "native") -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        how = [f"env.num_envs={num_envs}", f"env.vector={way}", "env.threads=2"]
        run, _ = make_run([*words("dqn_atari", steps, 0), *how], Path(folder) / "run")
        vector: Any = run.source.envs
        vector.reset(list(range(num_envs)))
        return step_vector(vector.step, steps, num_envs)


# --- start-up --------------------------------------------------------------------------------------------------------

CONFIG_ERRORS = {"algo.lr=1", "algo.gamma=7", "nothere"}  # words that make a command end with 2

# Stands in for `rlrun algo=dqn env=cartpole`, up to its first env step.
FIRST_STEP = """
import os, sys
from rlrun import cli
from rlrun.experience.rollouts import Rollouts
sweep = Rollouts._sweep
def first(*args):
    sweep(*args)
    os._exit(0)
Rollouts._sweep = first
sys.exit(cli.main(sys.argv[1:]))
"""


def bench_startup(options: argparse.Namespace) -> list[Measurement]:
    """CPU seconds until the command answers, beside what importing torch costs."""
    console = rlrun_command()
    commands = {
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "rlrun --help": [*console, "--help"],
        "rlrun list": [*console, "list"],
        "rlrun runs": [*console, "runs"],
        "rlrun resume nothere": [*console, "resume", "nothere"],
        "an unknown key": [*console, "algo.lr=1"],
        "a wrong value": [*console, "algo.gamma=7"],
        "rlrun … to the first env step": [sys.executable, "-c", FIRST_STEP, "algo=dqn", "env=cartpole"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds + 1):  # the first round only warms the file cache
            for name, command in commands.items():
                found[name].append(cpu_seconds(command, folder))
    found = {name: seconds[1:] for name, seconds in found.items()}
    torch_seconds = statistics.median(found["python -c 'import torch'"])
    table = new_table(f"CPU seconds, {options.rounds} rounds", ["", "seconds", "beyond torch", "min – max"])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        spread = f"{min(seconds):.2f} – {max(seconds):.2f}"
        table.add_row(name, f"{middle:.2f}", f"{middle - torch_seconds:+.2f}", spread)
    show(table)
    return [{"side": name, "cpu_seconds": seconds} for name, seconds in found.items()]


def cpu_seconds(command: Sequence[str], cwd: str) -> float:
    """User plus system time of a process and its children; SystemExit if it failed otherwise than by a config error."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (2 if CONFIG_ERRORS & {*command} else 0):
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


# --- replay: drawing batches, and what is stored ---------------------------------------------------------------------

BATCHES = (32, 256)
SIZES = (10**4, 10**5, 10**6, 10**7)


def bench_uniform(options: argparse.Namespace) -> list[Measurement]:
    """Uniform batches from a million stored steps."""
    runs = [worker("replay", "uniform", options.steps or 10**6, seed) for seed in range(options.rounds)]
    table = new_table("uniform batches, µs each", ["", *[f"batch of {size}" for size in BATCHES]])
    for name, key in (("one at a time", "single"), ("sixteen together", "burst")):
        table.add_row(name, *[least(runs, f"{key}_{size}") for size in BATCHES])
    show(table)
    return runs


def bench_prioritized(options: argparse.Namespace) -> list[Measurement]:
    """A prioritised batch and its new priorities, from replays of growing size."""
    sides = ["replay", *(["cpprb"] if importlib.util.find_spec("cpprb") else [])]
    columns = [f"{'rlrun' if side == 'replay' else side}, {size}" for size in BATCHES for side in sides]
    table = new_table("sample and update, µs", ["stored", *columns])
    found = []
    for size in [options.steps] if options.steps else SIZES:
        runs: dict[str, list[Measurement]] = {side: [] for side in sides}
        for seed in range(options.rounds):
            for side in sides:
                runs[side].append(worker(side, "prioritized", size, seed))
        table.add_row(f"{size:,}", *[least(runs[side], f"single_{batch}") for batch in BATCHES for side in sides])
        found += [run for side in sides for run in runs[side]]
    show(table)
    return found


def bench_memory(options: argparse.Namespace) -> list[Measurement]:
    """Resident bytes that a stored step takes, against the estimate."""
    steps = options.steps or 100_000
    table = new_table(f"replay of {steps:,} steps of 4 x 84 x 84 bytes", ["", "bytes a step", "declared", "ratio"])
    found = []
    for envs in (1, 8):
        for n_step in (1, 3):
            run = worker(f"stored-{envs}-{n_step}", "memory", steps, 0)
            ratio = f"{run['declared'] / run['grown']:.3f}"
            table.add_row(
                f"{envs} environments, n_step={n_step}", f"{run['grown']:,.0f}", f"{run['declared']:,}", ratio
            )
            found.append(run)
    show(table)
    return found


def least(runs: list[Measurement], key: str) -> str:
    return f"{min(run[key] for run in runs):.1f}"


def cpu_microseconds(call: Callable[[], object], number: int = 200, repeats: int = 9) -> float:
    """CPU time of a call, of the quietest of some repeats."""
    call()
    return min(timeit.repeat(call, number=number, repeat=repeats, timer=time.process_time)) / number * 1e6


def replay_rlrun(case: str, steps: int, seed: int) -> Measurement:
    """A full replay of either kind."""
    import numpy as np
    import torch

    from rlrun.types import Space

    rng = np.random.default_rng(seed)
    buffer = a_replay(case, Space("box", (4,), np.dtype(np.float32)), steps, rng)
    for begun in range(0, steps, 10**5):
        count = min(10**5, steps - begun)
        buffer.add(a_rollout(rng.standard_normal((count + 1, 1, 4), dtype=np.float32)))
    found: Measurement = {"side": "rlrun", "stored": steps}
    weighs = case == "prioritized"
    if weighs:
        buffer.update_priorities(torch.arange(steps), torch.from_numpy(rng.random(steps)))
    for size in BATCHES:
        errors = torch.from_numpy(rng.random(size))

        def single(size: int = size, errors: Any = errors) -> None:
            batch = buffer.sample(size)
            if weighs:
                buffer.update_priorities(batch.index, errors)

        found[f"single_{size}"] = cpu_microseconds(single)
        found[f"burst_{size}"] = cpu_microseconds(lambda size=size: list(buffer.bursts(16, size)), 50) / 16  # type: ignore[misc]
    return found


def replay_cpprb(case: str, steps: int, seed: int) -> Measurement:
    """The same in cpprb."""
    import numpy as np
    from cpprb import PrioritizedReplayBuffer

    rng = np.random.default_rng(seed)
    shapes = {"obs": {"shape": 4}, "act": {"dtype": np.int64}, "rew": {}, "next_obs": {"shape": 4}, "done": {}}
    buffer = PrioritizedReplayBuffer(steps, shapes, alpha=0.6)
    obs, zeros = rng.standard_normal((steps, 4), dtype=np.float32), np.zeros(steps)
    buffer.add(obs=obs, act=zeros.astype(int), rew=zeros, next_obs=obs, done=zeros, priorities=rng.random(steps))
    found: Measurement = {"side": "cpprb", "stored": steps}
    for size in BATCHES:
        errors = rng.random(size)

        def single(size: int = size, errors: Any = errors) -> None:
            buffer.update_priorities(buffer.sample(size, beta=0.5)["indexes"], errors)

        found[f"single_{size}"] = cpu_microseconds(single)
    return found


def replay_stored(envs: int, n_step: int, case: str, steps: int, seed: int) -> Measurement:
    """How much memory a replay of pictures takes up while it fills; an episode ends every 800 steps."""
    import numpy as np

    from rlrun.types import Space

    space = Space("box", (4, 84, 84), np.dtype(np.uint8), stack=4)
    buffer = a_replay("uniform", space, steps, np.random.default_rng(seed), envs, n_step)
    length = 40  # of a film that repeats itself
    frames = np.random.default_rng(seed).integers(256, size=(length, envs, 84, 84), dtype=np.uint8)
    film = np.stack([np.stack([frames[(t + j) % length] for j in range(4)], 1) for t in range(length + 1)])
    buffer.add(a_rollout(film))
    buffer.sample(32)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, held, chunks = resident(), len(buffer), 0
    while len(buffer) < steps:
        chunks += 1
        buffer.add(a_rollout(film, ends=chunks * length % 800 < length))
    (need,) = footprint_of("uniform", space, steps, envs)
    return {
        "envs": envs,
        "n_step": n_step,
        "grown": (resident() - before) / (len(buffer) - held),
        "declared": int(need.each),
    }


def a_spec(space: Any, envs: int) -> Any:
    import numpy as np

    from rlrun.types import EnvSpec, Space

    return EnvSpec("bench", space, Space("discrete", (), np.dtype(np.int64), n=6), num_envs=envs)


def a_replay(kind: str, space: Any, capacity: int, rng: Any, envs: int = 1, n_step: int = 1) -> Any:
    from rlrun import buffers
    from rlrun.compute.device import Device, DeviceConfig

    config, make = {
        "uniform": (buffers.UniformConfig, buffers.uniform),
        "prioritized": (buffers.PrioritizedConfig, buffers.prioritized),
    }[kind]
    options: Any = config(capacity=capacity, n_step=n_step)
    device = Device(DeviceConfig(accelerator="cpu"))
    return make(options, a_spec(space, envs), gamma=0.99, rng=rng, device=device, total_timesteps=10**7)  # type: ignore[operator]


def footprint_of(kind: str, space: Any, capacity: int, envs: int) -> Any:
    from rlrun.buffers.replay import UniformConfig, footprint

    return footprint(UniformConfig(capacity=capacity), a_spec(space, envs))


def a_rollout(obs: Any, ends: bool = False) -> Any:
    """Steps [T, E] between observations [T+1, E, *obs], of which the last may end all episodes."""
    import numpy as np

    from rlrun.types import Rollout

    shape = (len(obs) - 1, obs.shape[1])
    truncated = np.zeros(shape, bool)
    truncated[-1] = ends
    final = {(shape[0] - 1, e): obs[-1, e] for e in range(shape[1])} if ends else {}
    zeros = np.zeros(shape, np.float32)
    return Rollout(obs, np.zeros(shape, np.int64), zeros, np.zeros(shape, bool), truncated, final, {})


# --- shared ----------------------------------------------------------------------------------------------------------


def words(case: str, steps: int, seed: int) -> list[str]:
    """The overrides of one measurement."""
    threads = f"device.threads={CORES.get(case, 1)}"
    return [*RLRUN[case].split(), *LIKE_WITH_LIKE.split(), threads, f"total_timesteps={steps}", f"seed={seed}"]


def make_run(overrides: Sequence[str], folder: Path) -> tuple[Any, Any]:
    """A run as the command makes it, ready to train, and its callbacks."""
    from rlrun.config import compose
    from rlrun.config.validate import validate
    from rlrun.run import build
    from rlrun.rundir.layout import RunDir

    compose.set_up(overrides)
    cfg = validate(compose.compose(overrides).data)
    run = build.begin(build.parts(cfg), RunDir.create(folder))
    return run, build.callbacks(cfg, run.dir, {})


def import_tensorboard() -> None:
    """What the first logged row imports; importing is not training."""
    import tensorboard.compat.proto.event_pb2
    import tensorboard.summary.writer.record_writer  # noqa: F401


def time_compiling() -> list[float]:
    """Filled with the seconds that each graph takes to be found or compiled."""
    import rlrun.compute.graph

    found: list[float] = []
    load_or_compile = rlrun.compute.graph.load_or_compile

    def timed(*args: Any) -> Any:
        begun = time.perf_counter()
        made = load_or_compile(*args)
        found.append(time.perf_counter() - begun)
        return made

    rlrun.compute.graph.load_or_compile = timed  # type: ignore[assignment]
    return found


def foreign_load() -> Callable[[], float]:
    """Returns a function that says how many cores other processes kept busy since now (NaN where /proc is missing)."""

    def jiffies() -> tuple[float, float]:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
        return user + nice + system + irq + softirq + steal, own

    if not Path("/proc/stat").exists():
        return lambda: float("nan")
    begun, (busy, own) = time.perf_counter(), jiffies()

    def load() -> float:
        now_busy, now_own = jiffies()
        seconds = time.perf_counter() - begun
        return max(0.0, ((now_busy - busy) - (now_own - own)) / os.sysconf("SC_CLK_TCK") / seconds)

    return load


def rlrun_command() -> list[str]:
    script = Path(sys.executable).with_name("rlrun")
    return [str(script)] if script.exists() else [sys.executable, "-m", "rlrun"]


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "numpy", "gymnasium", "stable_baselines3")}


def new_table(title: str, columns: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "part", "what it is") else "right")
    return table


def show(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(table)


CASES: dict[str, Callable[[argparse.Namespace], list[Measurement]]] = {
    "env": bench_env,
    "env_atari": bench_env_atari,
    "startup": bench_startup,
    "profile": bench_profile,
    "uniform": bench_uniform,
    "prioritized": bench_prioritized,
    "memory": bench_memory,
    "actors": bench_actors,
    "actors_atari": functools.partial(bench_actors, case="actors_atari", steps=4_000),
    "actors_peer": bench_actors_peer,
    "transport": bench_transport,
}
WORKERS: dict[str, Callable[[str, int, int], Measurement]] = {
    "sb3": train_sb3,
    "sbx": train_sbx,
    "rlrun": train_rlrun,
    "compiled": lambda case, steps, seed: train_rlrun(case, steps, seed, compiled=True),
    "profile": profile_rlrun,
    "gymnasium": env_gymnasium,
    "sb3-vector": env_sb3,
    "rlrun-vector": env_rlrun,
    "replay": replay_rlrun,
    "cpprb": replay_cpprb,
    **{f"stored-{e}-{n}": functools.partial(replay_stored, e, n) for e in (1, 8) for n in (1, 3)},
    **{f"actors-{n}-{e}": functools.partial(actors_rlrun, n, e) for n, e in [*CREWS, (2, 4)]},
    "sb3-subprocesses": train_sb3_subprocesses,
    "ale-vector": env_ale,
    "rlrun-atari": env_rlrun_atari,
    "rlrun-games": functools.partial(env_rlrun_atari, way="in_process"),
}

if __name__ == "__main__":
    main()
