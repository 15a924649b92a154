"""Parameters of n members as one tensor each."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["StackedParameter", "padded"]

LANES_OF_FEATURES = 16
"""Features are padded to a multiple of this: 64 bytes of float32."""


class StackedParameter:
    """One parameter of n members, with what its update rule keeps of it."""

    value: Tensor
    velocity: Tensor
    """Running sum or mean of its gradients."""
    gradient: Tensor
    """What a backward pass adds to: the velocity itself, unless the rule needs both."""
    square: Tensor | None = None
    """Running mean of its squared gradients, where the rule needs one."""

    def __init__(self, values: Sequence[Tensor], shape: Sequence[int]) -> None:
        """Stack `values`, all of one shape, each padded with zeros to `shape`."""
        self.value = self._zeros(len(values), shape, values[0].device)
        own = [slice(size) for size in values[0].shape]
        self.value[(slice(None), *own)] = torch.stack([value.detach() for value in values])
        self.velocity = self._zeros(len(values), shape, values[0].device)
        self.gradient = self.velocity

    def part_gradient(self) -> None:
        """Give the gradient memory of its own."""
        self.gradient = self._zeros(len(self.value), self.value.shape[1:], self.value.device)

    def keep_square(self) -> None:
        """Make room for the mean of squared gradients."""
        self.square = self._zeros(len(self.value), self.value.shape[1:], self.value.device)

    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone."""
        parted = self.gradient is not self.velocity
        self.value = self._kept(self.value, members)
        self.velocity = self._kept(self.velocity, members)
        self.gradient = self._kept(self.gradient, members) if parted else self.velocity
        if self.square is not None:
            self.square = self._kept(self.square, members)

    def state(self) -> dict[str, Tensor]:
        """Return what a step changes, by name."""
        state = {"value": self.value, "velocity": self.velocity}
        return state if self.square is None else {**state, "square": self.square}

    def _kept(self, values: Tensor, members: Tensor | slice) -> Tensor:
        if isinstance(members, slice):
            return values[members]
        kept = self._zeros(len(members), values.shape[1:], values.device)
        return kept.copy_(values[members])

    @staticmethod
    def _zeros(members: int, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return (n, *shape) zeros of which every member begins at a multiple of 64 bytes."""
        numel = math.prod(shape)
        lanes = torch.zeros(members, padded(numel), device=device)
        return lanes[:, :numel].view(members, *shape)


def padded(features: int) -> int:
    """Return `features` rounded up to whole lanes."""
    return -(-features // LANES_OF_FEATURES) * LANES_OF_FEATURES
