"""Hydra's own settings: rlrun obeys where runs go and what a sweep does, and refuses what it does in another way.

The rules are the same for one run and for the jobs of a sweep, and wherever a setting stands: in words, in an
experiment, in any file that is composed.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlrun.errors import ConfigError

QUIET = {"version": 1, "root": None, "disable_existing_loggers": False}

# key -> the values that say nothing, and what to do instead
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "job.chdir": ((False, None), "a run stays where it was started; its directory is hydra.run.dir"),
    "job.env_set": (({},), "set variables in the shell: NAME=VALUE rlrun …"),
    "verbose": ((False,), "RLRUN_DEBUG=1 shows tracebacks, run.log holds what was said"),
    "callbacks": (({},), "write callbacks=[my.module.Class]"),
    "job_logging": ((QUIET,), "logger.console is what a run says; run.log holds it"),
    "hydra_logging": ((QUIET,), "logger.console is what a run says; run.log holds it"),
    "output_subdir": ((None, ".hydra"), "rlrun writes .hydra itself"),
}


def check(hydra: DictConfig) -> None:
    """Raise ConfigError if a setting asks for what would not happen."""
    for key, (silent, hint) in REFUSED.items():
        value: Any = OmegaConf.select(hydra, key)
        plain = OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value
        if plain not in silent:
            raise ConfigError(f"hydra.{key}", "is no setting that rlrun obeys", hint)
