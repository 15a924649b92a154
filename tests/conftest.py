"""What tests of several rooms share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.logs import LogFormat, configure_logs

# Ray's workers would yield to whatever else runs, such as tests in another process.
os.environ.setdefault("RAY_worker_niceness", "0")

settings.register_profile("any machine", deadline=None)  # no test asserts how fast a machine is
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep in one process, of several, what shares fixtures, and whatever starts Ray.

    Rays beside each other would each take all CPUs; one is mostly waited for, beside other tests.
    """
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Take back what the command line does to the logs of this process."""
    yield
    configure_logs(LogFormat.TEXT, every_event=False)


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """A folder for Ray's own files; its path is short, because Ray puts sockets into it."""
    folder = Path(tempfile.mkdtemp(prefix="ss"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
