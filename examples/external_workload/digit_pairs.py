"""Do two handwritten digits show the same number?

A workload in a package of its own, as a user writes one: a plain PyTorch model, and data that come
from a library. The digits are scikit-learn's (8 × 8 pixels; CC BY 4.0, doi:10.24432/C50P49).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from workloads import Axis, AxisKind, AxisValues, Data, Split, Workload
from workloads.streams import permutation, stream

IMAGES = {"train": 1197, "validation": 300, "test": 300}
"""Each set makes its pairs of images of its own."""
PAIRS = {"train": 32_768, "validation": 4_096, "test": 4_096}

SAME = Axis(
    name="same_share",
    kind=AxisKind.NUMBER,
    meaning="Share of the training pairs that show the same number; held out, it is one half.",
    default=0.5,
    minimum=0.01,
    maximum=0.99,
)


class Siamese(nn.Module):
    """One embedding for both images, and a layer that compares."""

    def __init__(self, width: int) -> None:
        """Make layers of `width` features."""
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.compare = nn.Linear(width, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return (n,) scores of (n, 2, 64) pairs: above 0 means the same."""
        first, second = torch.tanh(self.embed(pairs)).unbind(1)
        return self.compare(first * second).squeeze(1)


class DigitPairs(Workload):
    """The same number or not, from two images of 8 × 8 pixels."""

    name = "digit_pairs"
    version = 1
    chance_error = 0.5
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Features of the embedding.",
        minimum=1,
        maximum=1024,
    )
    axes = (SAME,)

    def data(self, axes: AxisValues) -> Data:
        """Return 32,768 pairs to train on, 4,096 to choose by and 4,096 to report."""
        images, labels = load_digits(return_X_y=True)
        order = permutation(len(images), self.name, "split")
        splits, start = {}, 0
        for name, number in IMAGES.items():
            share = float(axes[SAME.name]) if name == "train" else 0.5
            own = order[start : start + number]
            pairs = _pairs(labels[own], PAIRS[name], share, name)
            start += number
            splits[name] = Split(
                torch.tensor(images[own][pairs] / 8 - 1, dtype=torch.float32),
                torch.tensor(np.equal(*labels[own][pairs].T), dtype=torch.float32),
            )
        return Data(**splits)

    def model(self, size: int) -> nn.Module:
        """Return a freshly initialized model."""
        return Siamese(size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) binary cross-entropies."""
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) ones where the answer is wrong."""
        return ((outputs > 0) != (targets > 0.5)).float()


def _pairs(labels: NDArray[np.float64], number: int, same: float, name: str) -> NDArray[np.int64]:
    """Return (number, 2) places of images, a share `same` of them of one number."""
    draws = stream(DigitPairs.name, "pairs", name)
    first = draws.integers(len(labels), size=number)
    alike = labels[first][:, None] == labels
    wanted = np.where((draws.random(number) < same)[:, None], alike, ~alike)
    wanted[np.arange(number), first] = False  # an image is no partner of itself
    second = (draws.random(wanted.shape) * wanted).argmax(axis=1)
    return np.stack([first, second], axis=1)
