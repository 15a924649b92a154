"""A study: one workload, one or more named grids, seeds, budgets, resources.

`Study.from_file` is for the command line, `Study.from_dict` for Python; both check everything
that can be known without the workload's data, and every error names file, line, value, what is
allowed and what to do. Nothing is enumerated here: `Study.points` multiplies lengths.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from analysis.columns import ADDED_ON_LOADING
from orchestrator.errors import StudyFileError
from orchestrator.storage.schema import SCHEMAS, Table
from orchestrator.study_file.axes import COMMON_AXES, SEED, AxisSpecError, axis_values, seed_values
from orchestrator.study_file.budget import Budget, BudgetError
from orchestrator.study_file.constraint import Constraint, ConstraintError
from orchestrator.study_file.resources import ResourceRule, Resources
from orchestrator.study_file.validation import Spec, checked, place
from orchestrator.study_file.yaml_lines import Document, KeyPath, dump, located, read_text
from workloads.axis import Axis, AxisValue
from workloads.optimizer import Optimizer
from workloads.registry import UnknownWorkloadError, find_workload

if TYPE_CHECKING:
    from workloads.base import BaseWorkload

__all__ = ["Grid", "ResourceRule", "Resources", "Study", "study_axes"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A named product of axes, with optional constraint."""

    name: str
    """Name within the study."""
    axes: Mapping[str, tuple[AxisValue, ...]]
    """Values of every axis, defaults filled in: the common ones, `model_size`, the workload's own
    and, last and so fastest in the product, `seed`."""
    budget: Budget
    """How long every cell trains."""
    where: Constraint | None = None
    """Which points are wanted; None: all."""
    line: int | None = field(default=None, compare=False)
    """Line of the grid's name in the study file; None for a study made in Python."""
    lines: Mapping[str, int | None] = field(default_factory=dict, compare=False)
    """Line of each axis, of `budget` and of `where`; the grid's own where one is not stated."""

    def points(self) -> int:
        """Return the number of points, constraint not applied; nothing is enumerated."""
        return math.prod(map(len, self.axes.values()))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What one study file asks for."""

    name: str
    """Name in the store, and of its default folder."""
    workload: "BaseWorkload"
    """What to train, as an object: workers need not find it by name."""
    grids: tuple[Grid, ...]
    """At least one, in the file's order; grids may share cells."""
    resources: Resources = field(default_factory=Resources)
    """What a trial holds, by parameter count."""
    text: str
    """The study file as given; for a study made in Python, as YAML that gives the same study."""
    source: str = field(compare=False)
    """File name for messages."""

    @classmethod
    def from_file(cls, path: str | Path, workload: "BaseWorkload | None" = None) -> "Study":
        """Return the study that a YAML file holds; see `from_text`."""
        return cls.from_text(read_text(Path(path)), str(path), workload)

    @classmethod
    def from_text(
        cls, text: str, source: str = "<study>", workload: "BaseWorkload | None" = None
    ) -> "Study":
        """Return the study that YAML text holds.

        `source`: file name for messages. `workload`: the object to train, where it is not to be
        found by its name. Raises `StudyFileError`, 'file:line: …', about the first fault, and
        `WorkloadError` when the workload's plug-in is broken.
        """
        return _study(Document.from_text(text, source), text, workload)

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], workload: "BaseWorkload | None" = None
    ) -> "Study":
        """Return the study that plain values describe, as the study file words them.

        `workload`: the object to train; `values` then need not name it. Raises `StudyFileError`.
        """
        if workload is not None:
            values = {"workload": workload.name, **values}
        document = Document.from_values(values, "<study>")
        return _study(document, dump(document.value), workload)

    def points(self) -> int:
        """Return the number of grid points of all grids, constraints not applied."""
        return sum(grid.points() for grid in self.grids)

    def located(self, line: int | None, message: str) -> StudyFileError:
        """Return the error that says `message` of a line of this study's file."""
        return located(self.source, line, message)


def study_axes(workload: "BaseWorkload") -> tuple[Axis, ...]:
    """Return the axes that a grid may name: the common ones, `model_size`, the workload's own.

    `seed` is not among them: a study words it as `seeds`. `model_size` has no default.
    """
    fraction, *rest = (axis for axis in COMMON_AXES if axis.name != "seed")
    size = replace(workload.model_size, name="model_size", default=None)
    return (fraction, size, *rest, *sorted(workload.axes, key=lambda axis: axis.name))


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_ALLOWED = (
    "1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit (it becomes part of "
    "file names)"
)


def _file_name(value: str) -> str:
    if NAME.fullmatch(value) is None:
        raise ValueError(value)
    return value


class _StudySpec(Spec):
    name: Annotated[str, AfterValidator(_file_name)] = Field(description=NAME_ALLOWED)
    workload: str = Field(
        description="the name of a workload in quotes; `scaling-study workloads` lists them"
    )
    seeds: Any = None
    grids: dict[str, Any] = Field(
        min_length=1, description="a mapping from names to grids, at least one"
    )
    resources: Any = None


