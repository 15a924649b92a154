"""What tests of running share: a clock that they set."""

import pytest

from orchestrator.running import admission, room


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Be the clock of what waits by time: admission of trials, and looks at the nodes."""
    clock = Clock()
    for module in (admission, room):
        monkeypatch.setattr(module, "time", clock)
    return clock
