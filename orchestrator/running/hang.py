"""The end of a worker process that hangs, which then is a death like any other."""

import faulthandler

__all__ = ["die_unless_called_again", "forget_hangs"]


def die_unless_called_again(seconds: float) -> None:
    """End this process, with a traceback of every thread, unless called again within `seconds`.

    A hang thus becomes a worker's death, which is retried and isolated like any other.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def forget_hangs() -> None:
    """Let this process live however long it is silent."""
    faulthandler.cancel_dump_traceback_later()
