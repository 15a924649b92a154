"""Layers of n members at once, with explicit forward and backward passes.

Each is a copy of a `torch.nn` layer whose parameters carry the member as first dimension. A
gradient is added to `StackedParameter.gradient` (for heavy ball, the velocity) where it arises: no
pass over memory of its own.

Activations are (n, B, F) with F padded to `LANES_OF_FEATURES`, or, between convolutions,
(B, n · C, H, W). Padding keeps every member's matrix at a multiple of 64 bytes, where a matrix
product rounds the same for every member and every n (measured with MKL: without it, results
depend on a matrix's address); it is also faster, because nothing is left over for scalar code.
Padded weights stay zero: their inputs or their gradients are.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from workloads.training.stacked_parameters import StackedParameter, padded

__all__ = [
    "CONVOLVED_TOGETHER",
    "IMAGE",
    "VECTOR",
    "Layer",
    "layer_fault",
    "stacked_layer",
]

CONVOLVED_TOGETHER = 16
"""Members whose convolutions are one grouped convolution. Always so many, the last tile filled up:
oneDNN chooses its code, and so its rounding, by the number of channels. A step of a small network
on 8 × 8 images took 230 µs a member with tiles of 4, 150 with 8, 130 with 16 and with 32, and 920
in plain PyTorch."""

CONVOLVED_ALONE = 2**14
"""Numbers in one member's activations above which its convolution is one of its own: a grouped one
of the same work was up to twice as slow (386 images of 8 × 4 × 4), below twice as fast."""


class Layer(ABC):
    """One layer of n members."""

    parameters: Sequence[StackedParameter] = ()

    @abstractmethod
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        """Return the layer's outputs; keep what `backward` needs.

        `members`: evaluate these alone, and keep nothing; None: all, in training.
        """

    @abstractmethod
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        """Add the gradients by the parameters to `StackedParameter.gradient`.

        Return the gradient by the inputs; anything where `by_inputs` is false.
        """

    def keep(self, members: Tensor | slice) -> None:
        """Go on with these members alone."""
        for parameter in self.parameters:
            parameter.keep(members)


class _Linear(Layer):
    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        first = layers[0]
        inputs, outputs = padded(first.in_features), padded(first.out_features)
        self.weight = StackedParameter([one.weight for one in layers], (outputs, inputs))
        self.bias = _biases(layers, outputs)
        self.parameters = [self.weight, *([] if self.bias is None else [self.bias])]
        self._missing = inputs - first.in_features
        self._in_features = first.in_features

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        if inputs.shape[2] == self._in_features and self._missing:
            inputs = functional.pad(inputs, (0, self._missing))
        chosen = slice(None) if members is None else members
        weight = self.weight.value[chosen].transpose(1, 2)
        if members is None:
            self._inputs = inputs
        if self.bias is None:
            return torch.bmm(inputs, weight)
        return torch.baddbmm(self.bias.value[chosen].unsqueeze(1), inputs, weight)

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        previous = gradient
        if by_inputs:
            previous = torch.bmm(gradient, self.weight.value)
        self._add_products(gradient.transpose(1, 2))
        if self.bias is not None:
            self.bias.gradient.add_(gradient.sum(1))
        return previous

    def _add_products(self, gradient: Tensor) -> None:
        if gradient.shape[2] == 1:
            # MKL rounds a product over one example otherwise in a stack of one.
            self.weight.gradient.addcmul_(gradient, self._inputs)
        else:
            self.weight.gradient.baddbmm_(gradient, self._inputs)


class _Conv2d(Layer):
    """Convolutions of n members as grouped convolutions over `CONVOLVED_TOGETHER` · C channels."""

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        self._template = layers[0]
        shape = layers[0].weight.shape
        self.weight = StackedParameter([one.weight for one in layers], shape)
        self.bias = _biases(layers, shape[0])
        self.parameters = [self.weight, *([] if self.bias is None else [self.bias])]

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        chosen = slice(None) if members is None else members
        weight = self.weight.value[chosen]
        bias = None if self.bias is None else self.bias.value[chosen]
        together = self._together(inputs, len(weight))
        tiles = _tiles(inputs, len(weight), together)
        if members is None:
            self._tiles, self._shape = tiles, inputs.shape
        conv = self._template
        outputs = [
            functional.conv2d(
                tile,
                _filled(weight[own], together).flatten(0, 1),
                None if bias is None else _filled(bias[own], together).flatten(),
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups * together,
            )
            for own, tile in tiles
        ]
        return torch.cat(outputs, 1)[:, : len(weight) * weight.shape[1]]

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        conv, weight = self._template, self.weight.value
        together = self._tiles[0][1].shape[1] * len(weight) // self._shape[1]
        gradients = _tiles(gradient, len(weight), together)
        by_input = []
        for (own, tile), (_, tile_gradient) in zip(self._tiles, gradients, strict=True):
            by_tile, by_weight, by_bias = torch.ops.aten.convolution_backward(
                tile_gradient,
                tile,
                _filled(weight[own], together).flatten(0, 1),
                None if self.bias is None else [together * weight.shape[1]],
                conv.stride,
                conv.padding,
                conv.dilation,
                False,
                [0, 0],
                conv.groups * together,
                [by_inputs, True, self.bias is not None],
            )
            n = own.stop - own.start
            self.weight.gradient[own] += by_weight.view(-1, *weight.shape[1:])[:n]
            if self.bias is not None:
                self.bias.gradient[own] += by_bias.view(-1, weight.shape[1])[:n]
            by_input.append(by_tile)
        return torch.cat(by_input, 1)[:, : self._shape[1]] if by_inputs else gradient

    def _together(self, inputs: Tensor, members: int) -> int:
        """Return how many members are convolved together: by the shape of one's activations."""
        conv = self._template
        largest = max(1.0, conv.out_channels / (conv.in_channels * math.prod(conv.stride)))
        return 1 if inputs.numel() / members * largest > CONVOLVED_ALONE else CONVOLVED_TOGETHER


