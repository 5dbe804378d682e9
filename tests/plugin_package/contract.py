"""What a plug-in's own test of its algorithm consists of."""

from rlrun.testing import check_algorithm

check_algorithm("hill_climbing", "env=corridor")
