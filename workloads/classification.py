# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Classes as targets: what every classification shares, whatever its inputs and its model."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Workload

__all__ = ["LABEL_NOISE", "Classification"]

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


class Classification(Workload):
    """A subclass sets `classes`, and defines the data and the model."""

    classes: ClassVar[int]
    """Classes; targets are int64 from 0 to `classes` − 1."""

    axes: ClassVar[tuple[Axis, ...]] = (LABEL_NOISE,)

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
