"""From a checked config to a run: every part is made here, in the order in which data flow."""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlrun import networks, registry
from rlrun.algos.algorithm import Algorithm, Kit
from rlrun.compute.spread import Alone
from rlrun.config import memory, plugins, schema
from rlrun.config import ranks as spreading
from rlrun.config.schema import RunConfig
from rlrun.config.validate import callback_factory, check_fit
from rlrun.custom import one_line
from rlrun.envs.environments import Environments
from rlrun.errors import CallbackError, ConfigError, RlrunError
from rlrun.experience.spread import spread
from rlrun.interrupt import Interrupt
from rlrun.loggers import Loggers
from rlrun.ops.fields import mapped, tensors
from rlrun.run.callbacks.bandits import BanditReport
from rlrun.run.callbacks.callback import Callback
from rlrun.run.callbacks.callbacks import Callbacks
from rlrun.run.callbacks.log import Log
from rlrun.run.callbacks.ranks import Lead
from rlrun.run.callbacks.returns import ReturnsFigure
from rlrun.run.callbacks.stop import StopWhenSolved
from rlrun.run.callbacks.summary import Summary
from rlrun.run.callbacks.video import Video
from rlrun.run.parts import Parts, Setting
from rlrun.run.run import Run
from rlrun.rundir.codec import encode
from rlrun.rundir.layout import RunDir
from rlrun.seeding import Role, SeedTree
from rlrun.types import MASK, HeadSpec, ReplayBuffer, Space


def environments(config: RunConfig) -> Environments:
    """The factory of a run's environments."""
    keys, options = getattr(config.logger, "info_keys", ()), config.env
    if hasattr(options, "action_masks") and not registry.get("algo", config.algo.name).needs.masks:
        options = dataclasses.replace(options, action_masks=False)  # the algorithm can do nothing with them
    gamma = getattr(config.algo, "gamma", 1.0)
    made: Environments = make("env", options, schema.seeds(config), gamma=gamma, info_keys=keys)
    if keys and not made.tells_info:
        raise ConfigError("logger.info_keys", f"{config.env.name} has no info to read", "write logger.info_keys=[]")
    return made


def setting(
    config: RunConfig, learns: bool = True, record: Mapping[str, Any] | None = None, group: Alone | None = None
) -> Setting:
    """Where and with what an agent acts. One environment is opened, and closed again, to see whether all fits it.

    Args:
        learns: whether there must be memory for what only learning fills.
        record: what is known of the environments; then none is opened.
        group: the ranks of the run.

    Raises:
        ConfigError: the config does not fit the environment, or there is none.
    """
    made = environments(config)
    if record:
        made.stand_in(record)
    spec = made.spec(config.env.num_envs)
    check_fit(config, spec, learns)
    device = make("device", config.device, **({} if group is None or group.size == 1 else {"group": group}))
    return Setting(config, schema.seeds(config), made, spec, device)


def learner(
    where: Setting,
    buffer: ReplayBuffer | None = None,
    sampling: np.random.Generator | None = None,
    stream: int = 0,
) -> Algorithm:
    """The algorithm with fresh weights.

    Args:
        buffer: what it learns from; without one it plays.
        sampling: the stream that batches are drawn from, which the buffer shares.
        stream: number of the one that its agent explores by; 0 in a run, others in its actors and on its other ranks.
    """
    config, seeds = where.cfg, where.seeds
    _seed(seeds)
    kit = Kit(
        where.spec,
        network=functools.partial(network, config.network) if config.network else none_chosen,
        buffer=buffer,
        device=where.device,
        rng=seeds.generator(Role.AGENT, stream),
        sampling=sampling or seeds.generator(Role.BUFFER),
        total_timesteps=config.total_timesteps,
    )
    algo = make("algo", config.algo, kit)
    if not isinstance(algo, Algorithm):
        raise ConfigError("algo", f"{config.algo.name} is no algorithm", "derive it from rlrun.Algorithm")
    if not hasattr(algo, "agent"):
        raise ConfigError("algo", f"{config.algo.name} has nobody who acts", "set self.agent in its constructor")
    return algo


