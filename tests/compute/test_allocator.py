"""Memory that was freed stays with the process."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

# Three tensors of 8 MiB, again and again: pages fetched after the first time.
PROGRAM = """
import resource, sys, torch
from rlrun.compute.allocator import keep_freed

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        three = [torch.ones(2**21) for _ in range(3)]
        del three
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fetched(), print(fetched())
keep_freed(), fetched(), print(fetched())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_was_freed_is_not_fetched_again() -> None:
    handed_back, kept = map(int, subprocess.check_output([sys.executable, "-c", PROGRAM]).split())
    one = 2**23 // resource.getpagesize()
    assert kept < one < handed_back
