"""This machine as a cluster of one node: what a process may use, and not what is built in.

A container or a batch job has a share of its machine, which Linux keeps in control groups, cgroups.
They lie inside each other, and the tightest counts.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["usable_cpus", "usable_memory"]

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process may use: its affinity, or the quota of a cgroup if less.

    Of a quota, whole CPUs count, and at least one. `root`: the folder that holds proc and sys.
    """
    return max(1, math.floor(min([_cpus_of_affinity(), *_cpu_quotas(root)])))


def usable_memory(root: Path = ROOT) -> int:
    """Return the bytes of memory that this process may use: the machine's, or a cgroup's if less.

    `root`: the folder that holds proc and sys.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_memory_limits(root)])


def _cpus_of_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that each cgroup grants; the first version of cgroups says it in two files."""
    for group in _cgroups(root, "cpu"):
        stated = _words(group / "cpu.max")
        stated = stated or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        match stated:
            case [quota, period] if quota.isdigit():  # else 'max' or -1: no quota
                yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _cgroups(root, "memory"):
        stated = _words(group / "memory.max") or _words(group / "memory.limit_in_bytes")
        match stated:
            case [limit] if limit.isdigit():  # else 'max'; the first version has a huge number
                yield int(limit)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup for `controller`, and of those around it.

    /proc/self/cgroup has a line ID:CONTROLLERS:PATH for each hierarchy; of the second version of
    cgroups, there is one that names no controllers. Where a container sees its own cgroup as the
    top, PATH may be of its host: folders that are not there say nothing. Source: cgroups(7).
    """
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = top / controller if controllers else top
        own = mount / path.lstrip("/")
        yield from (group for group in (own, *own.parents) if group.is_relative_to(mount))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
