"""What a workload is: the contract that a user's own class fulfils.

A `Workload` says *what* to train, never how: the data, the model at each size, the loss and the
error of one example. How (optimizer, batch order, evaluation, divergence) is the trainer's. What
trains by a loop of its own is a `workloads.self_trained.SelfTrained`; both are `BaseWorkload`s.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from workloads.axis import Axis, AxisValues

__all__ = [
    "BaseWorkload",
    "Data",
    "DrawWords",
    "MapStyleDataset",
    "ModelCost",
    "SetSizes",
    "Split",
    "Workload",
]

DrawWords = Callable[[int], NDArray[np.uint64]]
"""From k to (n, k) random words of 64 bits, k of each of n examples."""


class MapStyleDataset(Protocol):
    """A `torch.utils.data.Dataset` with a length, whose items are (input, target)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Split:
    """Examples as two tensors that agree in their first dimension."""

    inputs: Tensor
    """(n, …) inputs of n examples."""
    targets: Tensor
    """(n, …) targets of the same examples."""
    groups: Tensor | None = None
    """(n,) int64 number of the document, speaker, … that each example is of, ascending from 0; None
    where each is for itself. Shards of the pool take whole groups, in an order that the seed draws,
    and of the last one its first examples: a larger shard goes on where a smaller one ends."""

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"A split has {len(self.inputs)} inputs and {len(self.targets)} targets; "
                "they must agree in their first dimension."
            )
        if self.groups is not None:
            self._check_groups(self.groups)

    def __len__(self) -> int:
        return len(self.inputs)

    def _check_groups(self, groups: Tensor) -> None:
        steps = torch.diff(groups)
        ascending = groups.dtype is torch.int64 and bool(((steps == 0) | (steps == 1)).all())
        if groups.shape != (len(self.inputs),) or not ascending or (groups[:1] != 0).any():
            raise ValueError(
                "The groups of a split must be (n,) int64 numbers, one an example, which begin at "
                "0 and go up by 1 where the next group begins."
            )

    @classmethod
    def from_dataset(cls, dataset: MapStyleDataset) -> "Split":
        """Return the examples of a map-style dataset, read once and stacked."""
        examples: Sequence[tuple[Any, Any]] = [dataset[i] for i in range(len(dataset))]
        inputs, targets = zip(*examples, strict=True)
        return cls(
            torch.stack([torch.as_tensor(x) for x in inputs]),
            torch.stack([torch.as_tensor(y) for y in targets]),
        )


@dataclass(frozen=True)
class Data:
    """The three sets of a workload. Shards are cut from `train`; the other two never change."""

    train: Split
    """The pool that `dataset_fraction` refers to."""
    validation: Split
    """Fixed; disjoint from the pool. Choices are made on it."""
    test: Split
    """Fixed; disjoint from both. Only reported."""

    def fingerprint(self) -> str:
        """Return 16 hex digits of SHA-256 over the bytes, shapes and types of all tensors."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            tensors = [split.inputs, split.targets]
            if split.groups is not None:
                tensors.append(split.groups)
            for tensor in tensors:
                array = np.ascontiguousarray(tensor.cpu().numpy())
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(array.data)  # without a copy
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class SetSizes:
    """Examples of the three sets, each from 1."""

    pool: int
    """What `dataset_fraction` is a share of; of a stream, as much of it as a study may take."""
    validation: int
    """Fixed; disjoint from the pool."""
    test: int
    """Fixed; disjoint from both."""


@dataclass(frozen=True)
class ModelCost:
    """Cost of one model, whatever it is trained on."""

    parameter_count: int
    """Number of trained parameters."""
    forward_flops_per_example: int
    """Operations of one example's forward pass; a multiply-add counts as two."""
    forward_operations: int = 1
    """Tensor operations that a forward pass starts, whatever the batch."""


class BaseWorkload(ABC):
    """What can be named in a study file, however its cells are trained.

    Made without arguments, once per process.
    """

    name: ClassVar[str]
    """The name in study files."""
    version: ClassVar[int]
    """Part of a cell's identity: raise it whenever the same cell would give another result."""
    model_size: ClassVar[Axis]
    """Type, bounds and meaning of `model_size` (a width, a depth, …)."""
    axes: ClassVar[tuple[Axis, ...]] = ()
    """Axes beyond the common ones; each has a default."""
    chance_error: ClassVar[float]
    """Error of the best guess that ignores the input; the error of a diverged run."""

    @abstractmethod
    def data_fingerprint(self, axes: AxisValues) -> str:
        """Return 16 hex digits that change whenever the data do.

        `axes`: a value for every axis in `self.axes`.
        """


class Workload(BaseWorkload):
    """What to train.

    A subclass sets the class variables and defines the abstract methods; registered by
    `workloads.register` or by an entry point of the group `scaling_study.workloads`, it can be
    named in a study file. Methods must not use or change global state, and must return the same
    thing for the same arguments in every process: `workloads.testing.WorkloadConformance` checks
    that.
    """

    stackable: ClassVar[bool] = True
    """Whether cells may be stacked, to train many at once; False: they train one by one."""

    @abstractmethod
    def data(self, axes: AxisValues) -> Data:
        """Return the pool, the validation set and the test set, on the CPU.

        `axes`: a value for every axis in `self.axes`. The caller keeps what comes back, but may
        call again.
        """

    @abstractmethod
    def model(self, size: Any) -> nn.Module:
        """Return a freshly initialized model of `size` (a value of `model_size`), on the CPU.

        Its parameters are drawn from torch's global CPU generator, which the trainer has forked
        and seeded for this cell.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) losses of n examples, given the model's outputs."""

    @abstractmethod
    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) errors in [0, 1] of n examples, given the model's outputs."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return what else is measured of n examples: (n,) values by name; nothing by default.

        Taken on the validation and the test set at the end of a run, whose row keeps the means as
        `validation_<name>` and `test_<name>`. The names are the same in every call, and none of
        them 'loss' or 'error'.
        """
        return {}

    def training_targets(
        self, targets: Tensor, axes: AxisValues, stream: np.random.Generator
    ) -> Tensor:
        """Return the pool's targets as training sees them; `targets` themselves by default.

        Label noise goes here: all its randomness comes from `stream`, the cell's own. Called for
        the whole pool, so that an example's noise does not depend on the shard. Must not change
        `targets` in place.
        """
        return targets

    def training_inputs(self, inputs: Tensor, axes: AxisValues, draw: DrawWords) -> Tensor:
        """Return inputs as one training step sees them; `inputs` themselves by default.

        Augmentation goes here. Called for every step anew, on the device, with the inputs of many
        steps and cells at once: what an example becomes may depend on nothing but itself and its
        own words of `draw(k)`, where k is the same at every call. Must keep type and shape and not
        change `inputs` in place. Evaluations, also that of the training loss at the end, see
        inputs as they are.
        """
        return inputs

    @override
    def data_fingerprint(self, axes: AxisValues) -> str:
        """Return 16 hex digits that change whenever the data do; by default, of their bytes."""
        return self.data(axes).fingerprint()
