"""Pieces of clothing, 28 × 28 pixels. Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.

Shirts, T-shirts and pullovers are hard to tell apart for people too: errors have a floor.
"""

from workloads.data.catalogue import FASHION_MNIST
from workloads.images.architectures import ImageCnn, ImageMlp
from workloads.images.idx_images import IdxImages
from workloads.images.resnet import ImageResNet

__all__ = ["FashionMnist", "FashionMnistCnn", "FashionMnistMlp", "FashionMnistResNet"]


class FashionMnist(IdxImages):
    """Ten kinds, equally many of each."""

    data_set = FASHION_MNIST
    chance_error = 1 - 1 / 10
    reflects = True


class FashionMnistMlp(FashionMnist, ImageMlp):
    """Pieces of clothing, 28 × 28, and a perceptron with one hidden layer."""

    name = "fashion_mnist_mlp"
    version = 1


class FashionMnistCnn(FashionMnist, ImageCnn):
    """Pieces of clothing, 28 × 28, and two convolutions."""

    name = "fashion_mnist_cnn"
    version = 1


class FashionMnistResNet(FashionMnist, ImageResNet):
    """Pieces of clothing, 28 × 28, and a residual network of eight layers."""

    name = "fashion_mnist_resnet"
    version = 1
