"""A workload that is only looked at, never trained."""

from typing import Any

from torch import Tensor, nn

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Workload

__all__ = ["StandIn"]


class StandIn(Workload):
    name = "digits"
    version = 1
    model_size = Axis(
        name="width", kind=AxisKind.INTEGER, meaning="Hidden units.", default=32, minimum=1
    )
    axes = (
        Axis(
            name="schedule",
            kind=AxisKind.TEXT,
            meaning="How the rate falls.",
            default="constant",
            choices=("constant", "cosine"),
        ),
        Axis(
            name="label_noise",
            kind=AxisKind.NUMBER,
            meaning="Share of random labels.",
            default=0.0,
            minimum=0,
            maximum=1,
        ),
    )
    chance_error = 0.9

    def data(self, axes: AxisValues) -> Data:
        raise AssertionError("a study must be read without its data")

    def model(self, size: Any) -> nn.Module:
        raise AssertionError("a study must be read without a model")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("a study must be read without training")

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("a study must be read without training")
