"""Every error that a user of the orchestrator can meet, in one tree.

Each message says what was wrong, the value, what is allowed, and the next step.
"""

__all__ = [
    "LaunchError",
    "PlanError",
    "RequestError",
    "StorageError",
    "StoreError",
    "StudyError",
    "StudyFileError",
]


class StudyError(Exception):
    """Base of all errors that the orchestrator raises on purpose."""


class StudyFileError(StudyError):
    """A study file, or a cluster description, asks for what cannot be done as written."""


class PlanError(StudyError):
    """The study is well formed, but it must not be run as asked (too large, mixed sources, …)."""


class RequestError(StudyError):
    """An address or a location that cannot be meant, such as a store that is not there."""


class StoreError(StudyError):
    """The store cannot be read, written, or is in use by another driver."""


class StorageError(StoreError):
    """The storage under the store failed: what was asked of it may succeed another time."""


class LaunchError(StudyError):
    """The cluster cannot be reached, or lacks what the study needs."""
