# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Photographs of ten kinds of thing, 32 × 32 pixels in colour.

Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
"""

import math

import numpy as np

from workloads.data.catalogue import CIFAR10
from workloads.images.architectures import ImageCnn, ImageMlp
from workloads.images.cifar_files import read_cifar_batch
from workloads.images.image_classification import Images, OfficialTestSet
from workloads.images.resnet import ImageResNet

__all__ = ["Cifar10", "Cifar10Cnn", "Cifar10Mlp", "Cifar10ResNet"]


class Cifar10(OfficialTestSet):
    """Ten kinds, equally many of each; 45,000 and 5,000 as in He et al. 2016, §4.2; 10,000 test."""

    data_set = CIFAR10
    image_shape = (3, 32, 32)
    input_features = math.prod(image_shape)
    classes = 10
    chance_error = 1 - 1 / 10
    reflects = True
    pool_examples = 45_000
    validation_examples = 5_000

    def official_sets(self) -> tuple[Images, Images]:
        *batches, test = (self._batch(name) for name in self.data_set.files)
        train = Images(
            np.concatenate([batch.pixels for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
        )
        return train, test

    def _batch(self, name: str) -> Images:
        return Images(*read_cifar_batch(self.data_set.read(name), name, self.image_shape))


class Cifar10Mlp(Cifar10, ImageMlp):
    """Photographs in colour, 32 × 32, and a perceptron with one hidden layer."""

    name = "cifar10_mlp"
    version = 1


class Cifar10Cnn(Cifar10, ImageCnn):
    """Photographs in colour, 32 × 32, and two convolutions."""

    name = "cifar10_cnn"
    version = 1


class Cifar10ResNet(Cifar10, ImageResNet):
    """Photographs in colour, 32 × 32, and a residual network of eight layers."""

    name = "cifar10_resnet"
    version = 1
