import pytest
import torch

import workloads
from tests.workloads.samples import Signs
from workloads.base import Data, Split


def test_the_names_of_the_package_are_those_of_its_modules():
    from workloads.axis import Axis, AxisKind, AxisValues
    from workloads.base import Workload
    from workloads.registry import register
    from workloads.self_trained import SelfTrained

    offered = [getattr(workloads, name) for name in sorted(workloads.__all__)]
    assert offered == [Axis, AxisKind, AxisValues, Data, SelfTrained, Split, Workload, register]
    assert set(workloads.__all__) <= set(dir(workloads))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = workloads.Nothing


def test_a_split_refuses_inputs_and_targets_that_disagree_in_number():
    with pytest.raises(ValueError, match="3 inputs and 2 targets"):
        Split(torch.zeros(3, 1), torch.zeros(2))


def test_a_map_style_dataset_becomes_a_split():
    class Squares(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.tensor([float(index)]), index**2

    split = Split.from_dataset(Squares())
    assert split.inputs.tolist() == [[0.0], [1.0], [2.0], [3.0]]
    assert split.targets.tolist() == [0, 1, 4, 9]


def changed(data: Data, what: str) -> Data:
    test = data.test
    return {
        "value": Data(data.train, data.validation, Split(test.inputs + 1e-6, test.targets)),
        "order": Data(data.train, data.validation, Split(test.inputs.flip(0), test.targets)),
        "type": Data(data.train, data.validation, Split(test.inputs, test.targets.int())),
        "shape": Data(data.train, data.validation, Split(test.inputs[:, None], test.targets)),
        "role": Data(data.train, data.test, data.validation),
    }[what]


@pytest.mark.parametrize("what", ["value", "order", "type", "shape", "role"])
def test_the_fingerprint_changes_with_the_data(what: str):
    data = Signs().data({"shift": 0.0})
    assert changed(data, what).fingerprint() != data.fingerprint()


def test_the_fingerprint_does_not_depend_on_how_the_tensors_lie_in_memory():
    data = Signs().data({"shift": 0.0})
    strided = Split(data.test.inputs.t().contiguous().t(), data.test.targets)
    assert not strided.inputs.is_contiguous()
    assert Data(data.train, data.validation, strided).fingerprint() == data.fingerprint()
