import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from workloads.digits import Digits, _images_and_labels
from workloads.mlp import LABEL_NOISE
from workloads.streams import stream
from workloads.testing import WorkloadConformance


class TestDigits(WorkloadConformance):
    workload = Digits


def noisy(targets: torch.Tensor, share: float, seed: int = 0) -> torch.Tensor:
    return Digits().training_targets(targets, {"label_noise": share}, stream("noise", seed))


def test_the_three_sets_hold_the_whole_of_scikit_learns_digits():
    data = Digits().data({})
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1024, 386, 387]
    inputs = torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert inputs.min() == 0
    assert inputs.max() == 1
    # Counted in scikit-learn's own description of the set: 178 zeros, 182 ones, …
    targets = torch.cat([data.train.targets, data.validation.targets, data.test.targets])
    assert torch.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_images_and_labels_are_those_that_scikit_learn_loads():
    for ours, theirs in zip(_images_and_labels(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_data_are_the_bytes_they_have_always_been():
    # Golden: cell ids of stored results contain this fingerprint. Pixels are sixteenths, exact.
    assert Digits().data_fingerprint({}) == "4d4a61a37297888d"


def test_without_label_noise_all_labels_are_true():
    targets = Digits().data({}).train.targets
    assert torch.equal(noisy(targets, 0.0), targets)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_label_noise_makes_nine_tenths_of_its_share_wrong(share: float):
    targets = torch.zeros(100_000, dtype=torch.int64)
    wrong = (noisy(targets, share) != targets).double().mean().item()
    # A replaced label is the true one once in ten; four binomial standard errors.
    expected = 0.9 * share
    assert wrong == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 1e5) ** 0.5)


def test_replaced_labels_are_uniform_over_the_classes():
    targets = torch.full((100_000,), 3)
    counts = torch.bincount(noisy(targets, 1.0), minlength=10).double().numpy()
    # Chi-squared with 9 degrees of freedom: 33.7 is passed once in 10,000, and the seed is fixed.
    assert np.sum((counts - 1e4) ** 2 / 1e4) < 33.7


def test_more_label_noise_keeps_the_wrong_labels_of_less():
    targets = Digits().data({}).train.targets
    little, much = noisy(targets, 0.2), noisy(targets, 0.6)
    wrong = little != targets
    assert torch.equal(little[wrong], much[wrong])


def test_label_noise_is_the_same_bytes_as_ever():
    # Golden: a cell's training labels must not change with NumPy's methods.
    targets = torch.arange(1000) % 10
    digest = hashlib.sha256(noisy(targets, 0.3).numpy().astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "70697077c2705d93"


def test_label_noise_is_a_share():
    with pytest.raises(ValueError, match=r"number in \[0, 1\]"):
        LABEL_NOISE.cast(1.5)
