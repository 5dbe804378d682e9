"""The scripts still run: the benchmark against today's package, and what the set-up says where it cannot help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_the_profile_accounts_for_the_whole_loop(algo: str, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, ROOT / "scripts" / "bench.py", "--case", "profile", "--algo", algo, "--steps", "2048"]
    subprocess.run([*command, "--json", out], check=True, stdout=subprocess.DEVNULL)
    (measured,) = json.loads(out.read_text())["measurements"]
    shares = measured["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0, "a part of the loop is no longer where the clocks look for it"
    assert shares["update"] == max(shares.values())


def test_an_old_python_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.2' || exit 1\n")
    old.chmod(0o755)
    refused = subprocess.run(
        [ROOT / "scripts" / "run"], env={**os.environ, "PYTHON": str(old)}, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "Python 3.9.2" in refused.stderr
