"""The data of the cells under way: loaded once per process, resident on their device."""

from collections import OrderedDict

import torch
from torch import Tensor

from workloads.axis import AxisValue, AxisValues
from workloads.base import BaseWorkload, Data, SetSizes, Split, Workload
from workloads.errors import WorkloadError
from workloads.self_trained import SelfTrained

__all__ = ["data_fingerprint", "load_data", "set_sizes"]

DATA_SETS_RESIDENT = 4
"""Data sets kept per process: a pack's cells differ in few data axes, and memory is bounded."""

_Key = tuple[type[Workload], str, torch.device]

_resident: OrderedDict[_Key, Data] = OrderedDict()
_fingerprints: dict[tuple[type[BaseWorkload], tuple[tuple[str, AxisValue], ...]], str] = {}


def load_data(workload: Workload, axes: AxisValues, device: torch.device | str = "cpu") -> Data:
    """Return the data of `workload` at `axes`, resident on `device`; not to be changed.

    `axes`: a value for every axis of the workload. The data are loaded on the first call of a
    process and kept while they are among the last few in use. Where an axis does not change the
    data (label noise does not), all its values get the same object.
    """
    key = (type(workload), data_fingerprint(workload, axes), torch.device(device))
    if key not in _resident:
        _keep(key, _usable(workload, workload.data(axes)))
    _resident.move_to_end(key)
    return _resident[key]


def data_fingerprint(workload: BaseWorkload, axes: AxisValues) -> str:
    """Return `workload.data_fingerprint(axes)`, taken once per process."""
    place = (type(workload), tuple(sorted(axes.items())))
    if place not in _fingerprints:
        if (
            isinstance(workload, Workload)
            and type(workload).data_fingerprint is Workload.data_fingerprint
        ):
            # Which it is of: not to be loaded twice.
            data = _usable(workload, workload.data(axes))
            _fingerprints[place] = data.fingerprint()
            key = (type(workload), _fingerprints[place], torch.device("cpu"))
            if key not in _resident:  # an axis that does not change the data: they have it already
                _keep(key, data)
        else:
            _fingerprints[place] = workload.data_fingerprint(axes)
    return _fingerprints[place]


def set_sizes(workload: BaseWorkload, axes: AxisValues) -> SetSizes:
    """Return the sizes of the three sets of `workload` at `axes`."""
    if isinstance(workload, SelfTrained):
        return workload.sizes(axes)
    assert isinstance(workload, Workload)
    data = load_data(workload, axes)
    return SetSizes(pool=len(data.train), validation=len(data.validation), test=len(data.test))


def _usable(workload: Workload, data: Data) -> Data:
    """Return `data`; raises `WorkloadError` where a set is empty or holds what is no number."""
    for name, split in (("pool", data.train), ("validation", data.validation), ("test", data.test)):
        if not len(split):
            raise WorkloadError(
                f"The {name} set of workload {workload.name!r} is empty; allowed: one example or "
                "more. Mend its `data`."
            )
        for what, tensor in (("inputs", split.inputs), ("targets", split.targets)):
            if not tensor.is_floating_point() or tensor.isfinite().all():
                continue
            wrong = tensor.isfinite().logical_not().flatten(1 if tensor.dim() > 1 else 0)
            rows = wrong.any(1) if wrong.dim() > 1 else wrong
            raise WorkloadError(
                f"The {name} set of workload {workload.name!r} has {what} that are not finite in "
                f"{int(rows.sum())} of {len(split)} examples, the first number "
                f"{int(rows.nonzero()[0])}; allowed: numbers. Mend its `data`."
            )
    return data


def _keep(key: _Key, data: Data) -> None:
    _resident[key] = Data(
        _owned(data.train, key[2]), _owned(data.validation, key[2]), _owned(data.test, key[2])
    )
    while len(_resident) > DATA_SETS_RESIDENT:
        _resident.popitem(last=False)


def _owned(split: Split, device: torch.device) -> Split:
    inputs, targets = (_torch_memory(each, device) for each in (split.inputs, split.targets))
    return Split(inputs, targets, split.groups)  # groups are for drawing shards, on the CPU


def _torch_memory(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy in memory that torch allocated.

    Its allocations are aligned to 64 bytes. NumPy's need not be, and matrix products may round
    differently at another alignment: the same cell would differ from process to process.
    """
    return tensor.to(device, copy=True, memory_format=torch.contiguous_format)
