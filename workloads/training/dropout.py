"""Dropout whose masks belong to the cell: the same alone, in a stack, or after a resume.

torch's own draws from a global generator, so that a member's mask would depend on its neighbours.
Here a mask is a hash of (cell's key, step, place), computed in integer arithmetic, which is exact
on every device.
"""

from typing import Final

import torch
from torch import Tensor, nn

from workloads.errors import WorkloadError
from workloads.streams import stream_key

__all__ = ["CellDropout", "own_dropouts", "set_step", "step_buffers"]

# The increments and multipliers of SplitMix64 as signed integers: Steele, Lea and Flood 2014, "Fast
# splittable pseudorandom number generators", OOPSLA, doi:10.1145/2660193.2660195.
GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS: Final = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)

UNIFORM_BITS = 53

SMALLEST_SHARE = 1e-30
"""Divides zeros where everything is dropped."""

NO_BACKWARD = -1
"""What torch says is being differentiated where nothing is."""


class CellDropout(nn.Module):
    """`nn.Dropout` with the masks of one cell's own stream.

    A layer that is called several times in one step draws on: its masks differ from call to call.
    Where a backward pass computes a forward pass again, as activation checkpoints do, the mask is
    that of the step's one call.
    """

    key: Tensor
    step: Tensor

    def __init__(self, probability: float, key: int) -> None:
        super().__init__()
        self.p = probability
        self._calls = 0
        self._drawn = 0
        """Places of this step whose draws were used in earlier calls."""
        self.part: tuple[int, int, int] | None = None
        """(First example, end, examples of the whole batch) where inputs are a part of a batch,
        whose first dimension is the example; None: they are all of it."""
        self.register_buffer("key", torch.tensor(key))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs` with a share of `p` zeroed and the rest scaled up.

        Raises `WorkloadError` where the first dimension is not that of the part's examples, or
        where a backward pass computes again one of several calls.
        """
        if not self.training or self.p == 0.0:
            return inputs
        first, whole = self._within_batch(inputs)
        if torch._C._current_graph_task_id() == NO_BACKWARD:
            first += self._drawn
            self._drawn += whole
            self._calls += 1
        elif self._calls != 1:
            raise WorkloadError(
                f"A dropout layer that the model calls {self._calls} times a step is computed "
                "again by a checkpoint, which does not tell of which call. Use one layer for each "
                "call, or no checkpoint around it."
            )
        places = torch.arange(first, first + inputs.numel(), device=inputs.device)
        bits = _mixed(_mixed(self.key + self.step * GOLDEN) + places * GOLDEN)
        uniform = (bits >> (64 - UNIFORM_BITS)) & (2**UNIFORM_BITS - 1)
        kept = (uniform >= int(self.p * 2**UNIFORM_BITS)).view(inputs.shape)
        scaled: Tensor = inputs * kept / max(1.0 - self.p, SMALLEST_SHARE)
        return scaled

    def rewind(self) -> None:
        """Draw from the beginning of the step again."""
        self._calls = self._drawn = 0

    def _within_batch(self, inputs: Tensor) -> tuple[int, int]:
        """Return the first place of `inputs` in those of the whole batch, and how many it has."""
        if self.part is None:
            return 0, inputs.numel()
        first, end, batch = self.part
        if len(inputs) != end - first:
            raise WorkloadError(
                f"A dropout layer is given {tuple(inputs.shape)} by a worker that has "
                f"{end - first} examples of a batch of {batch}; allowed: examples in the first "
                "dimension, so that masks are those of the whole batch. Use batch_first=True and "
                "no flattened batch, or train the cell on one device."
            )
        numbers = inputs[0].numel()
        return first * numbers, batch * numbers


def own_dropouts(model: nn.Module, workload_name: str, seed: int) -> nn.Module:
    """Return `model` with its dropout layers replaced by ones that draw from the cell's stream."""
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()  # a shared layer under each of its names
        if type(child) is nn.Dropout
    ]
    if type(model) is nn.Dropout:
        raise TypeError("a model that is a dropout layer has nothing to train")
    for index, (parent, name, child) in enumerate(places):
        key = stream_key(workload_name, seed, "dropout", index)
        setattr(parent, name, CellDropout(child.p, key).train(child.training))
    return model


def set_step(model: nn.Module, step: int) -> None:
    """Tell the dropout layers of `model` how many updates were made before this one."""
    for module in model.modules():
        if isinstance(module, CellDropout):
            module.step.fill_(step)
            module.rewind()


def step_buffers(model: nn.Module) -> list[str]:
    """Return the names of the buffers in which `set_step` keeps the step."""
    return [
        f"{name}.step" if name else "step"
        for name, module in model.named_modules()
        if isinstance(module, CellDropout)
    ]


def _mixed(bits: Tensor) -> Tensor:
    """Return SplitMix64's finalizer: every bit of the result depends on every bit of `bits`."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ ((bits >> shift) & (2 ** (64 - shift) - 1))) * multiplier
    return bits ^ ((bits >> 31) & (2**33 - 1))
