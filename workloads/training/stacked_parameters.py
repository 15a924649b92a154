"""Parameters of n members as one tensor each, and their update in a few operations for all."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workloads.training.stepper import Hyperparameters

__all__ = ["HeavyBalls", "StackedParameter", "padded"]

LANES_OF_FEATURES = 16
"""Features are padded to a multiple of this: 64 bytes of float32."""


class StackedParameter:
    """One parameter of n members with its velocity."""

    def __init__(self, values: Sequence[Tensor], shape: Sequence[int]) -> None:
        """Stack `values`, all of one shape, each padded with zeros to `shape`."""
        self.value = self._zeros(len(values), shape, values[0].device)
        own = [slice(size) for size in values[0].shape]
        self.value[(slice(None), *own)] = torch.stack([value.detach() for value in values])
        self.velocity = self._zeros(len(values), shape, values[0].device)

    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone."""
        self.value = self._kept(self.value, members)
        self.velocity = self._kept(self.velocity, members)

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


class HeavyBalls:
    """SGD with momentum for n members, each with its own ε, m and λ: `HeavyBall`'s update."""

    def __init__(
        self, parameters: Sequence[StackedParameter], hyperparameters: Hyperparameters
    ) -> None:
        self._parameters = parameters
        self._decays_weights = bool(hyperparameters.weight_decay.any())
        self._take(hyperparameters)

    def decay(self) -> None:
        """Let the velocities fade: v ← m v."""
        torch._foreach_mul_(self._velocities, self._momenta)

    def move(self) -> None:
        """Follow the velocities: v ← v + λ w, w ← w − ε v."""
        if self._decays_weights:
            # Where λ is 0 nothing is added, as alone: 0 · ∞ would be NaN.
            decaying = [
                value.masked_fill(decay == 0, 0.0)
                for value, decay in zip(self._values, self._weight_decays, strict=True)
            ]
            torch._foreach_addcmul_(self._velocities, decaying, self._weight_decays)
        torch._foreach_addcmul_(self._values, self._velocities, self._rates, value=-1.0)

    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone; their parameters have been told."""
        self._take(self._hyperparameters.of_members(members))

    def __len__(self) -> int:
        return len(self._hyperparameters.momentum)

    def _take(self, hyperparameters: Hyperparameters) -> None:
        self._hyperparameters = hyperparameters
        self._values = [parameter.value for parameter in self._parameters]
        self._velocities = [parameter.velocity for parameter in self._parameters]
        self._momenta = self._by_parameter(hyperparameters.momentum)
        self._rates = self._by_parameter(hyperparameters.learning_rate)
        self._weight_decays = self._by_parameter(hyperparameters.weight_decay)

    def _by_parameter(self, by_member: Tensor) -> list[Tensor]:
        """Return (n,) values as they are broadcast over each parameter."""
        return [by_member.view(-1, *[1] * (value.dim() - 1)) for value in self._values]


def padded(features: int) -> int:
    """Return `features` rounded up to whole lanes."""
    return -(-features // LANES_OF_FEATURES) * LANES_OF_FEATURES
