"""rlrun: train, evaluate, resume and compare reinforcement-learning agents from one command.

Importing this package is free of torch; the parts load when they are used.
"""

__version__ = "0.2.0.dev0"
