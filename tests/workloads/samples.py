"""A small workload that keeps the contract, for tests of what stands around it."""

import torch
from torch import nn

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split, Workload
from workloads.streams import stream

SIZES = (96, 60, 60)
FEATURES = 4


class Signs(Workload):
    """Two classes: the sign of the first of four numbers, moved by the axis `shift`."""

    name = "signs"
    version = 1
    model_size = Axis(
        name="model_size", kind=AxisKind.INTEGER, meaning="Width.", minimum=1, maximum=64
    )
    axes = (
        Axis(
            name="shift", kind=AxisKind.NUMBER, meaning="Offset.", default=0.0, minimum=0, maximum=9
        ),
    )
    chance_error = 0.5

    def data(self, axes: AxisValues) -> Data:
        draws = stream("signs", "data").random((sum(SIZES), FEATURES)) * 2 - 1
        inputs = torch.tensor(draws, dtype=torch.float32)
        targets = (inputs[:, 0] > 0).long()
        moved = inputs + float(axes["shift"])
        return Data(*map(Split, torch.split(moved, list(SIZES)), torch.split(targets, list(SIZES))))

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, size), nn.Tanh(), nn.Linear(size, 2))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    def error(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs.argmax(1) != targets).float()


class RareSigns(Signs):
    """One of ten is positive, and a single number an example says which."""

    chance_error = 0.1

    def data(self, axes: AxisValues) -> Data:
        def rare(split: Split) -> Split:
            return Split(split.inputs, (torch.arange(len(split)) % 10 == 0).float())

        data = super().data(axes)
        return Data(rare(data.train), rare(data.validation), rare(data.test))

    def model(self, size: int) -> nn.Module:
        layers = super().model(size)
        return nn.Sequential(*layers[:2], nn.Linear(size, 1), nn.Flatten(0))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.view(-1), targets, reduction="none"
        )

    def error(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return ((outputs.view(-1) > 0) != (targets > 0.5)).float()