class _GridSpec(Spec):
    budget: Any = Field(
        description="{steps: n}, {epochs: n}, {examples: n}, {cumulative_learning_rate: c} "
        "or {cumulative_effective_learning_rate: c}"
    )
    where: str = Field(
        default="", description="a condition as text, like batch_size <= train_examples"
    )
    seeds: Any = None


def _study(document: Document, text: str, workload: "BaseWorkload | None") -> Study:
    spec = checked(_StudySpec, document.value, document, ())
    found = _workload(document, spec.workload, workload)
    _refuse_reserved_axes(document, found)
    return Study(
        name=spec.name,
        workload=found,
        grids=tuple(_grid(document, name, found) for name in spec.grids),
        resources=Resources.from_document(document),
        text=text,
        source=document.source,
    )


def _workload(document: Document, name: str, given: "BaseWorkload | None") -> "BaseWorkload":
    if given is not None:
        if given.name != name:
            raise document.error(
                ("workload",),
                f"workload is {name!r}, but the workload given is {given.name!r}; allowed: the "
                "same. Correct the name or give the other workload.",
            )
        return given
    try:
        return find_workload(name)
    except UnknownWorkloadError as error:
        raise document.error(("workload",), str(error)) from error


def _refuse_reserved_axes(document: Document, workload: "BaseWorkload") -> None:
    """Raise `StudyFileError` if an axis has the name of a column or of a word of study files."""
    reserved = {*SCHEMAS[Table.CELLS].names, *ADDED_ON_LOADING, "where", "seeds"}
    taken = sorted(axis.name for axis in workload.axes if axis.name in reserved)
    if taken:
        raise document.error(
            ("workload",),
            f"workload {workload.name!r} declares the axis {taken[0]!r}, which is a column of the "
            "results or a word of study files; allowed: any other name. Rename the axis.",
        )


def _grid(document: Document, name: str, workload: "BaseWorkload") -> Grid:
    path = ("grids", name)
    if NAME.fullmatch(name) is None:
        raise document.error(
            path, f"grid name {name[:60]!r} is not usable; allowed: {NAME_ALLOWED}. Rename it."
        )
    axes = study_axes(workload)
    names = [axis.name for axis in axes]
    stated = document.value["grids"][name]
    rest = stated
    if isinstance(stated, dict):
        rest = {key: value for key, value in stated.items() if key not in names}
    spec = checked(_GridSpec, rest, document, path, names)
    seeds_path = (*path, "seeds") if "seeds" in stated else ("seeds",)
    values = {axis.name: _axis_values(document, path, axis) for axis in axes}
    _require_stated_beta(document, path, values)
    values["seed"] = _seeds(document, path, seeds_path)
    with _located(document, path, "budget"):
        budget = Budget.from_dict(spec.budget)
    where = None
    if "where" in stated:
        with _located(document, path, "where"):
            where = Constraint.parse(spec.where, (*axes, SEED))
    return Grid(
        name=name,
        axes=values,
        budget=budget,
        where=where,
        line=document.line(path),
        lines={
            **{key: document.line((*path, key)) for key in (*names, "budget", "where")},
            "seed": document.line(seeds_path),
        },
    )


def _axis_values(document: Document, path: KeyPath, axis: Axis) -> tuple[AxisValue, ...]:
    stated = document.value["grids"][path[1]]
    if axis.name in stated:
        with _located(document, path, axis.name):
            return axis_values(axis, stated[axis.name])
    if axis.default is None:
        raise document.error(
            path, f"{place(path)}{axis.name} is missing; add {axis.name}: {axis.allowed()}."
        )
    return (axis.cast(axis.default),)


def _require_stated_beta(
    document: Document, path: KeyPath, values: Mapping[str, tuple[AxisValue, ...]]
) -> None:
    """Raise `StudyFileError` for a grid with Adam that leaves out the momentum, which is its β₁.

    Its default of 0 is that of SGD, and hardly what is meant.
    """
    adaptive = [word for word in values["optimizer"] if Optimizer(str(word)).is_adaptive]
    if adaptive and "momentum" not in document.value["grids"][path[1]]:
        raise document.error(
            (*path, "optimizer"),
            f"{place(path)}optimizer {adaptive[0]} takes momentum as its beta 1, and momentum is "
            "missing; allowed: a number in [0, 1). Add momentum: 0.9, the usual one.",
        )


def _seeds(document: Document, path: KeyPath, seeds_path: KeyPath) -> tuple[AxisValue, ...]:
    holder = document.value["grids"][path[1]] if len(seeds_path) > 1 else document.value
    if "seeds" not in holder:
        raise document.error(
            path,
            f"{place(path)}seeds is missing; add seeds, how many or a list of them, to the study "
            "or to this grid.",
        )
    with _located(document, seeds_path[:-1], "seeds"):
        return seed_values(holder["seeds"])


@contextmanager
def _located(document: Document, path: KeyPath, key: str) -> Iterator[None]:
    """Say of an error in the value of `key`, which stands at `path`, where it was written."""
    try:
        yield
    except (AxisSpecError, BudgetError, ConstraintError) as error:
        inner = error.path if isinstance(error, AxisSpecError) else ()
        raise document.error((*path, key, *inner), f"{place(path)}{error}") from error
