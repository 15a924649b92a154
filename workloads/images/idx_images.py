# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""60,000 + 10,000 images of 28 × 28 in IDX files: what MNIST and Fashion-MNIST share."""

import math

from workloads.images.idx_files import read_idx
from workloads.images.image_classification import Images, OfficialTestSet

__all__ = ["IdxImages"]


class IdxImages(OfficialTestSet):
    """A subclass names the data set.

    A pool of 50,000, as much as Smith & Le 2018 train on; 10,000 validate, 10,000 test.
    """

    image_shape = (1, 28, 28)
    input_features = math.prod(image_shape)
    classes = 10
    pool_examples = 50_000
    validation_examples = 10_000

    def official_sets(self) -> tuple[Images, Images]:
        return self._images("train"), self._images("t10k")

    def _images(self, part: str) -> Images:
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        pixels, labels = (read_idx(self.data_set.read(name), name) for name in names)
        return Images(pixels[:, None], labels)