class _Relu(Layer):
    def __init__(self, layers: Sequence[nn.ReLU]) -> None:
        pass

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        outputs = torch.relu(inputs)
        if members is None:
            self._outputs = outputs
        return outputs

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        return cast(Tensor, torch.ops.aten.threshold_backward(gradient, self._outputs, 0))


class _Tanh(Layer):
    def __init__(self, layers: Sequence[nn.Tanh]) -> None:
        pass

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        outputs = torch.tanh(inputs)
        if members is None:
            self._outputs = outputs
        return outputs

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        return cast(Tensor, torch.ops.aten.tanh_backward(gradient, self._outputs))


class _Gelu(Layer):
    def __init__(self, layers: Sequence[nn.GELU]) -> None:
        self._approximate = layers[0].approximate

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        if members is None:
            self._inputs = inputs
        return functional.gelu(inputs, approximate=self._approximate)

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        previous: Tensor = torch.ops.aten.gelu_backward(
            gradient, self._inputs, approximate=self._approximate
        )
        return previous


class _Flatten(Layer):
    """From (B, n · C, H, W), or the network's own (n, B, …), to (n, B, F)."""

    def __init__(self, layers: Sequence[nn.Flatten]) -> None:
        self._members = len(layers)

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        n = self._members if members is None else members.stop - members.start
        if inputs.dim() == 4:
            batch, channels, *size = inputs.shape
            outputs = inputs.view(batch, n, channels // n, *size).transpose(0, 1).flatten(2)
        else:
            outputs = inputs.flatten(2)
        if members is None:
            self._shape = inputs.shape
        return outputs

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        if len(self._shape) == 4:
            features = math.prod(self._shape[1:]) // self._members
            return gradient[..., :features].transpose(0, 1).reshape(self._shape)
        return gradient.view(self._shape) if by_inputs else gradient

    @override
    def keep(self, members: Tensor | slice) -> None:
        self._members = len(torch.arange(self._members)[members])


class _MaxPool2d(Layer):
    def __init__(self, layers: Sequence[nn.MaxPool2d]) -> None:
        pool = layers[0]
        self._settings = tuple(
            _pair(value) for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        )
        self._ceil = pool.ceil_mode

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        outputs, places = torch.ops.aten.max_pool2d_with_indices(
            inputs, *self._settings, self._ceil
        )
        if members is None:
            self._inputs, self._places = inputs, places
        return cast(Tensor, outputs)

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        return cast(
            Tensor,
            torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, self._inputs, *self._settings, self._ceil, self._places
            ),
        )


