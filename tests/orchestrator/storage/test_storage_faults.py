"""Stores whose storage fails for a while, or for good: real small file systems of their own."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

STUDY = """
name: filling
workload: misbehaving
seeds: 40
grids:
  all:
    pause: 0.02
    model_size: [4, 5]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
"""


class Disk:
    """A file system in memory, of a size that can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, size: str) -> None:
        """Give it room, as '1m'."""
        self.mount(f"remount,size={size}")

    def mount(self, options: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Mount it, or change how it is mounted."""
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)],
            capture_output=True,
            text=True,
            check=check,
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder)
    answer = made.mount("size=1m", check=False)
    if answer.returncode:
        pytest.skip(f"only root can mount a file system: {answer.stderr.strip()}")
    yield made
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(command_line, disk, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    store = disk.folder / "store"
    command = ["run", "study.yaml", "--store", str(store)]
    disk.has("96k")  # room for one of two parts
    full = command_line(*command)
    assert full.returncode == 3, full.stderr
    assert "No space left on device" in full.stderr
    assert "what was durable is kept" in full.stderr
    assert "Traceback" not in full.stderr
    before = pd.read_parquet(store / "cells").set_index("cell_id")
    assert 0 < len(before) < 80
    assert command_line("status", str(store)).returncode == 0  # all that is there can be read
    disk.has("64m")
    again = command_line(*command)
    assert again.returncode == 0, again.stderr
    after = pd.read_parquet(store / "cells").set_index("cell_id")
    assert len(after) == after.index.nunique() == 80
    pd.testing.assert_frame_equal(after.loc[before.index], before)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("workload", ["misbehaving", "misbehaving_together"])
def test_a_disk_that_is_full_for_a_while_costs_nothing(command_line, disk, tmp_path, workload):
    slow = STUDY.replace("pause: 0.02", "pause: 0.2").replace("misbehaving", workload)
    (tmp_path / "study.yaml").write_text(slow)
    store, ballast = disk.folder / "store", disk.folder / "ballast"
    driver = command_line.start("run", "study.yaml", "--store", str(store))
    try:
        told = []
        for line in driver.stderr:
            told.append(line)
            if "begins." in line:
                break
        ballast.write_bytes(bytes(free_bytes(disk.folder)))
        for line in driver.stderr:
            told.append(line)
            if "No heartbeat could be published" in line:
                break
        time.sleep(2.0)  # in which rows are there to be written
        assert not list(store.glob("cells/*.parquet"))
        ballast.unlink()
        _, rest = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, [*told, rest]
    cells = pd.read_parquet(store / "cells")
    assert len(cells) == cells["cell_id"].nunique() == 80
    if workload == "misbehaving":  # stacks rehearse, which begins cells too
        assert (tmp_path / "log").read_text().count("\n") == 80  # each was trained once


def test_a_store_that_became_read_only_is_refused_and_keeps_what_it_has(
    command_line, disk, tmp_path
):
    small = STUDY.replace("seeds: 40", "seeds: 1").replace("[4, 5]", "[4]")
    (tmp_path / "study.yaml").write_text(small)
    store = disk.folder / "store"
    command = ["run", "study.yaml", "--store", str(store), "--inline"]
    assert command_line(*command).returncode == 0
    before = pd.read_parquet(store / "cells")
    (tmp_path / "study.yaml").write_text(small.replace("[4]", "[4, 5]"))
    disk.mount("remount,ro")
    refused = command_line(*command)
    assert refused.returncode == 3, refused.stderr
    assert "Read-only file system" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert command_line("status", str(store)).returncode == 0
    disk.mount("remount,rw")
    again = command_line(*command)
    assert again.returncode == 0, again.stderr
    after = pd.read_parquet(store / "cells").set_index("cell_id")
    assert len(after) == 2
    pd.testing.assert_frame_equal(after.loc[before["cell_id"]], before.set_index("cell_id"))


def free_bytes(folder: Path) -> int:
    """Return how much a file in `folder` may still hold."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
