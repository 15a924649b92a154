"""CIFAR-10 is on no machine that has not fetched it: its reader and workloads, on made images."""

import pickle

import numpy as np
import pytest

from tests.workloads.images.python2_pickle import python2_batch
from workloads.data.catalogue import CIFAR10
from workloads.data.data_set import MissingDataError
from workloads.data.folders import VARIABLE
from workloads.errors import WorkloadError
from workloads.images.cifar10 import Cifar10Cnn, Cifar10Mlp, Cifar10ResNet
from workloads.images.cifar_files import read_cifar_batch
from workloads.testing import WorkloadConformance

SHAPE = (3, 32, 32)
BATCH = 60


def made_batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and labels of one file; brightness says the class, noise hides it."""
    draws = np.random.default_rng(number)
    labels = np.arange(BATCH) % 10
    noise = draws.integers(0, 100, (BATCH, *SHAPE))
    return (noise + 15 * labels[:, None, None, None]).astype(np.uint8), labels


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Put six files where torchvision puts them, and the user's data there."""
    root = tmp_path_factory.mktemp("data")
    place = root / "cifar10" / "cifar-10-batches-py"
    place.mkdir(parents=True)
    for number, name in enumerate(CIFAR10.files):
        (place / name).write_bytes(python2_batch(*made_batch(number)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(root))
        yield place


class FewCifar10:
    pool_examples = 4 * BATCH
    validation_examples = BATCH


class FewCifar10Mlp(FewCifar10, Cifar10Mlp):
    pass


class FewCifar10Cnn(FewCifar10, Cifar10Cnn):
    pass


class FewCifar10ResNet(FewCifar10, Cifar10ResNet):
    pass


class TestCifar10Mlp(WorkloadConformance):
    workload = FewCifar10Mlp
    learning_rate = 0.01


class TestCifar10Cnn(WorkloadConformance):
    workload = FewCifar10Cnn
    sizes = (1, 4)


class TestCifar10ResNet(WorkloadConformance):
    workload = FewCifar10ResNet
    sizes = (1, 4)
    steps = 20


def test_a_batch_written_by_python_2_is_read_with_its_channels_first():
    pixels, labels = made_batch(0)
    read_pixels, read_labels = read_cifar_batch(python2_batch(pixels, labels), "batch", SHAPE)
    np.testing.assert_array_equal(read_pixels, pixels)
    np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.parametrize("protocol", range(5))  # by a later one, arrays reduce otherwise
def test_a_batch_written_by_python_3_is_read_too(protocol: int):
    pixels, labels = made_batch(0)
    batch = {b"data": pixels.reshape(BATCH, -1), b"labels": labels.tolist()}
    read_pixels, _ = read_cifar_batch(pickle.dumps(batch, protocol), "batch", SHAPE)
    np.testing.assert_array_equal(read_pixels, pixels)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_file_that_would_run_code_is_refused_unrun(protocol: int):
    content = pickle.dumps({b"data": Bomb(), b"labels": []}, protocol)
    with pytest.raises(WorkloadError, match=r"data_batch_1 is no batch.*asks for \w+\.exec"):
        read_cifar_batch(content, "data_batch_1", SHAPE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}),
        pickle.dumps({b"data": np.zeros((2, 3000), np.uint8), b"labels": [1, 2]}),
        pickle.dumps([1, 2]),
    ],
)
def test_what_is_no_batch_is_refused_by_the_name_of_the_file(content: bytes):
    with pytest.raises(WorkloadError, match="test_batch is no batch of CIFAR-10"):
        read_cifar_batch(content, "test_batch", SHAPE)


def test_five_files_are_pool_and_validation_set_and_the_sixth_is_the_test_set():
    data = FewCifar10Cnn().data({})
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    assert sizes == [4 * BATCH, BATCH, BATCH]
    pixels, labels = made_batch(5)
    np.testing.assert_array_equal((data.test.inputs * 255).round().numpy(), pixels)
    assert data.test.targets.tolist() == labels.tolist()


def test_another_number_of_images_than_published_is_refused():
    with pytest.raises(WorkloadError, match="has 300 training images instead of 50000"):
        Cifar10Mlp().data({})


def test_without_the_files_the_error_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match="scaling-study data --fetch cifar10"):
        Cifar10Mlp().data({})
