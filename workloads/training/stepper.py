"""What an arithmetic path promises: to step n members in lockstep, none seeing another.

The engine (`lockstep`) feeds any of them: `one_by_one` with one member, as the workload's own
model computes it; `layer_stack` with explicit passes through stacked linear and convolution
layers; `module_stack` with torch.func for any other module of supported layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from workloads.base import Workload
from workloads.errors import WorkloadError
from workloads.optimizer import Optimizer
from workloads.recipe import Recipe

__all__ = [
    "Hyperparameters",
    "Stepper",
    "batch_losses",
    "by_member",
    "has_gradient_hooks",
    "require_trainable",
    "whole_lanes",
]

LANES = 32
"""Rows are padded to a multiple of this before a loss: ATen's vector loops take 32 floats at most
at a time (two AVX-512 registers) and leave the rest to scalar code, which rounds a sigmoid or
softplus differently. Without padding a member's loss could depend on its place in the stack."""


@dataclass(frozen=True)
class Hyperparameters:
    """The update rule of a stack, and what may differ between its members: (n,) on the device."""

    optimizer: Optimizer
    learning_rate: Tensor
    momentum: Tensor
    weight_decay: Tensor

    @classmethod
    def of(cls, recipes: Sequence[Recipe], device: torch.device) -> "Hyperparameters":
        """Return those of `recipes`, in their order, as float64."""
        (optimizer,) = {recipe.optimizer for recipe in recipes}
        return cls(
            Optimizer(optimizer),
            *(
                torch.tensor(
                    [getattr(recipe, name) for recipe in recipes],
                    dtype=torch.float64,
                    device=device,
                )
                for name in ("learning_rate", "momentum", "weight_decay")
            ),
        )

    def of_members(self, members: "Tensor | slice") -> "Hyperparameters":
        """Return those of some of the members."""
        return replace(
            self,
            learning_rate=self.learning_rate[members],
            momentum=self.momentum[members],
            weight_decay=self.weight_decay[members],
        )


class Stepper(ABC):
    """Parameters of n members, and how they take a step of their update rule (`Optimizer`)."""

    members: int
    """n, the members still in the stack."""
    elements_per_example: int
    """Numbers in the largest activation of one example: bounds how much is evaluated at once."""
    rank: int = 0
    """This process among those that step the same members together."""
    ranks: int = 1
    """How many those are; 1: this one alone."""

    @abstractmethod
    def step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """Make one update; return the (n,) mean losses of the batches before it.

        `step`: number of updates made before. `inputs`: (n · B, …) with the B examples of one
        member after the other. `targets`: alike.
        """

    @abstractmethod
    def set_learning_rates(self, rates: Tensor) -> None:
        """Use these from the next step on. `rates`: (n,) float64, on the CPU."""

    @abstractmethod
    def outputs(self, members: slice, inputs: Tensor) -> Tensor:
        """Return the (k · c, …) outputs of k members in evaluation mode, without gradients.

        `inputs`: (k, c, …), c examples for each of the k.
        """

    @abstractmethod
    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone, in that order."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return all that a step changes, on the CPU; the first dimension is the member."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned in another process."""

    def summed(self, partial: Tensor) -> Tensor:
        """Return the sum over the ranks of what each has of `partial`."""
        return partial

    def running(self) -> AbstractContextManager[None]:
        """Return a context manager that holds what `step` and `outputs` need around them."""
        return nullcontext()


def batch_losses(
    workload: Workload, outputs: Tensor, targets: Tensor, members: int
) -> tuple[Tensor, Tensor]:
    """Return the (n,) mean losses of n batches, and each batch's gradient by its own outputs.

    `outputs`: (n · B, …), of which the gradient has the shape. `targets`: (n · B, …).
    """
    rows = len(outputs)
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        losses = workload.loss(whole_lanes(leaf), whole_lanes(targets))[:rows]
        batch = rows // members
        # The sum of the mean losses. Autograd of anything but a scalar imports sympy first: 0.3 s.
        total = losses.dot(torch.full_like(losses, 1 / batch))
        (gradient,) = torch.autograd.grad(total, leaf)
    return losses.detach().view(members, batch).mean(1), gradient


def by_member(rows: Tensor, members: int) -> Tensor:
    """Return (n · B, …) rows as (n, B, …)."""
    return rows.view(members, -1, *rows.shape[1:])


def whole_lanes(rows: Tensor) -> Tensor:
    """Return `rows` with the last one repeated until their number is a multiple of `LANES`."""
    missing = -len(rows) % LANES
    if not missing:
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def has_gradient_hooks(model: nn.Module) -> bool:
    """Return whether gradients of `model` are watched or changed on their way."""
    return any(m._backward_hooks or m._backward_pre_hooks for m in model.modules()) or any(
        p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters()
    )


def require_trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters to train, by name; raises `WorkloadError` unless all are float32."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise WorkloadError("The model has no parameter to train; give it one.")
    for name, parameter in parameters.items():
        if parameter.dtype is not torch.float32:
            raise WorkloadError(f"Parameter {name!r} is {parameter.dtype}; allowed: torch.float32.")
    return parameters
