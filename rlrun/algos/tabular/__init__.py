"""Learning and planning on tables."""
