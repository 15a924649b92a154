"""The error of an analysis that cannot be made; a doubtful answer is a status, not an error."""

__all__ = ["FitError", "UnreadableStoreError"]


class FitError(ValueError):
    """The table cannot be analyzed as asked; the message says what it lacks and what to do."""


class UnreadableStoreError(FitError):
    """The storage of the results does not answer, or refuses; another time it may not."""
