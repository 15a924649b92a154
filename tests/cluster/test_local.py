"""What this machine grants a process: files of cgroups as Linux has them, in a folder of ours."""

import os
from pathlib import Path

import pytest

from cluster.local import usable_cpus, usable_memory

GIBIBYTE = 2**30
UNLIMITED = 9223372036854771712
"""What the first version of cgroups says where there is no limit of memory."""


def tree(root: Path, own: str, files: dict[str, str]) -> Path:
    """Return `root` with these files of cgroups; `own`: the contents of /proc/self/cgroup."""
    for path, text in {"proc/self/cgroup": own, **files}.items():
        file = root / (path if path.startswith("proc") else f"sys/fs/cgroup/{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine of 96 cores and 512 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)), raising=False)
    facts = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 512 * GIBIBYTE // 4096}
    monkeypatch.setattr(os, "sysconf", facts.__getitem__)


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        pytest.param("0::/", {"cpu.max": "400000 100000"}, 4, id="a container"),
        pytest.param("0::/", {"cpu.max": "max 100000"}, 96, id="no quota"),
        pytest.param("0::/", {"cpu.max": "350000 100000"}, 3, id="three and a half"),
        pytest.param("0::/", {"cpu.max": "20000 100000"}, 1, id="a fifth"),
        pytest.param("0::/", {"cpu.max": "25600000 100000"}, 96, id="more than there are"),
        pytest.param("0::/", {}, 96, id="the top of a machine"),
        pytest.param(
            "0::/job/step",
            {"job/step/cpu.max": "max 100000", "job/cpu.max": "200000 50000"},
            4,
            id="a limit around",
        ),
        pytest.param(
            "0::/job/step",
            {"job/step/cpu.max": "200000 100000", "other/cpu.max": "100000 100000"},
            2,
            id="a limit of others",
        ),
        pytest.param(
            "0::/kubepods/pod1", {"cpu.max": "400000 100000"}, 4, id="a path of the host's"
        ),
        pytest.param(
            "5:cpuacct,cpu:/job\n4:memory:/job\n0::/",
            {"cpu/job/cpu.cfs_quota_us": "800000", "cpu/job/cpu.cfs_period_us": "100000"},
            8,
            id="the first version",
        ),
        pytest.param(
            "5:cpu,cpuacct:/kubepods/pod1\n1:name=systemd:/a:b",
            {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
            4,
            id="the first version, a path of the host's",
        ),
        pytest.param(
            "5:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            96,
            id="the first version, no quota",
        ),
    ],
)
def test_a_quota_of_cpus_counts_where_it_is_less_than_the_affinity(tmp_path, own, files, cpus):
    assert usable_cpus(tree(tmp_path, own, files)) == cpus


@pytest.mark.parametrize(
    ("own", "files", "gibibytes"),
    [
        pytest.param("0::/", {"memory.max": str(8 * GIBIBYTE)}, 8, id="a container"),
        pytest.param("0::/", {"memory.max": "max"}, 512, id="no limit"),
        pytest.param(
            "0::/job/step",
            {"job/step/memory.max": str(16 * GIBIBYTE), "job/memory.max": str(4 * GIBIBYTE)},
            4,
            id="a limit around",
        ),
        pytest.param(
            "4:memory:/job\n0::/",
            {
                "memory/job/memory.limit_in_bytes": str(2 * GIBIBYTE),
                "memory/memory.limit_in_bytes": str(UNLIMITED),
            },
            2,
            id="the first version",
        ),
        pytest.param(
            "4:memory:/",
            {"memory/memory.limit_in_bytes": str(UNLIMITED)},
            512,
            id="the first version, no limit",
        ),
    ],
)
def test_a_limit_of_memory_counts_where_it_is_less_than_the_machines(
    tmp_path, own, files, gibibytes
):
    assert usable_memory(tree(tmp_path, own, files)) == gibibytes * GIBIBYTE


def test_a_system_without_cgroups_grants_all_that_there_is(tmp_path):
    assert (usable_cpus(tmp_path), usable_memory(tmp_path)) == (96, 512 * GIBIBYTE)
