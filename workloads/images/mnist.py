"""Handwritten digits of 28 × 28 pixels, by some 500 writers, who are others in the test set.

Source: LeCun et al. 1998, doi:10.1109/5.726791. The validation set shares its writers with the
pool, so that its errors lie below those of the test set.
"""

from workloads.data.catalogue import MNIST
from workloads.images.architectures import ImageCnn, ImageMlp
from workloads.images.idx_images import IdxImages
from workloads.images.resnet import ImageResNet

__all__ = ["Mnist", "MnistCnn", "MnistMlp", "MnistResNet"]


class Mnist(IdxImages):
    """Ten digits."""

    data_set = MNIST
    chance_error = 1 - 6742 / 60_000
    """Of whoever always says 1, the most frequent of the official training set's digits."""


class MnistMlp(Mnist, ImageMlp):
    """Handwritten digits, 28 × 28, and a perceptron with one hidden layer."""

    name = "mnist_mlp"
    version = 1


class MnistCnn(Mnist, ImageCnn):
    """Handwritten digits, 28 × 28, and two convolutions."""

    name = "mnist_cnn"
    version = 1


class MnistResNet(Mnist, ImageResNet):
    """Handwritten digits, 28 × 28, and a residual network of eight layers."""

    name = "mnist_resnet"
    version = 1