class _Identity(Layer):
    def __init__(self, layers: Sequence[nn.Identity]) -> None:
        pass

    @override
    def forward(self, inputs: Tensor, *, members: slice | None = None) -> Tensor:
        return inputs

    @override
    def backward(self, gradient: Tensor, *, by_inputs: bool) -> Tensor:
        return gradient


STACKED: Final[dict[type[nn.Module], Callable[[Any], Layer]]] = {
    nn.Linear: _Linear,
    nn.Conv2d: _Conv2d,
    nn.ReLU: _Relu,
    nn.Tanh: _Tanh,
    nn.GELU: _Gelu,
    nn.Flatten: _Flatten,
    nn.MaxPool2d: _MaxPool2d,
    nn.Identity: _Identity,
}
"""By type of layer, what stacks it. An activation among them leaves zero at zero (padding)."""

VECTOR, IMAGE = "vectors", "images"


def stacked_layer(layers: Sequence[nn.Module]) -> Layer:
    """Return the layers of n members, all alike, as one."""
    return STACKED[type(layers[0])](layers)


def layer_fault(layer: nn.Module, shape: str) -> tuple[str | None, str]:
    """Return what keeps `layer` from this path, or None; and the shape of what it returns.

    `shape`: of what it is given, `VECTOR` or `IMAGE`.
    """
    name = type(layer).__name__
    if type(layer) not in STACKED:
        return f"{name} has no explicit passes", shape
    if any(not parameter.requires_grad for parameter in layer.parameters()):
        return f"{name} has a frozen parameter", shape
    if isinstance(layer, nn.Flatten):
        ordinary = (layer.start_dim, layer.end_dim) == (1, -1)
        return (None if ordinary else "Flatten keeps a dimension"), VECTOR
    if isinstance(layer, nn.Conv2d):
        ordinary = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        if not ordinary or shape is not IMAGE:
            return "Conv2d pads otherwise than by numbers of zeros, or sees no images", shape
    if isinstance(layer, nn.MaxPool2d) and (layer.return_indices or shape is not IMAGE):
        return "MaxPool2d returns indices, or sees no images", shape
    if isinstance(layer, nn.Linear) and shape is not VECTOR:
        return "Linear sees images; put a Flatten before it", shape
    return None, shape


def _biases(layers: Sequence[nn.Module], outputs: int) -> StackedParameter | None:
    """Return the layers' biases, or None where they have none."""
    biases = [one.bias for one in layers if isinstance(one.bias, Tensor)]
    return StackedParameter(biases, (outputs,)) if biases else None


def _tiles(activations: Tensor, members: int, together: int) -> list[tuple[slice, Tensor]]:
    """Return (B, n · C, …) activations as tiles of `together` members, and which these are.

    The last tile is filled up with zeros.
    """
    channels = activations.shape[1] // members
    tiles = []
    for start in range(0, members, together):
        own = slice(start, min(start + together, members))
        tile = activations[:, own.start * channels : own.stop * channels]
        missing = together * channels - tile.shape[1]
        tiles.append((own, functional.pad(tile, (0, 0, 0, 0, 0, missing)).contiguous()))
    return tiles


def _filled(values: Tensor, together: int) -> Tensor:
    """Return (n, …) values filled up with zeros to a whole tile."""
    missing = together - len(values)
    return torch.cat([values, values.new_zeros(missing, *values.shape[1:])]) if missing else values


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
