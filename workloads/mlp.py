# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Classification by a perceptron with one hidden layer."""

from typing import ClassVar

from torch import nn

from workloads.axis import Axis, AxisKind
from workloads.classification import LABEL_NOISE, Classification

__all__ = ["LABEL_NOISE", "MlpClassification"]


class MlpClassification(Classification):
    """A subclass sets `input_features` and `classes`, and defines the data."""

    input_features: ClassVar[int]
    """Values of one input."""

    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Width of the hidden ReLU layer.",
        minimum=1,
        maximum=4096,
    )

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(self.input_features, size), nn.ReLU(), nn.Linear(size, self.classes)
        )
