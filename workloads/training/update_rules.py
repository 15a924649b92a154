"""How n members follow their gradients, each with its own ε, m and λ: see `Optimizer`.

Every rule is a few operations for all members. They are elementwise, so that no member's bits
depend on the others, and what a member's decay of 0 would leave as it is, it leaves as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from workloads.optimizer import ADAM_EPSILON, ADAM_SQUARE_DECAY, Optimizer
from workloads.training.stacked_parameters import StackedParameter
from workloads.training.stepper import Hyperparameters

__all__ = ["UpdateRule", "update_rule"]


def update_rule(
    parameters: Sequence[StackedParameter], hyperparameters: Hyperparameters
) -> "UpdateRule":
    """Return the rule that `hyperparameters` name, for `parameters` before their first step."""
    return _RULES[hyperparameters.optimizer](parameters, hyperparameters)


class UpdateRule(ABC):
    """Between `begin` and `move`, a backward pass adds to `StackedParameter.gradient`."""

    def __init__(
        self, parameters: Sequence[StackedParameter], hyperparameters: Hyperparameters
    ) -> None:
        self._parameters = parameters
        self._decays_weights = bool(hyperparameters.weight_decay.any())
        for parameter in parameters:
            if self.needs_gradient:
                parameter.part_gradient()
            if self.needs_square:
                parameter.keep_square()
        self._take(hyperparameters)

    needs_gradient = True
    """Whether the gradient needs memory beside the velocity."""
    needs_square = False
    """Whether the rule needs the mean of squared gradients."""

    @abstractmethod
    def begin(self) -> None:
        """Make the gradients ready to be added to."""

    @abstractmethod
    def move(self, step: int) -> None:
        """Follow the gradients. `step`: updates made before."""

    def set_learning_rates(self, rates: Tensor) -> None:
        """Use these from the next step on. `rates`: (n,) float64, on any device."""
        self._hyperparameters.learning_rate.copy_(rates)
        self._rate.copy_(rates)

    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone; their parameters have been told."""
        self._take(self._hyperparameters.of_members(members))

    def __len__(self) -> int:
        return len(self._hyperparameters.momentum)

    def _take(self, hyperparameters: Hyperparameters) -> None:
        self._hyperparameters = hyperparameters
        self._values = [parameter.value for parameter in self._parameters]
        self._velocities = [parameter.velocity for parameter in self._parameters]
        self._gradients = [parameter.gradient for parameter in self._parameters]
        self._rate = hyperparameters.learning_rate.float()
        self._rates = self._by_parameter(self._rate)
        self._momenta = self._by_parameter(hyperparameters.momentum.float())
        self._weight_decays = self._by_parameter(hyperparameters.weight_decay.float())

    def _by_parameter(self, by_member: Tensor) -> list[Tensor]:
        """Return (n,) values as they are broadcast over each parameter."""
        return [by_member.view(-1, *[1] * (value.dim() - 1)) for value in self._values]

    def _add_decay(self, gradients: Sequence[Tensor]) -> None:
        """Add λ w to the gradients."""
        if not self._decays_weights:
            return
        # Where λ is 0 nothing is added, as alone: 0 · ∞ would be NaN.
        decaying = [
            value.masked_fill(decay == 0, 0.0)
            for value, decay in zip(self._values, self._weight_decays, strict=True)
        ]
        torch._foreach_addcmul_(list(gradients), decaying, self._weight_decays)


class _HeavyBalls(UpdateRule):
    """`HeavyBall`'s update: the gradient is added to the velocity itself."""

    needs_gradient = False

    @override
    def begin(self) -> None:
        torch._foreach_mul_(self._velocities, self._momenta)

    @override
    def move(self, step: int) -> None:
        self._add_decay(self._velocities)
        torch._foreach_addcmul_(self._values, self._velocities, self._rates, value=-1.0)


class _Parted(UpdateRule):
    """A rule that needs the gradient beside the velocity."""

    @override
    def begin(self) -> None:
        torch._foreach_zero_(self._gradients)


class _Nesterovs(_Parted):
    @override
    def move(self, step: int) -> None:
        self._add_decay(self._gradients)
        torch._foreach_mul_(self._velocities, self._momenta)
        torch._foreach_add_(self._velocities, self._gradients)
        torch._foreach_addcmul_(self._gradients, self._velocities, self._momenta)
        torch._foreach_addcmul_(self._values, self._gradients, self._rates, value=-1.0)


class _Adams(_Parted):
    needs_square = True

    @override
    def _take(self, hyperparameters: Hyperparameters) -> None:
        super()._take(hyperparameters)
        self._squares = [p.square for p in self._parameters if p.square is not None]
        self._gains = self._by_parameter((1.0 - hyperparameters.momentum).float())
        momenta, self._momentum_of = torch.unique(hyperparameters.momentum, return_inverse=True)
        self._distinct_momenta: list[float] = momenta.tolist()
        self._step_sizes = torch.empty_like(self._rate)
        self._by_step_size = self._by_parameter(self._step_sizes)

    @override
    def move(self, step: int) -> None:
        self._decay()
        torch._foreach_mul_(self._velocities, self._momenta)
        torch._foreach_addcmul_(self._velocities, self._gradients, self._gains)
        torch._foreach_mul_(self._squares, ADAM_SQUARE_DECAY)
        torch._foreach_addcmul_(
            self._squares, self._gradients, self._gradients, value=1.0 - ADAM_SQUARE_DECAY
        )
        roots = torch._foreach_sqrt(self._squares)
        torch._foreach_div_(roots, (1.0 - ADAM_SQUARE_DECAY ** (step + 1)) ** 0.5)
        torch._foreach_add_(roots, ADAM_EPSILON)
        self._step_sizes.copy_(self._hyperparameters.learning_rate / self._corrections(step + 1))
        directions = torch._foreach_div(self._velocities, roots)
        torch._foreach_addcmul_(self._values, directions, self._by_step_size, value=-1.0)

    def _decay(self) -> None:
        self._add_decay(self._gradients)

    def _corrections(self, steps: int) -> Tensor:
        """Return (n,) 1 − β₁^t in float64, as that of a β₁ near 1 is a small difference.

        By Python's power: torch's rounds by an element's place in memory.
        """
        corrections = [1.0 - momentum**steps for momentum in self._distinct_momenta]
        known = self._hyperparameters.momentum
        return torch.tensor(corrections, dtype=known.dtype, device=known.device)[self._momentum_of]


class _AdamWs(_Adams):
    @override
    def _decay(self) -> None:
        if self._decays_weights:
            known = self._hyperparameters
            kept = (1.0 - known.learning_rate * known.weight_decay).float()
            torch._foreach_mul_(self._values, self._by_parameter(kept))  # exactly by 1 where λ is 0


_RULES: dict[Optimizer, type[UpdateRule]] = {
    Optimizer.SGD: _HeavyBalls,
    Optimizer.NESTEROV: _Nesterovs,
    Optimizer.ADAM: _Adams,
    Optimizer.ADAMW: _AdamWs,
}
