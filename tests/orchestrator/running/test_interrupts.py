"""Interrupts that Python drops are raised later, once, and only where they should be."""

import signal
import sys

import pytest

from orchestrator.running.interrupts import kept_interrupts
from orchestrator.running.run import run_study
from orchestrator.study_file.study import Study
from tests.orchestrator.running.test_run import DIGITS, cells_of


class Raising:
    """Raises a signal from its destructor, where Python prints and drops what a handler raises."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def dropped(request, monkeypatch):
    """Interrupts this process so that nothing comes of it; whatever it drops is returned."""
    unraised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraised.append(hook.exc_type))
    before = signal.signal(request.param, signal.default_int_handler)

    def drop():
        Raising(request.param)
        assert unraised.pop() is KeyboardInterrupt

    yield drop
    assert signal.getsignal(request.param) is signal.default_int_handler
    signal.signal(request.param, before)


def test_a_dropped_interrupt_is_raised_where_the_block_asks_for_it(dropped):
    def block():
        with kept_interrupts() as interrupts:
            interrupts.raise_lost()
            dropped()
            interrupts.raise_lost()
            raise AssertionError("it went on")

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert caught.value.__context__ is None


def test_a_dropped_interrupt_is_raised_at_the_end_of_the_block(dropped):
    with pytest.raises(KeyboardInterrupt), kept_interrupts():
        dropped()


def test_a_dropped_interrupt_goes_before_the_error_that_came_of_it(dropped):
    def block():
        with kept_interrupts():
            dropped()
            raise ConnectionError("half of the handshake")

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert isinstance(caught.value.__context__, ConnectionError)


def test_a_dropped_interrupt_reaches_the_outer_block_too(dropped):
    def block():
        with kept_interrupts(), pytest.raises(KeyboardInterrupt), kept_interrupts():
            dropped()

    with pytest.raises(KeyboardInterrupt):
        block()


def test_a_block_that_nobody_interrupts_ends_and_fails_as_it_does():
    with kept_interrupts() as interrupts:
        interrupts.raise_lost()
    with pytest.raises(ConnectionError), kept_interrupts():
        raise ConnectionError


def test_a_handler_that_raises_nothing_interrupts_nothing(monkeypatch):
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with kept_interrupts():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with kept_interrupts():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_ends_with_the_report_during_which_an_interrupt_was_dropped(tmp_path, dropped):
    def progress(tally):
        if tally.finished:
            dropped()

    with pytest.raises(KeyboardInterrupt):
        run_study(
            Study.from_text(DIGITS),
            tmp_path / "store",
            inline=True,
            flush_seconds=0.0,
            progress=progress,
        )
    assert 0 < len(cells_of(tmp_path / "store")) < 16
