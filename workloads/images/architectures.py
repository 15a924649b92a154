# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Perceptron and convolutional network by width, for images of any shape.

- `ImageMlp`: cheapest. One hidden layer of 800 on MNIST is the model of Smith & Le 2018, §4.
- `ImageCnn`: some thirty times the time on a CPU, measured on MNIST: 4.7 ms a step of a cell of
  width 8 and batch 32 against 0.14 of a perceptron of width 48.
- `workloads.images.resnet.ImageResNet`: for GPUs.
"""

from torch import nn

from workloads.axis import Axis, AxisKind
from workloads.images.image_classification import ImageClassification
from workloads.mlp import MlpClassification

__all__ = ["ImageCnn", "ImageMlp"]


class ImageMlp(ImageClassification, MlpClassification):
    """A perceptron with one hidden ReLU layer, to which an image is a vector."""

    flat = True


class ImageCnn(ImageClassification):
    """Two 3 × 3 convolutions of w and 2 w channels, each with ReLU and 2 × 2 pooling; one linear.

    An `nn.Sequential` of layers with explicit passes: it takes the fast stacked path up to w = 8 at
    batch 32 on MNIST. On a CPU that pays for images of 8 × 8 (0.5 ms a step of a cell, 1.4 alone);
    at 28 × 28 a step takes as long stacked as alone.
    """

    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Channels w of the first convolution; the second has 2 w.",
        minimum=1,
        maximum=512,
    )

    def model(self, size: int) -> nn.Module:
        channels, height, width = self.image_shape
        return nn.Sequential(
            nn.Conv2d(channels, size, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(size, 2 * size, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * size * (height // 4) * (width // 4), self.classes),
        )
