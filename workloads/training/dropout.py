"""Dropout whose masks belong to the cell: the same alone, in a stack, or after a resume.

torch's own draws from a global generator, so that a member's mask would depend on its neighbours.
Here a mask is a hash of (cell's key, step, place), computed in integer arithmetic, which is exact
on every device.
"""

from typing import Final

import torch
from torch import Tensor, nn

from workloads.streams import stream_key

__all__ = ["CellDropout", "own_dropouts", "set_step"]

# The increments and multipliers of SplitMix64 as signed integers: Steele, Lea and Flood 2014, "Fast
# splittable pseudorandom number generators", OOPSLA, doi:10.1145/2660193.2660195.
GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS: Final = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)

UNIFORM_BITS = 53

SMALLEST_SHARE = 1e-30
"""Divides zeros where everything is dropped."""


class CellDropout(nn.Module):
    """`nn.Dropout` with the masks of one cell's own stream.

    A layer that is called several times in one step draws on: its masks differ from call to call.
    """

    key: Tensor
    step: Tensor

    def __init__(self, probability: float, key: int) -> None:
        super().__init__()
        self.p = probability
        self.drawn = 0
        """Places of this step whose draws were used in earlier calls."""
        self.part: tuple[int, int] | None = None
        """(First example, examples of the whole batch) where inputs are a part of a batch, whose
        first dimension is the example; None: they are all of it."""
        self.register_buffer("key", torch.tensor(key))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs` with a share of `p` zeroed and the rest scaled up."""
        if not self.training or self.p == 0.0:
            return inputs
        numel = inputs.numel()
        first, whole = self.drawn, numel
        if self.part is not None and numel:
            before, batch = self.part
            first += before * (numel // len(inputs))
            whole = batch * (numel // len(inputs))
        self.drawn += whole
        places = torch.arange(first, first + numel, device=inputs.device)
        bits = _mixed(_mixed(self.key + self.step * GOLDEN) + places * GOLDEN)
        uniform = (bits >> (64 - UNIFORM_BITS)) & (2**UNIFORM_BITS - 1)
        kept = (uniform >= int(self.p * 2**UNIFORM_BITS)).view(inputs.shape)
        scaled: Tensor = inputs * kept / max(1.0 - self.p, SMALLEST_SHARE)
        return scaled


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
            module.drawn = 0


def _mixed(bits: Tensor) -> Tensor:
    """Return SplitMix64's finalizer: every bit of the result depends on every bit of `bits`."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        bits = (bits ^ ((bits >> shift) & (2 ** (64 - shift) - 1))) * multiplier
    return bits ^ ((bits >> 31) & (2**33 - 1))
