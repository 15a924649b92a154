"""Any module of supported layers, stacked by torch.func: its own forward, seen by n at once."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing_extensions import override

from workloads.base import Workload
from workloads.training.dropout import CellDropout, step_buffers
from workloads.training.layers import CONVOLVED_TOGETHER
from workloads.training.stacked_parameters import StackedParameter
from workloads.training.stepper import (
    Hyperparameters,
    Stepper,
    batch_losses,
    by_member,
    has_gradient_hooks,
    require_trainable,
)
from workloads.training.unrolled import UnrolledLSTM, unrolled
from workloads.training.update_rules import update_rule

__all__ = ["ModuleStack", "module_fault"]


class ModuleStack(Stepper):
    """n models of one structure: vmap over their parameters, autograd over the whole stack.

    One member alone gets a twin, which is thrown away, since batched kernels round otherwise than
    single ones; a model with convolutions is seen by tiles (see `CONVOLVED_TOGETHER`).
    """

    def __init__(
        self,
        workload: Workload,
        models: Sequence[nn.Module],
        hyperparameters: Hyperparameters,
        example: Tensor,
    ) -> None:
        """`models`: on the device; `module_fault` finds no fault. `example`: one input."""
        models = [unrolled(model) for model in models]
        self._workload = workload
        trainable = [require_trainable(model) for model in models]
        self._parameters = {
            name: StackedParameter([each[name] for each in trainable], value.shape)
            for name, value in trainable[0].items()
        }
        fixed = [
            {k: v for k, v in model.named_parameters() if not v.requires_grad}
            | dict(model.named_buffers())
            for model in models
        ]
        self._fixed = {name: torch.stack([each[name] for each in fixed]) for name in fixed[0]}
        self._dropout_steps = step_buffers(models[0])
        self._model = copy.deepcopy(models[0]).to("meta")
        self._dropouts = [m for m in self._model.modules() if isinstance(m, CellDropout)]
        self._convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in models[0].modules())
        self._rule = update_rule(list(self._parameters.values()), hyperparameters)
        self.members = len(models)
        self.elements_per_example = _largest(models[0], example)

    @override
    def step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        for name in self._dropout_steps:
            self._fixed[name].fill_(step)
        values = {
            name: parameter.value.detach().requires_grad_()
            for name, parameter in self._parameters.items()
        }
        with torch.enable_grad():
            outputs = self._forward(values, self._fixed, by_member(inputs, self.members))
        losses, gradient = batch_losses(self._workload, outputs.detach(), targets, self.members)
        gradients = torch.autograd.grad(outputs, list(values.values()), gradient)
        with torch.no_grad():
            self._rule.begin()
            for parameter, own in zip(self._parameters.values(), gradients, strict=True):
                parameter.gradient.add_(own)
            self._rule.move(step)
        return losses

    @override
    def set_learning_rates(self, rates: Tensor) -> None:
        self._rule.set_learning_rates(rates)

    @override
    @torch.no_grad()
    def outputs(self, members: slice, inputs: Tensor) -> Tensor:
        values = {name: p.value[members] for name, p in self._parameters.items()}
        fixed = {name: value[members] for name, value in self._fixed.items()}
        self._model.eval()
        outputs = self._forward(values, fixed, inputs)
        self._model.train()
        return outputs

    @override
    def keep(self, members: Tensor | slice) -> None:
        for parameter in self._parameters.values():
            parameter.keep(members)
        self._fixed = {name: value[members] for name, value in self._fixed.items()}
        self._rule.keep(members)
        self.members = len(self._rule)

    @override
    def state(self) -> dict[str, Tensor]:
        return {
            f"{what} {name}": tensor.cpu().clone()
            for name, parameter in self._parameters.items()
            for what, tensor in parameter.state().items()
        }

    @override
    def load(self, state: Mapping[str, Tensor]) -> None:
        for key, tensor in state.items():
            what, _, name = key.partition(" ")
            self._parameters[name].state()[what].copy_(tensor)

    @contextmanager
    @override
    def running(self) -> Iterator[None]:
        # The other kernels of attention have no batching rule.
        with sdpa_kernel(SDPBackend.MATH):
            yield

    def _forward(
        self, values: Mapping[str, Tensor], fixed: Mapping[str, Tensor], inputs: Tensor
    ) -> Tensor:
        """Return the (n · B, …) outputs of n members for their (n, B, …) inputs."""

        def one(values: dict[str, Tensor], fixed: dict[str, Tensor], inputs: Tensor) -> Any:
            return functional_call(self._model, (values, fixed), (inputs,))

        members = len(inputs)
        at_once = CONVOLVED_TOGETHER if self._convolves else max(2, members)
        outputs = []
        for start in range(0, members, at_once):
            places = [min(i, members - 1) for i in range(start, start + at_once)]
            for dropout in self._dropouts:
                dropout.rewind()
            own = places if start + at_once > members else slice(start, start + at_once)
            tile = vmap(one)(
                {name: value[own] for name, value in values.items()},
                {name: value[own] for name, value in fixed.items()},
                inputs[own],
            )
            outputs.append(tile[: members - start])
        return torch.cat(outputs).flatten(0, 1)


UNSTACKABLE: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.RNN,
    nn.GRU,
    nn.RNNCell,
)
"""Layers with statistics across the batch, draws from torch's generators, or no batching rule."""


def module_fault(model: nn.Module) -> str | None:
    """Return what keeps `model` from this path, a layer by name, or None."""
    parameters = [p for m in model.modules() for p in m.parameters(recurse=False)]
    if len(set(parameters)) < len(parameters):
        return "two of its layers share a parameter"
    if has_gradient_hooks(model):
        return "it has hooks on gradients, which are stacked here"
    for name, module in model.named_modules():
        if isinstance(module, UNSTACKABLE):
            return f"{type(module).__name__} ({name or 'the model itself'}) cannot be stacked"
        if isinstance(module, nn.LSTM) and (fault := UnrolledLSTM.fault(module)):
            return f"LSTM ({name or 'the model itself'}) {fault}"
        if isinstance(module, nn.MultiheadAttention) and module.dropout:
            return f"MultiheadAttention ({name}) drops out weights by torch's own generator"
    return None


def _largest(model: nn.Module, example: Tensor) -> int:
    """Return the numbers in one example's largest activation."""
    sizes = [example.numel()]

    def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            sizes.append(outputs.numel())

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(example[None])
    finally:
        for handle in handles:
            handle.remove()
        model.train()
    return max(sizes)
