"""What `meta.json` says of the surroundings a run was made in: versions, commit, hardware."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import rlrun

PACKAGES = ("torch", "numpy", "gymnasium", "hydra-core", "safetensors")


def surroundings() -> dict[str, Any]:
    """What a run depends on beside its config: for `meta.json`."""
    return {
        "created": now(),
        "cwd": os.getcwd(),
        "versions": _versions(),
        "git": _git_commit(),
        "hardware": _hardware(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"rlrun": rlrun.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _git_commit() -> str | None:
    """The commit of the working directory, with `-dirty` after it if files were changed; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=2).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _hardware() -> dict[str, Any]:
    torch = sys.modules.get("torch")  # asking for the GPU is not worth the import
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpu": gpu,
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
