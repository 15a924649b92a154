"""This machine as a cluster of one node."""

import os

__all__ = ["usable_cpus"]


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
