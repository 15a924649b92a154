# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""What every image workload shares: its inputs, its labels, and the randomization tests.

Inputs are float32 in [0, 1], black being 0: the scale of `digits`, so that learning rates of one
data set mean about the same on another. They are not standardized. One process holds them once,
4 bytes a pixel: 220 MB for Fashion-MNIST, 740 MB for CIFAR-10, and about twice as much for the
seconds in which they are read.

The randomization tests of Zhang et al. 2017 (arXiv:1611.03530, §2) are two axes: `label_noise`, and
`inputs`, which applies to pool, validation and test set alike, as there. What they draw belongs to
the data set and not to a cell's seed: all cells see the same permutations and the same noise.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split
from workloads.classification import LABEL_NOISE, Classification
from workloads.data.data_set import DataSet
from workloads.errors import WorkloadError
from workloads.images.augmentation import AUGMENTATION, StandardAugmentation
from workloads.streams import permutation, stream

__all__ = ["INPUTS", "Condition", "ImageClassification", "Images", "OfficialTestSet"]


class Condition(StrEnum):
    """What stands in the place of the images."""

    TRUE = "true_pixels"
    SHUFFLED = "shuffled_pixels"
    RANDOM = "random_pixels"
    GAUSSIAN = "gaussian"


INPUTS = Axis(
    name="inputs",
    kind=AxisKind.TEXT,
    meaning=(
        "Images as they are; with the pixels of all in one other order; with each one's pixels in "
        "an order of its own; or Gaussian noise of the pool's mean and variance. Validation and "
        "test images alike (Zhang et al. 2017)."
    ),
    default=Condition.TRUE.value,
    choices=tuple(condition.value for condition in Condition),
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Images of one set, with their classes."""

    pixels: Pixels
    """(n, C, H, W), from 0 for black to the data set's `brightest`."""
    labels: NDArray[np.integer]
    """(n,) classes from 0."""

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: NDArray[np.int64]) -> "Images":
        """Return the images of these rows, in that order."""
        return Images(self.pixels[rows], self.labels[rows])


class ImageClassification(StandardAugmentation, Classification):
    """A data set sets the class variables and defines `images`; an architecture defines `model`."""

    data_set: ClassVar[DataSet]
    """Where its files are. Its name, not the workload's, keys what is drawn for the data."""
    input_features: ClassVar[int]
    """C · H · W."""
    brightest: ClassVar[int] = 255
    """The pixel that becomes 1."""
    flat: ClassVar[bool] = False
    """Whether one input is a vector of C · H · W values, not an image of (C, H, W)."""

    axes: ClassVar[tuple[Axis, ...]] = (LABEL_NOISE, INPUTS, AUGMENTATION)

    @abstractmethod
    def images(self) -> tuple[Images, Images, Images]:
        """Return the pool, the validation set and the test set.

        Raises `MissingDataError` where the data set is not on this machine.
        """

    def data(self, axes: AxisValues) -> Data:
        sets = dict(zip(("train", "validation", "test"), self.images(), strict=True))
        shown = self._shown(
            Condition(str(axes.get(INPUTS.name, INPUTS.default))), sets["train"].pixels
        )
        shape = (self.input_features,) if self.flat else self.image_shape
        return Data(
            **{
                name: Split(
                    torch.from_numpy(shown(images.pixels, name)).view(-1, *shape),
                    torch.from_numpy(images.labels.astype(np.int64)),
                )
                for name, images in sets.items()
            }
        )

    def _shown(
        self, condition: Condition, pool: Pixels
    ) -> Callable[[Pixels, str], NDArray[np.float32]]:
        """Return the function from a set's pixels and its name to its inputs."""
        key = (self.data_set.name, condition.value)
        if condition is Condition.GAUSSIAN:
            noise = _gaussian_tables(pool, self.brightest)
            return lambda pixels, name: _drawn_from(noise, pixels.shape, *key, name)
        if condition is Condition.SHUFFLED:
            order = permutation(pool[0, 0].size, *key)
            return lambda pixels, name: self._scaled(_in_order(pixels, order))
        if condition is Condition.RANDOM:
            return lambda pixels, name: self._scaled(_each_in_its_own_order(pixels, *key, name))
        return lambda pixels, name: self._scaled(pixels)

    def _scaled(self, pixels: Pixels) -> NDArray[np.float32]:
        inputs = pixels.astype(np.float32)
        inputs /= self.brightest
        return inputs


