"""What a run says while it goes on: a line an event, for people or, as JSON, for programs.

Lines about a pack or a cell carry its id in a field of its own, given as `extra` to the logger.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from typing_extensions import override

__all__ = ["LogFormat", "configure_logs", "tells_json"]

FIELDS = ("study", "pack_id", "cell_id", "cells")
"""What an event may be about, beside its message."""
OURS = ("orchestrator", "workloads", "analysis", "cluster")
"""Packages whose events are told where all are; of others, warnings only."""


class LogFormat(StrEnum):
    """How a line is worded."""

    TEXT = "text"
    """Time, level and message."""
    JSON = "json"
    """One object: `time` (UTC), `level`, `logger`, `message`, and what it is about."""


def configure_logs(log_format: LogFormat, every_event: bool) -> None:
    """Send events to standard error; warnings only, unless `every_event`."""
    if log_format is LogFormat.JSON:
        _HANDLER.setFormatter(_JsonLines())
    elif every_event:
        _HANDLER.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    else:
        _HANDLER.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger().addHandler(_HANDLER)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO if every_event else logging.WARNING)


def tells_json() -> bool:
    """Return whether standard error is for programs, to which every line must be an object."""
    return isinstance(_HANDLER.formatter, _JsonLines)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error when an event happens."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # the other one would keep today's

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


_HANDLER = _StandardError()


class _JsonLines(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
