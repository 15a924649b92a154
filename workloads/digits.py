# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Handwritten digits that scikit-learn ships: small, real, and there without a network.

1,797 images of 8 × 8 pixels from 43 writers. Source: E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, doi:10.24432/C50P49 (CC BY
4.0). The writers are not given, so that the held-out sets share them with the pool: errors are
those for known writers.
"""

import math

import numpy as np
from numpy.typing import NDArray

from workloads.data.catalogue import DIGITS
from workloads.images.architectures import ImageCnn, ImageMlp
from workloads.images.image_classification import ImageClassification, Images
from workloads.streams import permutation

__all__ = ["Digits", "DigitsCnn", "DigitsImages"]

POOL, VALIDATION, TEST = 1024, 386, 387
"""A power of two, so that it halves evenly; the rest in halves. One error of 386 is 0.26 %."""


class DigitsImages(ImageClassification):
    """Ten classes of 8 × 8 images."""

    data_set = DIGITS
    image_shape = (1, 8, 8)
    input_features = math.prod(image_shape)
    brightest = 16
    padding = 1
    """An eighth of the image, as four pixels are of CIFAR's."""
    classes = 10
    chance_error = 0.9
    """1 − 1/10: the classes are nearly equal (174 to 183 of 1,797)."""

    def images(self) -> tuple[Images, Images, Images]:
        table, labels = _images_and_labels()
        everything = Images(table.astype(np.uint8).reshape(-1, *self.image_shape), labels)
        order = permutation(len(everything), self.data_set.name, "split")
        pool, validation, test = np.split(order, [POOL, POOL + VALIDATION])
        return everything.at(pool), everything.at(validation), everything.at(test)


class Digits(DigitsImages, ImageMlp):
    """Ten classes of 8 × 8 images, and a perceptron with one hidden layer."""

    name = "digits"
    version = 2


class DigitsCnn(DigitsImages, ImageCnn):
    """Ten classes of 8 × 8 images, and two convolutions."""

    name = "digits_cnn"
    version = 1


def _images_and_labels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return what scikit-learn's `load_digits(return_X_y=True)` does, without importing it.

    Its import takes 0.8 s, in the driver and in every worker; reading its file takes 0.02 s.
    """
    table = np.loadtxt(DIGITS.paths()["digits.csv.gz"], delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)
