"""Everything that the trainer needs to know of one training run."""

from dataclasses import dataclass

from workloads.axis import AxisValue

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run, resolved: nothing here depends on where or with what it is trained."""

    train_examples: int
    """Size of the shard: the first that many examples of the seed's order of the pool."""
    model_size: AxisValue
    """Passed to `Workload.model`."""
    batch_size: int
    """Examples a step, at the beginning; a shard smaller than this is one batch."""
    learning_rate: float
    """Learning rate ε; `learning_rate_schedule` says what it is multiplied by."""
    momentum: float
    """m in [0, 1): of the velocity with sgd and nesterov, β₁ with adam and adamw."""
    weight_decay: float = 0.0
    """λ ≥ 0; see `Optimizer` for what decays."""
    optimizer: str = "sgd"
    """A word of `Optimizer`."""
    learning_rate_schedule: str = "constant"
    """How the rate changes along training; see `workloads.schedules`."""
    batch_size_schedule: str = "constant"
    """How the batch grows along training; see `workloads.schedules`."""
    steps: int
    """Number of updates; where the batch grows, those of a whole number of epochs."""
    seed: int
    """Source of the subset, the initialization, the batch order and the label noise."""
    axes: tuple[tuple[str, AxisValue], ...] = ()
    """Value of every workload axis, by name in alphabetical order."""
    evaluation_schedule: str = "geometric:12"
    """When the validation set is looked at; see `training.evaluation.evaluation_steps`."""
