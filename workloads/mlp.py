# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Classification by a perceptron with one hidden layer: what `digits` and `teacher` share."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Workload

__all__ = ["LABEL_NOISE", "MlpClassification"]

LABEL_NOISE = Axis(
    name="label_noise",
    kind=AxisKind.NUMBER,
    meaning=(
        "Share of training labels replaced by a class drawn uniformly from all, the true one "
        "included; validation and test labels stay true."
    ),
    default=0.0,
    minimum=0.0,
    maximum=1.0,
)


class MlpClassification(Workload):
    """A subclass sets `input_features` and `classes`, and defines the data."""

    input_features: ClassVar[int]
    """Values of one input."""
    classes: ClassVar[int]
    """Classes; targets are int64 from 0 to `classes` − 1."""

    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Width of the hidden ReLU layer.",
        minimum=1,
        maximum=4096,
    )
    axes: ClassVar[tuple[Axis, ...]] = (LABEL_NOISE,)

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(self.input_features, size), nn.ReLU(), nn.Linear(size, self.classes)
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Classes before examples: 6–9 times as fast for ten classes, whose rows are shorter than
        # the vectors that a softmax along them is computed in (thousands of rows, one CPU thread).
        losses = functional.cross_entropy(outputs.T[None], targets[None], reduction="none")
        return losses[0]

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=1) != targets).float()

    def training_targets(
        self, targets: Tensor, axes: AxisValues, stream: np.random.Generator
    ) -> Tensor:
        # Two raw draws an example, whatever the share: at a larger share the same examples, and
        # more, get the same wrong labels. Raw, because NumPy may change a Generator's methods.
        draws = stream.bit_generator.random_raw(2 * len(targets)).reshape(2, -1)
        replaced = draws[0] / 2.0**64 < float(axes[LABEL_NOISE.name])
        noise = (draws[1] % np.uint64(self.classes)).astype(np.int64)
        return torch.where(torch.from_numpy(replaced), torch.from_numpy(noise), targets)
