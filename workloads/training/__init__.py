"""The trainer: how cells are trained, one by one or many at once.

`lockstep` is the engine; `arithmetic` says which path a shape takes; `one_by_one`, `layer_stack`
and `module_stack` are the paths; `sampling`, `evaluation` and `dropout` are functions of a cell's
seed and step alone.
"""

__all__ = ["TRAINING_VERSION"]

TRAINING_VERSION = 2
"""Raised when the same recipe would give another result; part of a cell's identity."""
