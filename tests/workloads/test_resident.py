import math

import pytest
import torch

from tests.workloads.samples import Signs
from workloads.base import Data, Split
from workloads.errors import WorkloadError
from workloads.resident import load_data

AXES = {"shift": 0.0}


def changed(**sets):
    """Return a workload some of whose sets are others."""

    class Changed(Signs):
        def data(self, axes):
            data = super().data(axes)
            whole = {"train": data.train, "validation": data.validation, "test": data.test}
            return Data(*(change(whole[name]) for name, change in (KEPT | sets).items()))

    return Changed()


def kept(split):
    return split


KEPT = {"train": kept, "validation": kept, "test": kept}


@pytest.mark.parametrize(("part", "name"), [("train", "pool"), ("test", "test")])
def test_an_empty_set_is_refused(part, name):
    def emptied(split):
        return Split(split.inputs[:0], split.targets[:0])

    with pytest.raises(WorkloadError, match=f"The {name} set of workload 'signs' is empty"):
        load_data(changed(**{part: emptied}), AXES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_are_no_numbers_are_refused_with_their_place(value):
    def holed(split):
        inputs = split.inputs.clone()
        inputs[[7, 9], 1] = value
        return Split(inputs, split.targets)

    message = r"The pool set .* has inputs .* in 2 of \d+ examples, the first number 7; allowed"
    with pytest.raises(WorkloadError, match=message):
        load_data(changed(train=holed), AXES)


def test_targets_too():
    def holed(split):
        targets = torch.zeros(len(split))
        targets[3] = value
        return Split(split.inputs, targets)

    value = math.nan
    with pytest.raises(WorkloadError, match=r"validation set .* targets .* the first number 3;"):
        load_data(changed(validation=holed), AXES)
