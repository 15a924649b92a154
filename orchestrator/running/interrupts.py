"""Interrupts that end a run wherever they hit it.

Python raises what a signal's handler raises in the midst of whatever the main thread does. In a
destructor, or in what a garbage collection or C code calls, it is printed and dropped, and the run
goes on to its end as if nobody had pressed Ctrl-C. Ray's placement groups and actors have such
destructors, which talk to the cluster and take their time.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupts", "kept_interrupts"]

Handler = Callable[[int, FrameType | None], object]


class Interrupts:
    """What the signal handlers of a block have raised."""

    def __init__(self) -> None:
        self._raised: BaseException | None = None

    def raise_lost(self) -> None:
        """Raise again what a handler raised; nothing where none has.

        Who comes to call this after a signal is told that the exception did not travel.
        """
        if self._raised is not None:
            raise self._raised

    def noting(self, handler: Handler) -> Handler:
        """Return a handler that does as `handler` and notes what it raises."""

        def noting(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as interrupt:
                self._raised = interrupt
                raise

        return noting


@contextmanager
def kept_interrupts() -> Iterator[Interrupts]:
    """Run the block so that it does not end well, or with another error, after an interrupt.

    Long work in the block calls `raise_lost` now and then. Signals that are ignored, as SIGINT is
    by what a script starts in the background, stay so.
    """
    interrupts = Interrupts()
    handlers: dict[signal.Signals, Handler] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere, none can be set
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, interrupts.noting(handler))
    try:
        yield interrupts
        interrupts.raise_lost()
    except Exception:
        interrupts.raise_lost()  # what was interrupted often fails in its own way
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
