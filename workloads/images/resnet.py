# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A residual network by width: the smallest of He et al.'s, normalized by groups.

Source: He et al. 2016, arXiv:1512.03385, §4.2, the family for small images (n = 1: three stages of
one block; 6 n + 2 = 8 layers), whose width is 16. It differs from theirs:

- Group normalization (Wu & He 2018, arXiv:1803.08494), four channels a group, for batch
  normalization: that couples the examples of a batch, so that a cell's noise would depend on its
  batch size by more than the gradient, and its running averages do not stack.
- The width is free, and inputs are in [0, 1], with no mean image taken off.
- torch's own initialization, for theirs (He et al. 2015); the scale of a convolution before a
  normalization does not matter to its output.

Their parameter-free shortcuts (option A: every other pixel, padded with zero channels) are kept.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from workloads.axis import Axis, AxisKind
from workloads.images.image_classification import ImageClassification

__all__ = ["ImageResNet"]

CHANNELS_A_GROUP = 4
"""Of a group normalization; where they do not divide the channels, all are one group."""


class ImageResNet(ImageClassification):
    """Three stages of one residual block, of w, 2 w and 4 w channels; then the mean over pixels.

    On a CPU it trains one cell at a time unless it is tiny; on a GPU, stacked by torch.func.
    """

    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Channels w of the first of three stages; the others have 2 w and 4 w.",
        minimum=1,
        maximum=256,
    )

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            _convolution(self.image_shape[0], size),
            _normalization(size),
            nn.ReLU(),
            _Block(size, size, stride=1),
            _Block(size, 2 * size, stride=2),
            _Block(2 * size, 4 * size, stride=2),
            _MeanOverPixels(),
            nn.Linear(4 * size, self.classes),
        )


class _Block(nn.Module):
    """relu(shortcut(x) + N(C(relu(N(C(x)))))), C being 3 × 3 convolutions, N normalizations."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride)
        self.first_normalization = _normalization(outputs)
        self.second = _convolution(outputs, outputs)
        self.second_normalization = _normalization(outputs)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first_normalization(self.first(inputs)))
        change: Tensor = self.second_normalization(self.second(hidden))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        if self.missing:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.missing))
        return torch.relu(shortcut + change)


class _MeanOverPixels(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _normalization(channels: int) -> nn.GroupNorm:
    groups = channels // CHANNELS_A_GROUP if channels % CHANNELS_A_GROUP == 0 else 1
    return nn.GroupNorm(groups, channels)
