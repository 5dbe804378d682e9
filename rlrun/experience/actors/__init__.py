"""Several actors that collect for one learner: in this process by turns, in processes of their own, or elsewhere.

actor.py    one of them: environments, and the agent that acts in them
crew.py     what a crew of actors does for the source, wherever they are
source.py   gathers what they collect, and counts how old their weights were and what was lost
serial.py   the crew in this process
on_ray.py   the crew on the nodes of a Ray cluster
"""
