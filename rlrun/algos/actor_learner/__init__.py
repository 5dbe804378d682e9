"""Learners apart from those who act: from trajectories that a policy of before may have taken, or from gradients."""
