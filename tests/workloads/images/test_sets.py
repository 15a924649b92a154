"""Pool, validation and test set of the published data sets."""

import gzip
from collections import Counter

import numpy as np
import pytest

from tests.workloads.needed_data import needs
from workloads.data.catalogue import FASHION_MNIST, MNIST
from workloads.digits import Digits, DigitsCnn
from workloads.errors import WorkloadError
from workloads.images.fashion_mnist import FashionMnistCnn, FashionMnistMlp
from workloads.images.mnist import MnistCnn, MnistMlp

BOTH = pytest.mark.parametrize(
    "workload",
    [
        pytest.param(MnistMlp(), marks=needs(MNIST), id="mnist"),
        pytest.param(FashionMnistMlp(), marks=needs(FASHION_MNIST), id="fashion_mnist"),
    ],
)


def published(workload, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels read without the reader under test."""

    def content(name: str) -> bytes:
        path = workload.data_set.paths()[name]
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    pixels = np.frombuffer(content(f"{part}-images-idx3-ubyte"), np.uint8, offset=16)
    labels = np.frombuffer(content(f"{part}-labels-idx1-ubyte"), np.uint8, offset=8)
    return pixels.reshape(-1, 784), labels


def examples(pixels, labels) -> Counter[bytes]:
    return Counter(
        bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True)
    )


@BOTH
def test_pool_and_validation_set_are_the_published_training_set_and_no_image_repeats(workload):
    pool, validation, test = workload.images()
    assert [len(pool), len(validation), len(test)] == [50_000, 10_000, 10_000]
    ours = [examples(each.pixels, each.labels) for each in (pool, validation)]
    assert ours[0] + ours[1] == examples(*published(workload, "train"))
    assert not ours[0] & ours[1]
    images = [{row.tobytes() for row in each.pixels} for each in (pool, validation, test)]
    assert [len(each) for each in images] == [50_000, 10_000, 10_000]  # nor does a set repeat one
    assert len(set.union(*images)) == 70_000
    np.testing.assert_array_equal(test.pixels.reshape(-1, 784), published(workload, "t10k")[0])
    np.testing.assert_array_equal(test.labels, published(workload, "t10k")[1])


@BOTH
def test_the_classes_of_the_validation_set_are_as_frequent_as_in_the_whole(workload):
    pool, validation, _ = workload.images()
    counts = np.bincount(validation.labels, minlength=10)
    shares = (np.bincount(pool.labels) + counts) / 60_000
    # Drawn without replacement: variance n p (1 − p) · 50,000/59,999. Four standard errors.
    errors = np.sqrt(10_000 * shares * (1 - shares) * 50_000 / 59_999)
    assert (np.abs(counts - 10_000 * shares) < 4 * errors).all()


@BOTH
def test_inputs_are_pixels_from_0_for_black_to_1(workload):
    inputs = workload.data({}).test.inputs
    np.testing.assert_allclose(inputs.numpy() * 255, published(workload, "t10k")[0], atol=1e-4)
    assert (inputs.min(), inputs.max()) == (0, 1)


# Golden: cell ids of stored results contain these fingerprints.
@pytest.mark.parametrize(
    ("workload", "condition", "fingerprint"),
    [
        (Digits, "true_pixels", "4d4a61a37297888d"),
        (Digits, "shuffled_pixels", "565aef888b349a88"),
        (Digits, "random_pixels", "2db8cdaed50325b5"),
        (Digits, "gaussian", "e987ced0be0e6d85"),
        (DigitsCnn, "true_pixels", "cf5428ecf5d9c693"),
        pytest.param(MnistMlp, "true_pixels", "d2307caa32a9b2c6", marks=needs(MNIST)),
        pytest.param(MnistMlp, "random_pixels", "261760a73930b307", marks=needs(MNIST)),
        pytest.param(MnistMlp, "gaussian", "30e4f29d421e9500", marks=needs(MNIST)),
        pytest.param(MnistCnn, "true_pixels", "7c7a8e814be59ecc", marks=needs(MNIST)),
        pytest.param(
            FashionMnistMlp, "true_pixels", "10d27ea055695ba5", marks=needs(FASHION_MNIST)
        ),
        pytest.param(
            FashionMnistCnn, "true_pixels", "12d0d6b63e04df8f", marks=needs(FASHION_MNIST)
        ),
    ],
)
def test_the_data_are_the_bytes_they_have_always_been(workload, condition: str, fingerprint: str):
    assert workload().data_fingerprint({"inputs": condition}) == fingerprint


def test_part_of_a_data_set_is_refused(monkeypatch):
    from workloads.images.image_classification import Images

    part = Images(np.zeros((7, 1, 28, 28), np.uint8), np.zeros(7, np.uint8))
    monkeypatch.setattr(MnistMlp, "official_sets", lambda self: (part, part))
    with pytest.raises(WorkloadError, match="has 7 training images instead of 60000"):
        MnistMlp().data({})
