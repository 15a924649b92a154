"""What a model costs: parameters and floating-point operations, counted without training it."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from workloads.axis import AxisValue, AxisValues
from workloads.base import BaseWorkload, ModelCost, Workload
from workloads.errors import WorkloadError
from workloads.resident import load_data
from workloads.self_trained import SelfTrained
from workloads.streams import forked_torch_generator

__all__ = [
    "TRAINING_PASSES",
    "counted_costs",
    "learn_costs",
    "model_cost",
    "trainable_parameters",
    "training_flops",
]

TRAINING_PASSES = 3.0
"""Forward passes that training on an example costs: its own, and a backward pass as dear as two."""

_Key = tuple[type[BaseWorkload], AxisValue, tuple[tuple[str, AxisValue], ...]]


def model_cost(workload: BaseWorkload, size: AxisValue, axes: AxisValues) -> ModelCost:
    """Return the cost of the workload's model of `size` on the data at `axes`.

    Counted are matrix products, convolutions and attention, as torch's flop counter does;
    elementwise operations are not. Models are built on torch's meta device, without memory for
    their parameters; one that cannot be (it reads its own values while it is made) is built on
    the CPU, from matrix products too. A workload that trains its cells itself says what they cost.
    """
    key = (type(workload), size, tuple(sorted(axes.items())))
    if key not in _costs:
        _costs[key] = _cost(workload, size, axes)
    return _costs[key]


def counted_costs() -> Mapping[_Key, ModelCost]:
    """Return what this process has counted."""
    return dict(_costs)


def learn_costs(costs: Mapping[_Key, ModelCost]) -> None:
    """Take over what another process has counted: to count, torch imports its compiler, 1.3 s."""
    _costs.update(costs)


def training_flops(cost: ModelCost, examples: int) -> float:
    """Return the operations of training on `examples` examples (each epoch counts again).

    3 × forward × examples: the backward pass computes the gradients of activations and of weights,
    each as dear as the forward pass. Source: Kaplan et al. 2020, §2.1, arXiv:2001.08361.
    """
    return TRAINING_PASSES * cost.forward_flops_per_example * examples


_costs: dict[_Key, ModelCost] = {}

PERCEPTRON = (nn.Linear, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.Identity)
"""Layers of which a perceptron is made: only the linear ones multiply."""


def _cost(workload: BaseWorkload, size: AxisValue, axes: AxisValues) -> ModelCost:
    if isinstance(workload, SelfTrained):
        return _whole(workload, workload.cost(size, axes))
    assert isinstance(workload, Workload)
    return _count(workload, size, axes)


def _whole(workload: SelfTrained, said: ModelCost) -> ModelCost:
    """Return a cost in Python's integers, which tables hold; raises `WorkloadError` for others."""
    counts = asdict(said)
    wrong = {name: count for name, count in counts.items() if count % 1 or count < 1}
    if wrong:
        name, count = next(iter(wrong.items()))
        raise WorkloadError(
            f"cost of workload {workload.name!r} gives {name} = {count!r}; allowed: a whole number "
            "from 1. Mend it."
        )
    return ModelCost(**{name: int(count) for name, count in counts.items()})


def _count(workload: Workload, size: AxisValue, axes: AxisValues) -> ModelCost:
    example = load_data(workload, axes).train.inputs[:1]
    with forked_torch_generator(workload.name, "cost"):
        try:
            with torch.device("meta"):
                model = workload.model(size)
            flops, operations = _forward_flops(model, example.to("meta"))
        except (RuntimeError, TypeError):
            # A model that reads its own numbers (by NumPy: TypeError), or an operation that has no
            # form without them (NotImplementedError, which is a RuntimeError).
            model = workload.model(size)
            with _plain_kernels():
                flops, operations = _forward_flops(model, example)
    return ModelCost(trainable_parameters(model), flops, operations)


def trainable_parameters(model: nn.Module) -> int:
    """Return how many numbers training changes; the model may be on the meta device."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _known_flops(model: nn.Module, example: torch.Tensor) -> tuple[int, int] | None:
    """Return the operations of a perceptron without running it; None for any other model.

    To count any other, torch imports its compiler, which takes a second.
    """
    if type(model) is not nn.Sequential or any(type(layer) not in PERCEPTRON for layer in model):
        return None
    if example.dim() > 2 and not isinstance(model[0], nn.Flatten):
        return None  # it multiplies more than once an example
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    flops = sum(2 * layer.in_features * layer.out_features for layer in linear)
    # The counter below sees a transposition before each product.
    return flops, len(model) + len(linear)


def _forward_flops(model: nn.Module, example: torch.Tensor) -> tuple[int, int]:
    known = _known_flops(model, example)
    if known is not None:
        return known
    model.eval()
    # With gradients: without, the counter fails on a model whose output is a view of a parameter.
    with (
        torch.enable_grad(),
        FlopCounterMode(display=False) as counter,
        _OperationCounter() as operations,  # type: ignore[no-untyped-call]
    ):
        model(example)
    return int(counter.get_total_flops()), operations.count


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Compute LSTMs and attention by products, as on the meta device: the counter knows no other.

    It counts nothing for the CPU's own kernels of them.
    """
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # of another device
        with torch.backends.mkldnn.flags(enabled=False):
            yield


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensor operations that are started inside it."""

    count = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))