class OfficialTestSet(ImageClassification):
    """A data set that comes in two parts: training images, of which a share validates; and tests.

    Which images validate is drawn once, for all cells. The test set is the official one.
    """

    pool_examples: ClassVar[int]
    """Images of the pool, which studies take shards of."""
    validation_examples: ClassVar[int]
    """Images of the validation set: the rest of the official training set."""

    @abstractmethod
    def official_sets(self) -> tuple[Images, Images]:
        """Return the training and the test set as they are published."""

    def images(self) -> tuple[Images, Images, Images]:
        train, test = self.official_sets()
        if len(train) != self.pool_examples + self.validation_examples:
            raise WorkloadError(
                f"Data set '{self.data_set.name}' has {len(train)} training images instead of "
                f"{self.pool_examples + self.validation_examples}. Get it anew."
            )
        order = permutation(len(train), self.data_set.name, "split")
        pool, validation = np.split(order, [self.pool_examples])
        return train.at(pool), train.at(validation), test


IMAGES_AT_ONCE = 4096
"""Images whose pixels are put into their own order together (26 MB of MNIST's)."""


def _in_order(pixels: Pixels, order: NDArray[np.int64]) -> Pixels:
    """Return images with their pixels in one other order; a pixel's channels stay together."""
    rows = pixels.reshape(*pixels.shape[:2], -1)
    return np.take(rows, order, axis=2).reshape(pixels.shape)


def _each_in_its_own_order(pixels: Pixels, *key: str) -> Pixels:
    """Return images with each one's pixels in an order of its own; channels stay together."""
    draws = stream(*key).bit_generator
    channels, places = pixels.shape[1], pixels[0, 0].size
    shifts = [np.uint64(8 * channel) for channel in range(channels)]
    shuffled = np.empty((len(pixels), channels, places), np.uint8)
    for start in range(0, len(pixels), IMAGES_AT_ONCE):
        rows = pixels[start : start + IMAGES_AT_ONCE].reshape(-1, channels, places)
        # Words are sorted whose high bits are random and whose low ones are the pixel: as many
        # orders as there are, and several times as fast as sorting places and gathering by them.
        # Of 40 or 56 random bits, two of an image agree with probability below 1e-6.
        words = draws.random_raw(len(rows) * places).reshape(len(rows), places)
        words <<= np.uint64(8 * channels)
        for channel, shift in enumerate(shifts):
            words |= rows[:, channel].astype(np.uint64) << shift
        words.sort(axis=1)
        for channel, shift in enumerate(shifts):
            shuffled[start : start + len(rows), channel] = words >> shift & np.uint64(0xFF)
    return shuffled.reshape(pixels.shape)


GAUSSIAN_LEVELS = 2**16
"""Values that Gaussian noise takes: the middles of so many equally likely intervals, up to 4.3
standard deviations. From a table, because a logarithm may differ in its last bit between
machines, and the data set's identity with it."""


def _gaussian_tables(pool: Pixels, brightest: int) -> list[NDArray[np.float32]]:
    """Return for each channel the levels of noise with the mean and variance of the pool's."""
    half = GAUSSIAN_LEVELS // 2
    upper = np.array([NormalDist().inv_cdf(0.5 + (k + 0.5) / GAUSSIAN_LEVELS) for k in range(half)])
    levels = np.concatenate([-upper[::-1], upper])
    tables = []
    for channel in range(pool.shape[1]):
        counts = np.bincount(pool[:, channel].ravel(), minlength=brightest + 1)
        values = np.arange(len(counts))
        number = int(counts.sum())
        mean = int(counts @ values) / number  # of exact sums: the same on every machine
        variance = int(counts @ values**2) / number - mean**2
        tables.append(((mean + variance**0.5 * levels) / brightest).astype(np.float32))
    return tables


def _drawn_from(
    tables: list[NDArray[np.float32]], shape: tuple[int, ...], *key: str
) -> NDArray[np.float32]:
    """Return an array of `shape` (n, C, H, W), each channel drawn from its own table's levels."""
    numbers = int(np.prod(shape))
    words = stream(*key).bit_generator.random_raw(-(-numbers // 4))  # four levels a word
    levels = words.astype("<u8", copy=False).view("<u2")[:numbers].reshape(shape)
    noise = np.empty(shape, np.float32)
    for channel, table in enumerate(tables):
        noise[:, channel] = table[levels[:, channel]]
    return noise
