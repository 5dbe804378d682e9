"""What looks on while a run trains: logging, early stopping, evaluation, checkpoints, and the summary at the end.

Each sees every chunk after the algorithm has learned from it, in this order: `Log` first, so that its numbers hold the
chunk if an evaluation is interrupted; `Checkpoint` after everything that has a state, so that what it saves holds what
the others did with the chunk. No callback touches a random stream of the training.
"""
