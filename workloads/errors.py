"""Every error that a workload can be the cause of.

Each message says what was wrong, the value, what is allowed, and the next step.
"""

__all__ = ["UnknownWorkloadError", "WorkloadError"]


class WorkloadError(Exception):
    """A workload cannot be used as it is: it fails to load or breaks its contract."""


class UnknownWorkloadError(WorkloadError, LookupError):
    """No workload has that name."""
