"""What the orchestrator's tests share: the command line in a process, and a Ray of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"

FROM_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Code that answers Ctrl-C as a program that is started from a terminal does. Python leaves SIGINT
ignored where it is so from the start, as in all that a script with `&` starts, these tests too."""


@dataclass(frozen=True)
class CommandLine:
    """Runs `scaling-study` in a process of its own."""

    environment: dict[str, str]
    folder: Path

    def start(self, *arguments: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
        """Start it with `arguments`, running the code `before` first."""
        code = f"{FROM_A_TERMINAL}\n{before}\nfrom orchestrator.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=self.environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def command_line(tmp_path: Path, ray_folder: Path) -> CommandLine:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(PLUGINS), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "RAY_TMPDIR": str(ray_folder),
        "MISBEHAVING_SWITCH": str(tmp_path / "switch"),
        "MISBEHAVING_LOG": str(tmp_path / "log"),
        "COLUMNS": "120",
    }
    return CommandLine(environment, tmp_path)


CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args=json.loads(sys.argv[1]))
print(cluster.address, cluster.head_node.webui_url, flush=True)
for line in sys.stdin:
    cluster.add_node(**json.loads(line))
    print("joined", flush=True)
cluster.shutdown()
"""


class RealCluster:
    """A cluster of several Ray nodes on this machine, in a process of its own."""

    def __init__(self, environment: dict[str, str], head: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, json.dumps(head)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.address, self.dashboard = self.process.stdout.readline().split()

    def add_node(self, **options: Any) -> None:
        """Let a node join."""
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "joined\n"

    def end(self) -> None:
        """End all its nodes."""
        try:
            self.process.communicate(timeout=60)
        finally:
            self.process.kill()


@pytest.fixture
def real_cluster(command_line: CommandLine) -> Iterator[Callable[..., RealCluster]]:
    """Start clusters, whose heads have the options given; they know no plug-in of these tests."""
    paths = command_line.environment["PYTHONPATH"].split(os.pathsep)
    environment = {
        **command_line.environment,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path != str(PLUGINS)),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    started: list[RealCluster] = []

    def start(**head: Any) -> RealCluster:
        started.append(RealCluster(environment, head))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plug-ins of `tests/plugins` known in this process."""
    monkeypatch.syspath_prepend(str(PLUGINS))