def network(cfg: Any, obs_space: Space, *heads: HeadSpec) -> Any:
    """A network as its config describes it.

    One that is not ours need not know of masks: it is built for what there is to be seen without them. Nor of critics:
    there are as many of it as are asked for, each shown the actions as well. It is tried, on a copy, before anybody
    acts by it.

    Raises:
        ConfigError: it cannot be made, fails, or an output is not as wide as its head.
    """
    if registry.get("network", cfg.name).ours:
        return make("network", cfg, obs_space, *heads)
    if heads and heads[0].critics:
        (head,) = heads
        return networks.OwnCritics(lambda space, own: network(cfg, space, own), obs_space, head)
    try:
        made = make("network", cfg, obs_space.unmasked, *heads)
    except RlrunError:
        raise
    except Exception as error:
        raise ConfigError("network", f"{cfg.name} cannot be made: {one_line(error)}") from error
    if obs_space.masked and not obs_space.unmasked.fields:
        (name,) = obs_space.fields.keys() - {MASK}
        made = networks.OfField(name, made)
    _try_network(cfg.name, made, obs_space, heads)
    return made


def _try_network(name: str, made: Any, obs_space: Space, heads: Sequence[HeadSpec]) -> None:
    if not isinstance(made, torch.nn.Module):
        raise ConfigError("network", f"{name} made a {type(made).__name__}", "it must make a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in made.parameters()):
        raise ConfigError("network", f"{name} has no parameters that could be trained", "it must have some")
    obs = tensors(np.zeros((1, *obs_space.shape), obs_space.dtype))
    remembers = getattr(made, "memory_size", 0)
    try:
        with torch.no_grad():
            said = copy.deepcopy(made).eval()(obs, *([torch.zeros(1, remembers)] if remembers else []))
    except Exception as error:
        shown = mapped(lambda x: tuple(x.shape), obs)
        raise ConfigError("network", f"{name} fails on one observation {shown}: {one_line(error)}"[:400]) from error
    if remembers:
        if not (isinstance(said, tuple) and len(said) == 2 and _form(said[1]) == (1, remembers)):
            given = [_form(part) for part in said] if isinstance(said, tuple) else _form(said)
            problem = f"with memory_size={remembers} {name} gives {given} for one observation"
            raise ConfigError("network", problem, f"it must give a pair: outputs, and memory of shape (1, {remembers})")
        said = said[0]
    outputs = said if isinstance(said, tuple) and len(heads) > 1 else (said,)
    forms = [_form(output) for output in outputs]
    asked = [(1, *[head.fractions] * bool(head.fractions), head.size + head.log_stds) for head in heads]
    if forms != asked:
        problem = f"for one observation {name} gives outputs of shape {forms}, the algorithm asks for {asked}"
        several = "a tuple of tensors, one for each head; " if len(heads) > 1 else ""
        hint = f"{several}rlrun.networks.build_head(head, width) makes what a head asks for"
        raise ConfigError("network", problem, hint)
    if narrow := {output.dtype for output in outputs} - {torch.float32, torch.float64}:
        raise ConfigError("network", f"{name} gives outputs of {narrow.pop()}", "it must give torch.float32")


def _form(output: Any) -> Any:
    """The shape of a tensor; of anything else what it is."""
    return tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__


def none_chosen(*_: Any) -> Any:
    """In place of a network builder where the config has `network: null`."""
    problem = "the algorithm builds one, and none is chosen"
    raise ConfigError("network", problem, 'write network=mlp, or declare it: register(…, network="mlp")')


def parts(config: RunConfig, interrupt: Interrupt | None = None, group: Alone | None = None) -> Parts:
    """Everything that computes, at its beginning. Nothing can refuse the config any more once it is made.

    Args:
        interrupt: what the source and the evaluations answer to.
        group: the ranks that make the run together; whatever is drawn, no two of them draw the same.

    Raises:
        ConfigError: parts that do not go together.
    """
    group, interrupt, whole = group or Alone(), interrupt or Interrupt(), config
    if group.size > 1:
        spreading.check(config)
        config = spreading.of_rank(config, group.size)
    where = setting(config, group=group)
    if group.place is not None and group.place.beside == group.size:  # all are on this machine
        check_fit(whole, dataclasses.replace(where.spec, num_envs=whole.env.num_envs))
    sampling = where.seeds.generator(Role.BUFFER, group.rank)
    buffer = config.buffer and make(
        "buffer",
        config.buffer,
        where.spec,
        gamma=config.algo.gamma,
        rng=sampling,
        device=where.device,
        total_timesteps=-(-config.total_timesteps // group.size),  # that it will see
    )
    algo = learner(where, buffer, sampling, stream=group.rank)
    if needs := memory.of_source(config, where.environments, algo):
        memory.check(config, [*memory.of_run(config, where.spec), *needs])
    common: Any = {"interrupt": interrupt, "total_timesteps": config.total_timesteps}
    common["seeds"] = where.seeds.integers(Role.ENV, whole.env.num_envs)
    if group.size > 1:
        source = spread(where.environments, algo, group, **common)
        _seed(where.seeds, group.rank)  # until now all ranks drew the same, their weights
    else:
        common["blueprint"] = Blueprint.of(config)
        source = make("experience", config.experience, where.environments, algo, **common)
    return Parts(**vars(where), buffer=buffer, algo=algo, source=source, interrupt=interrupt)


def _seed(seeds: SeedTree, rank: int = 0) -> None:
    """Set the global streams, from which initial weights come, and what others may draw."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(seeds.integer(Role.NETWORK, rank))


@dataclass(frozen=True)
class Blueprint:
    """How the acting half of a run is made in another process; complete in itself, so that it can be sent there.

    Args:
        config: of the run.
        own: where the user's components are, as kind -> dotted path: there they may not be registered yet.
    """

    config: RunConfig
    own: Mapping[str, str]

    @classmethod
    def of(cls, config: RunConfig) -> Blueprint:
        chosen = {kind: getattr(config, kind) for kind in schema.KINDS}
        entries = {kind: registry.get(kind, node.name) for kind, node in chosen.items() if node is not None}
        own = {kind: entry.path for kind, entry in entries.items() if not entry.ours}
        return cls(config, own)

    def stream(self, index: int) -> np.random.Generator:
        """What an agent explores by: 0 is the stream of the learner's own."""
        return schema.seeds(self.config).generator(Role.AGENT, index)

    def __call__(self, stream: int) -> tuple[Environments, Algorithm]:
        """Environments, and a learner that does not learn, on the CPU with one thread."""
        plugins.load_installed()
        plugins.load_named(self.config.imports)
        for kind, path in self.own.items():
            plugins.entry_of(kind, {"_target_": path})
        device = dataclasses.replace(self.config.device, accelerator="cpu", threads=1, compile="false")
        config = dataclasses.replace(self.config, device=device)
        where = setting(config, learns=False)
        return where.environments, learner(where, stream=stream)


def begin(made: Parts, run_dir: RunDir) -> Run:
    """A run that stands at its beginning, in a directory."""
    if made.buffer is not None:
        saves, chunk = made.cfg.checkpoint, made.algo.rollout_steps * made.spec.num_envs
        made.buffer.place(run_dir.replay, saves.freq * max(saves.keep_last, 1) + 2 * chunk)
    title = f"{made.cfg.algo.name} on {made.spec.id}"
    logger = Loggers({})
    if made.group.leads:
        logger = make("logger", made.cfg.logger, run_dir, title, made.cfg.total_timesteps)
    return Run(**vars(made), dir=run_dir, logger=logger)


def callbacks(config: RunConfig, run_dir: RunDir, own: dict[str, Callback], leads: bool = False) -> Callbacks:
    """Who looks on, and writes into the run's directory.

    Args:
        own: as `own_callbacks` returned them.
        leads: whether other ranks wait for them.
    """
    stop, checkpoint = config.stop, make("checkpoint", config.checkpoint)
    evaluate = make("eval", config.eval, run_dir.eval_csv, checkpoint)
    return Callbacks(
        log=Log(config.logger.freq, config.logger.window, config.logger.info_keys),
        stop=None if stop.mean_return is None else StopWhenSolved(stop.mean_return, stop.window),
        evaluate=evaluate,
        video=Video(config.eval) if getattr(config.eval, "video_freq", 0) else None,
        own=own,
        checkpoint=checkpoint,
        summary=Summary(evaluate),
        figures={"bandit": BanditReport(), "returns": ReturnsFigure()},
        lead=Lead() if leads else None,
    )


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


def make(kind: str, cfg: Any, *args: Any, **parts: Any) -> Any:
    """A component from its config object."""
    return registry.get(kind, cfg.name).factory(cfg, *args, **parts)
