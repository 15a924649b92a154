"""One model over several processes, each with a part of every batch: cells larger than a device.

Every process of the torch.distributed group runs the same engine on the same recipe. It takes its
rows of a batch, and one sum over the processes a step makes of all parts the gradient of the whole
batch. So global batch, noise scale, seeds, batch order, dropout masks and looks are those of the
cell on one device, and its outcome is the same but for rounding: sums are taken in other orders.
"""

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from typing_extensions import override

from workloads.base import Workload
from workloads.errors import WorkloadError
from workloads.recipe import Recipe
from workloads.training.dropout import CellDropout, set_step
from workloads.training.one_by_one import OneByOne

__all__ = ["DataParallel", "require_divisible"]


class DataParallel(OneByOne):
    """A stack of one, stepped by all processes of the default group together."""

    def __init__(
        self, workload: Workload, model: nn.Module, recipe: Recipe, device: torch.device
    ) -> None:
        """Raises `WorkloadError` for a model that `require_divisible` refuses."""
        require_divisible(model)
        super().__init__(workload, model, recipe, device)
        self.rank, self.ranks = distributed.get_rank(), distributed.get_world_size()
        self._dropouts = [m for m in model.modules() if isinstance(m, CellDropout)]

    @override
    def step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        batch = len(inputs)
        first, end = (batch * rank // self.ranks for rank in (self.rank, self.rank + 1))
        if self._dropouts:
            set_step(self._model, step)
            for dropout in self._dropouts:
                dropout.part = first, end, batch
        self._update.begin()
        if self.rank:  # what the parameters have of earlier steps counts once
            self._update.gradients.zero_()
        loss = torch.zeros(1, dtype=torch.float64, device=inputs.device)
        if end > first:
            outputs = self._model(inputs[first:end])
            own = self._workload.loss(outputs, targets[first:end]).sum() / batch
            own.backward()  # type: ignore[no-untyped-call]
            loss += own.detach()
        distributed.all_reduce(self._update.gradients)
        self._update.move(step)
        return self.summed(loss)

    @override
    def outputs(self, members: slice, inputs: Tensor) -> Tensor:
        for dropout in self._dropouts:
            dropout.part = None
        return super().outputs(members, inputs)

    @override
    def summed(self, partial: Tensor) -> Tensor:
        distributed.all_reduce(partial)
        return partial


def require_divisible(model: nn.Module) -> None:
    """Raise `WorkloadError` unless each process can compute its part of a batch by itself.

    Seen are torch's own layers; what a `forward` draws from torch's generator, or keeps in buffers
    of its own, is not.
    """
    for name, module in model.named_modules():
        if fault := _fault(module):
            raise WorkloadError(
                f"Layer {name!r} is a {type(module).__name__}, {fault}, or train the cell on one "
                "device."
            )


def _fault(module: nn.Module) -> str | None:
    """Return why a process cannot compute its part by itself, and what would let it."""
    if isinstance(module, _BatchNorm) or (
        isinstance(module, _InstanceNorm) and module.track_running_stats
    ):
        return (
            "whose statistics are of the whole batch, while each worker sees a part of it. Use "
            "another normalization, such as GroupNorm"
        )
    if _draws(module):
        return (
            "which draws from torch's generator, so that each worker would use the same numbers "
            "for other examples. Use nn.Dropout, whose masks are the cell's, or a rate of 0"
        )
    return None


def _draws(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return type(module) is not nn.Dropout and module.p > 0  # that one becomes a CellDropout
    if isinstance(module, nn.RReLU):
        return module.lower < module.upper
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0
