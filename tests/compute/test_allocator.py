"""Memory that was freed stays with the process."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

# Six tensors of 24 MiB, again and again: pages fetched after the first time. Left alone, the library fetches at times.
PROGRAM = """
import resource, torch
from rlrun.compute.allocator import keep_freed

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        six = [torch.ones(6 * 2**20) for _ in range(6)]
        del six
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed(), fetched(), print(fetched())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_was_freed_is_not_fetched_again() -> None:
    fetched = int(subprocess.check_output([sys.executable, "-c", PROGRAM]))
    assert fetched < 24 * 2**20 // resource.getpagesize()
