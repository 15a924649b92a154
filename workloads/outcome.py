"""What became of one training run: the row that a study keeps of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Evaluation",
    "Progress",
    "Score",
    "TrainingResult",
    "TrainingStatus",
    "completed",
    "diverged",
]


class TrainingStatus(StrEnum):
    """How a training run ended; one that raised has no result."""

    COMPLETED = "completed"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Score:
    """Means over one set."""

    loss: float
    error: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Means of what the workload measures beside them, by name, where it was asked for."""

    def is_finite(self) -> bool:
        """Return whether loss and error are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.error)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One look at the validation set during training. A value that was not finite is None."""

    step: int
    """Updates made before the look."""
    epoch: float
    """Examples seen over the size of the shard."""
    examples_seen: int
    """Examples in all batches so far."""
    train_loss: float | None
    """Mean loss of the examples in batches since the previous look, each before its update."""
    validation_loss: float | None
    """Mean loss over the validation set."""
    validation_error: float | None
    """Mean error over the validation set."""
    learning_rate: float
    """Of the last update before the look."""
    batch_size: int
    """Of the same update: the examples that it saw."""
    noise_scale: float | None
    """g = ε/(1 − m) · (N/B − 1) of the same update; None for adaptive optimizers."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run came, at what cost, and on how many examples it is judged."""

    parameter_count: int
    """Number of trained parameters."""
    steps: int
    """Updates made."""
    epochs: float
    """Examples seen over the size of the shard."""
    examples_seen: int
    """Examples in all batches."""
    training_flops: float
    """3 × the forward pass's operations × examples seen."""
    wall_seconds: float
    """Time of the run, without the loading of its data."""
    validation_examples: int
    """Size of the validation set."""
    test_examples: int
    """Size of the test set."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult(Progress):
    """One cell's outcome; the fields bear the names of the store's columns.

    In a diverged run the losses, the best step and the gap are None and every error is the
    workload's `chance_error`.
    """

    status: TrainingStatus
    """completed or diverged."""
    train_loss: float | None
    """Mean loss over the full shard at the end, with the targets that training saw."""
    train_error: float
    """Mean error over the full shard at the end, with the targets that training saw."""
    validation_loss: float | None
    """Mean loss over the validation set at the end."""
    validation_error: float
    """Mean error over the validation set at the end."""
    test_loss: float | None
    """Mean loss over the test set at the end."""
    test_error: float
    """Mean error over the test set at the end."""
    best_validation_loss: float | None
    """Smallest validation loss of all looks."""
    best_validation_error: float
    """Smallest validation error of all looks; biased downwards by that choice."""
    best_validation_step: int | None
    """Step of the smallest validation error, the first where several are equal."""
    generalization_gap: float | None
    """`test_error` − `train_error`."""
    validation_evaluations: int
    """Looks at the validation set: what `best_…` were chosen from."""
    workload_metrics: Mapping[str, float | None]
    """Means of the workload's own metrics at the end, as `validation_<name>` and `test_<name>`; a
    value that was not finite is None, and a diverged run has none."""
    curve: tuple[Evaluation, ...]
    """The looks, by step."""


def completed(
    progress: Progress, curve: Sequence[Evaluation], *, train: Score, validation: Score, test: Score
) -> TrainingResult:
    """Return the result of a run that reached its last step with finite scores."""
    errors = [(look.validation_error, look.step) for look in curve]
    best_error, best_step = min((e, step) for e, step in errors if e is not None)
    return TrainingResult(
        **vars(progress),
        status=TrainingStatus.COMPLETED,
        train_loss=train.loss,
        train_error=train.error,
        validation_loss=validation.loss,
        validation_error=validation.error,
        test_loss=test.loss,
        test_error=test.error,
        best_validation_loss=min(
            look.validation_loss for look in curve if look.validation_loss is not None
        ),
        best_validation_error=best_error,
        best_validation_step=best_step,
        generalization_gap=test.error - train.error,
        validation_evaluations=len(curve),
        workload_metrics={
            f"{name}_{metric}": value if math.isfinite(value) else None
            for name, score in (("validation", validation), ("test", test))
            for metric, value in score.metrics.items()
        },
        curve=tuple(curve),
    )


def diverged(
    progress: Progress, curve: Sequence[Evaluation], *, chance_error: float
) -> TrainingResult:
    """Return the result of a run that diverged: it guesses no better than by chance."""
    return TrainingResult(
        **vars(progress),
        status=TrainingStatus.DIVERGED,
        train_loss=None,
        train_error=chance_error,
        validation_loss=None,
        validation_error=chance_error,
        test_loss=None,
        test_error=chance_error,
        best_validation_loss=None,
        best_validation_error=chance_error,
        best_validation_step=None,
        generalization_gap=None,
        validation_evaluations=len(curve),
        workload_metrics={},
        curve=tuple(curve),
    )
