# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Handwritten digits that scikit-learn ships: small, real, and there without a network.

1,797 images of 8 × 8 pixels from 43 writers. Source: E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, doi:10.24432/C50P49 (CC BY
4.0). The writers are not given, so that the held-out sets share them with the pool: errors are
those for known writers.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import AxisValues
from workloads.base import Data, Split
from workloads.data.catalogue import DIGITS
from workloads.mlp import MlpClassification
from workloads.streams import permutation

__all__ = ["Digits"]

POOL, VALIDATION, TEST = 1024, 386, 387
"""A power of two, so that it halves evenly; the rest in halves. One error of 386 is 0.26 %."""

BRIGHTEST = 16.0
"""Pixels are integers from 0 to 16."""


class Digits(MlpClassification):
    """Ten classes of 8 × 8 images, and a perceptron with one hidden layer."""

    name = "digits"
    version = 2
    input_features = 64
    classes = 10
    chance_error = 0.9
    """1 − 1/10: the classes are nearly equal (174 to 183 of 1,797)."""

    def data(self, axes: AxisValues) -> Data:
        images, labels = _images_and_labels()
        order = torch.from_numpy(permutation(len(images), self.name, "split"))
        inputs = torch.as_tensor(images, dtype=torch.float32)[order] / BRIGHTEST
        targets = torch.as_tensor(labels, dtype=torch.int64)[order]
        sizes = [POOL, VALIDATION, TEST]
        return Data(*map(Split, torch.split(inputs, sizes), torch.split(targets, sizes)))


def _images_and_labels() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what scikit-learn's `load_digits(return_X_y=True)` does, without importing it.

    Its import takes 0.8 s, in the driver and in every worker; reading its file takes 0.02 s.
    """
    table = np.loadtxt(DIGITS.paths()["digits.csv.gz"], delimiter=",")
    return table[:, :-1], table[:, -1]
