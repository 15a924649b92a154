"""Stacks of linear and convolution layers, stepped with explicit passes: the fast path."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from workloads.base import Workload
from workloads.training.layers import IMAGE, VECTOR, layer_fault, stacked_layer
from workloads.training.stepper import (
    Hyperparameters,
    Stepper,
    batch_losses,
    by_member,
    has_gradient_hooks,
    require_trainable,
)
from workloads.training.update_rules import update_rule

__all__ = ["LayerStack", "layer_stack_fault"]

SHAPES = {1: VECTOR, 3: IMAGE}
"""What one input is, by its dimensions."""


class LayerStack(Stepper):
    """n models, each an `nn.Sequential` of the same layers of `workloads.training.layers`."""

    def __init__(
        self,
        workload: Workload,
        models: Sequence[nn.Module],
        hyperparameters: Hyperparameters,
        example: Tensor,
    ) -> None:
        """`models`: on the device; `layer_stack_fault` finds no fault. `example`: one input."""
        for model in models:
            require_trainable(model)
        self._workload = workload
        self._layers = [stacked_layer(same) for same in zip(*map(leaves, models), strict=True)]
        self._parameters = [p for layer in self._layers for p in layer.parameters]
        # The layers before the first with parameters pass no gradient on.
        self._first = next(i for i, layer in enumerate(self._layers) if layer.parameters)
        self._rule = update_rule(self._parameters, hyperparameters)
        self._folds = example.dim() == 3 and not isinstance(leaves(models[0])[0], nn.Flatten)
        self.members = len(models)
        with torch.no_grad():
            outputs = models[0](example[None])
            self._features = outputs.shape[-1]
            self.elements_per_example = self._largest(example)

    @override
    @torch.no_grad()
    def step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        self._rule.begin()
        values = self._entered(by_member(inputs, self.members))
        for layer in self._layers:
            values = layer.forward(values)
        own = values[..., : self._features].flatten(0, 1)
        losses, own_gradient = batch_losses(self._workload, own, targets, self.members)
        gradient = by_member(own_gradient, self.members)
        if self._features < values.shape[-1]:
            gradient = nn.functional.pad(gradient, (0, values.shape[-1] - self._features))
        for index in range(len(self._layers) - 1, self._first - 1, -1):
            gradient = self._layers[index].backward(gradient, by_inputs=index > self._first)
        self._rule.move(step)
        return losses

    @override
    def set_learning_rates(self, rates: Tensor) -> None:
        self._rule.set_learning_rates(rates)

    @override
    @torch.no_grad()
    def outputs(self, members: slice, inputs: Tensor) -> Tensor:
        values = self._entered(inputs)
        for layer in self._layers:
            values = layer.forward(values, members=members)
        return values[..., : self._features].flatten(0, 1)

    @override
    def keep(self, members: Tensor | slice) -> None:
        for layer in self._layers:
            layer.keep(members)
        self._rule.keep(members)
        self.members = len(self._rule)

    @override
    def state(self) -> dict[str, Tensor]:
        return {
            f"{index} {what}": tensor.cpu().clone()
            for index, parameter in enumerate(self._parameters)
            for what, tensor in parameter.state().items()
        }

    @override
    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in state.items():
            index, _, what = name.partition(" ")
            self._parameters[int(index)].state()[what].copy_(tensor)

    def _entered(self, inputs: Tensor) -> Tensor:
        """Return (n, B, …) inputs as the first layer takes them."""
        return inputs.transpose(0, 1).flatten(1, 2) if self._folds else inputs

    def _largest(self, example: Tensor) -> int:
        """Return the numbers in one example's largest activation."""
        values = self._entered(example[None, None])
        sizes = [values.numel()]
        for layer in self._layers:
            values = layer.forward(values, members=slice(0, 1))
            sizes.append(values.numel())
        return max(sizes)


def layer_stack_fault(model: nn.Module, example: Tensor) -> str | None:
    """Return what keeps `model` from this path, or None. `example`: one input."""
    try:
        layers = leaves(model)
    except TypeError as error:
        return str(error)
    if example.dtype is not torch.float32 or example.dim() not in SHAPES:
        return "its inputs are neither vectors nor images of float32"
    shape = SHAPES[example.dim()]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    if len(set(parameters)) < len(parameters):
        return "its layers share a parameter"
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
        return "its layers have hooks, which explicit passes would not call"
    if has_gradient_hooks(model):
        return "it has hooks on gradients"
    for layer in layers:
        fault, shape = layer_fault(layer, shape)
        if fault is not None:
            return fault
    return None if shape is VECTOR else "its outputs are images"


def leaves(model: nn.Module) -> list[nn.Module]:
    """Return the layers of nested `nn.Sequential`s in order; `TypeError` for another container."""
    return list(_leaves(model))


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is not nn.Sequential:
        if next(model.children(), None) is not None:
            raise TypeError(f"{type(model).__name__} is no nn.Sequential")
        yield model
        return
    for child in model:
        yield from _leaves(child)
