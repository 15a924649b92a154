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
    """Examples a step; a shard smaller than this is one batch."""
    learning_rate: float
    """Constant learning rate ε of SGD."""
    momentum: float
    """Heavy-ball momentum m in [0, 1): v ← m v + ĝ, w ← w − ε v (torch.optim.SGD's form)."""
    weight_decay: float = 0.0
    """L2 coefficient λ ≥ 0: g ← g + λ w (torch.optim.SGD's `weight_decay`)."""
    steps: int
    """Number of updates."""
    seed: int
    """Source of the subset, the initialization, the batch order and the label noise."""
    axes: tuple[tuple[str, AxisValue], ...] = ()
    """Value of every workload axis, by name in alphabetical order."""
    evaluation_schedule: str = "geometric:12"
    """When the validation set is looked at; see `training.evaluation.evaluation_steps`."""
