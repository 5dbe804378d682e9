"""From a checked config to a run: every part is made here, in the order in which data flow."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlrun import registry
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.compute.device import Device
from rlrun.config import schema
from rlrun.config.schema import RunConfig
from rlrun.config.validate import callback_factory
from rlrun.custom import one_line
from rlrun.errors import CallbackError, ConfigError, RlrunError
from rlrun.experience.rollouts import Rollouts
from rlrun.interrupt import Interrupt
from rlrun.run.callbacks.bandits import BanditReport
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.log import Log
from rlrun.run.callbacks.returns import ReturnsFigure
from rlrun.run.callbacks.stop import StopWhenSolved
from rlrun.run.callbacks.summary import Summary
from rlrun.run.evaluation import Kept
from rlrun.run.run import Run
from rlrun.rundir.codec import encode
from rlrun.rundir.layout import RunDir
from rlrun.seeding import Role, SeedTree
from rlrun.types import Buffer, EnvSpec, Progress, VectorEnv


@dataclass
class Parts:
    """What learns, and where: enough to play a checkpoint, and all of a run that computes."""

    seeds: SeedTree
    spec: EnvSpec
    environments: Any  # the factory of environments
    envs: VectorEnv  # training environments
    buffer: Buffer | None
    algo: Algorithm
    source: Rollouts
    device: Device
    interrupt: Interrupt

    @property
    def data(self) -> dict[str, str]:
        """The hash of the data that the environments show, for `meta.json`; {} where they show none."""
        fingerprint = getattr(self.environments, "fingerprint", None)
        return {} if fingerprint is None else {"data": fingerprint()}

    def must_show_data_of(self, run_dir: RunDir) -> None:
        """Raise ConfigError if the data are not those that a run was started with."""
        meta = run_dir.read_meta()
        if "data" in meta and self.data.get("data") != meta["data"]:
            where = f" in {meta['cwd']}" if "cwd" in meta else ""
            problem = f"the data of {self.spec.id} are not those that the run was started with{where}"
            raise ConfigError("env", problem, "put the old ones back, or start a new run with these")


def parts(config: RunConfig, interrupt: Interrupt | None = None) -> Parts:
    """Everything that computes, at its beginning. Nothing can refuse the config any more once it is made.

    Args:
        interrupt: what the source and the evaluations answer to.

    Raises:
        ConfigError: parts that do not go together.
    """
    seeds = schema.seeds(config)
    for seed in (torch.manual_seed, np.random.seed, random.seed):  # initial weights, and whoever else draws globally
        seed(seeds.integer(Role.NETWORK))
    environments = config.environments
    spec = environments.spec(config.env.num_envs)
    device = make("device", config.device)
    sampling = seeds.generator(Role.BUFFER)
    buffer = config.buffer and make("buffer", config.buffer, spec, gamma=config.algo.gamma, rng=sampling, device=device)
    kit = Kit(
        spec,
        network=functools.partial(make, "network", config.network) if config.network else none_chosen,
        buffer=buffer,
        device=device,
        rng=seeds.generator(Role.AGENT),
        sampling=sampling,
        total_timesteps=config.total_timesteps,
    )
    algo = make("algo", config.algo, kit)
    envs = environments.train(config.env.num_envs)
    interrupt = interrupt or Interrupt()
    source = Rollouts(
        envs,
        algo.agent,
        algo.rollout_steps,
        seeds.integers(Role.ENV, config.env.num_envs),
        interrupt,
        config.total_timesteps,
    )
    return Parts(seeds, spec, environments, envs, buffer, algo, source, device, interrupt)


def build(config: RunConfig, made: Parts, own: dict[str, Callback], run_dir: RunDir) -> Run:
    """A run that stands at its beginning: what computes, and what looks on and writes into the run's directory.

    Args:
        made, own: as `parts` and `own_callbacks` returned them.
    """
    title = f"{config.algo.name} on {made.spec.id}"
    evaluation = made.environments.evaluation
    return Run(
        cfg=config,
        dir=run_dir,
        spec=made.spec,
        seeds=made.seeds,
        algo=made.algo,
        buffer=made.buffer,
        source=made.source,
        logger=make("logger", config.logger, run_dir, title, config.total_timesteps),
        callbacks=_callbacks(config, run_dir, own),
        progress=Progress(config.total_timesteps),
        evaluation_envs=Kept(lambda: evaluation(min(config.eval.num_envs, config.eval.episodes), made.envs)),
        caveats=_caveats(config, made.device),
        interrupt=made.interrupt,
    )


def _caveats(config: RunConfig, device: Device) -> list[str]:
    """In what a resumed run will differ from an undisturbed one, the environments aside."""
    replays = registry.get("algo", config.algo.name).needs.memory == "replay"
    anew = replays and not config.checkpoint.replay
    return ["replay is collected anew"] * anew + ["a GPU may round differently"] * (not device.is_cpu)


def none_chosen(*_: Any) -> Any:
    """In place of a network builder where the config has `network: null`."""
    raise ConfigError("network", "the algorithm builds one and none is chosen", "declare one: register(…, network=…)")


def make(kind: str, cfg: Any, *args: Any, **parts: Any) -> Any:
    """A component from its config object."""
    return registry.get(kind, cfg.name).factory(cfg, *args, **parts)


def own_callbacks(config: RunConfig) -> dict[str, Callback]:
    """The callbacks that the user brings, by number and name."""
    found: dict[str, Callback] = {}
    for number, item in enumerate(config.callbacks, start=1):
        factory = callback_factory(item)
        name = f"#{number} {item['_target_'] if isinstance(item, dict) else item}"
        try:
            callback = factory()
            if not isinstance(callback, Callback):
                raise ConfigError("callbacks", f"{name} made a {type(callback).__name__}", "it must make a Callback")
            encode(callback.state_dict())  # hours before the first checkpoint would find out
        except RlrunError:
            raise
        except Exception as error:
            raise CallbackError(f"callback {name} cannot be used: {one_line(error)}") from error
        found[name] = callback
    return found


def _callbacks(config: RunConfig, run_dir: RunDir, own: dict[str, Callback]) -> dict[str, Callback]:
    """In the order that run/callbacks asks for."""
    callbacks: dict[str, Callback] = {"log": Log(config.logger.freq, config.logger.window, config.logger.info_keys)}
    if config.stop.mean_return is not None:
        callbacks["stop"] = StopWhenSolved(config.stop.mean_return, config.stop.window)
    checkpoint = make("checkpoint", config.checkpoint)
    evaluate = make("eval", config.eval, run_dir.eval_csv, checkpoint)
    callbacks |= {"evaluate": evaluate} | own  # before the checkpoint, which saves what they remember
    callbacks |= {"checkpoint": checkpoint, "summary": Summary(evaluate)}
    return callbacks | {"bandit": BanditReport(), "returns": ReturnsFigure()}
