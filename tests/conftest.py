"""What tests of several rooms share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.logs import LogFormat, configure_logs

settings.register_profile("any machine", deadline=None)  # no test asserts how fast a machine is
settings.load_profile("any machine")


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
