"""What the orchestrator's tests share: the command line in a process, and a Ray of their own."""

import os
import subprocess
import sys
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


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plug-ins of `tests/plugins` known in this process."""
    monkeypatch.syspath_prepend(str(PLUGINS))
