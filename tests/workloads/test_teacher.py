from fractions import Fraction

import numpy as np
import pytest
import torch

from workloads import teacher
from workloads.teacher import CLASSES, INPUT_DIMENSION, Teacher
from workloads.testing import WorkloadConformance


class TestTeacher(WorkloadConformance):
    workload = Teacher


def data(dimension: int):
    return Teacher().data({"input_dimension": dimension, "label_noise": 0.0})


def test_the_data_are_the_bytes_they_have_always_been():
    # Golden, and the ground on which the fingerprint may be taken from the recipe: integer
    # arithmetic gives these bytes on every machine. If this fails, raise RECIPE with the digests.
    assert data(16).fingerprint() == "7206eb975d7140ba"
    assert data(3).fingerprint() == "7efdd4b2ca774cf7"


def test_fingerprints_follow_the_dimension_and_not_the_label_noise():
    def fingerprint(dimension: int, noise: float) -> str:
        return Teacher().data_fingerprint({"input_dimension": dimension, "label_noise": noise})

    assert fingerprint(16, 0.0) == fingerprint(16, 0.4) == "dd7c1ac2f282e18a"
    assert fingerprint(16, 0.0) != fingerprint(17, 0.0)


@pytest.mark.parametrize("dimension", [2, 5, 16, 64])
def test_classes_are_equally_frequent_in_every_dimension(dimension: int):
    sets = data(dimension)
    everything = torch.cat([s.targets for s in (sets.train, sets.validation, sets.test)])
    counts = torch.bincount(everything, minlength=CLASSES)
    assert counts.max() - counts.min() <= 1
    # In each set by chance: five binomial standard errors, over 30 counts.
    for split in (sets.train, sets.validation, sets.test):
        shares = torch.bincount(split.targets, minlength=CLASSES).double() / len(split)
        assert (shares - 0.1).abs().max() < 5 * (0.09 / len(split)) ** 0.5
    assert Teacher.chance_error == 0.9


@pytest.mark.parametrize("dimension", [2, 16])
def test_inputs_beyond_the_dimension_are_zero_and_the_others_standardized(dimension: int):
    inputs = data(dimension).train.inputs.double()
    assert not inputs[:, dimension:].any()
    # 65,536 uniform draws: the standard errors are 1/256 and, for a variance of a uniform
    # variable, sqrt(0.8)/256; five of each.
    assert inputs[:, :dimension].mean(0).abs().max() < 5 / 256
    assert (inputs[:, :dimension].var(0) - 1).abs().max() < 5 * 0.8**0.5 / 256


def test_no_sum_of_the_teacher_can_overflow():
    # The largest conceivable output, from the bounds of its terms, in unbounded integers.
    largest_input, largest_weight = 2**teacher.INPUT_BITS, 2**teacher.WEIGHT_BITS
    hidden = (INPUT_DIMENSION.maximum + 1) * largest_input * largest_weight
    assert teacher.HIDDEN * hidden * largest_weight < 2**63


def test_scores_are_exact():
    # The oracle is arithmetic on fractions, for a few points.
    points = teacher._odd_integers((5, 3), teacher.INPUT_BITS, "inputs", 3)
    weights, biases, readout = (
        teacher._odd_integers(shape, teacher.WEIGHT_BITS, purpose, 3).tolist()
        for shape, purpose in (((3, 32), "weights"), ((32,), "biases"), ((32,), "readout"))
    )
    half = Fraction(2 ** (teacher.INPUT_BITS - 1))
    for point, score in zip(points.tolist(), teacher._scores(points, 3).tolist(), strict=True):
        hidden = [
            sum(Fraction(x) * w[j] for x, w in zip(point, weights, strict=True)) + biases[j] * half
            for j in range(32)
        ]
        assert score == sum(max(h, Fraction(0)) * r for h, r in zip(hidden, readout, strict=True))


def test_inputs_are_distinct_points_though_two_dimensions_are_few():
    inputs = data(2).train.inputs[:, :2].numpy()
    assert len(np.unique(inputs, axis=0)) == len(inputs)
