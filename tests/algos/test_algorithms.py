"""The contract of every registered algorithm; what the contract is, is in rlrun/testing.py."""

from __future__ import annotations

import pytest
from conftest import algorithms

from rlrun.testing import check_algorithm


@pytest.mark.parametrize("algo", sorted(algorithms()))
def test_contract(algo: str) -> None:
    check_algorithm(algo)
