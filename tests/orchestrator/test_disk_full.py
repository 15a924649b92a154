"""A store on a disk that fills up while a study runs: a real small file system of its own."""

import subprocess
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

    def has(self, size: str, *, remount: bool = True) -> subprocess.CompletedProcess[str]:
        """Give it room, as '1m'."""
        options = f"{'remount,' if remount else ''}size={size}"
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)],
            capture_output=True,
            text=True,
            check=remount,
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder)
    answer = made.has("1m", remount=False)
    if answer.returncode:
        pytest.skip(f"only root can mount a file system: {answer.stderr.strip()}")
    yield made
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def trainings(tmp_path: Path) -> pd.Series:
    """Return how often each cell began training."""
    return pd.Series((tmp_path / "log").read_text().splitlines()).value_counts()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("room", ["48k", "96k"])
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(command_line, disk, tmp_path, room):
    (tmp_path / "study.yaml").write_text(STUDY)
    store = disk.folder / "store"
    command = ["run", "study.yaml", "--store", str(store)]
    disk.has(room)
    full = command_line(*command)
    print(full.stderr)
    assert full.returncode == 3
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    disk.has("64m")
    again = command_line(*command)
    assert again.returncode == 0, again.stderr
    cells = pd.read_parquet(store / "cells")
    assert len(cells) == cells["cell_id"].nunique() == 80
