"""Workloads by name: those registered in this process, and those that installed packages offer.

`@register` is for a class in a script or a notebook; the entry-point group
`scaling_study.workloads` is for a package, and needs no import beforehand. Both may name the same
class. Names are listed without importing any plug-in.
"""

import inspect
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from workloads.axis import Axis, AxisError, AxisKind
from workloads.errors import UnknownWorkloadError, WorkloadError

if TYPE_CHECKING:
    from workloads.base import BaseWorkload

__all__ = [
    "COMMON_AXES",
    "ENTRY_POINT_GROUP",
    "UnknownWorkloadError",
    "WorkloadError",
    "contract_faults",
    "find_workload",
    "register",
    "workload_names",
]

ENTRY_POINT_GROUP = "scaling_study.workloads"

COMMON_AXES = (
    "dataset_fraction",
    "model_size",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "optimizer",
    "learning_rate_schedule",
    "batch_size_schedule",
    "seed",
)
"""Axes that every workload has; a workload's own axes must not be called so."""

_WorkloadClass = TypeVar("_WorkloadClass", bound="type[BaseWorkload]")

_registered: "dict[str, type[BaseWorkload]]" = {}
_found: "dict[str, BaseWorkload]" = {}


def register(workload: _WorkloadClass) -> _WorkloadClass:
    """Make a workload class known under its `name` in this process; use as a class decorator.

    A class of the same module and qualified name replaces its predecessor, as when a notebook cell
    runs again. Raises `WorkloadError` when the class breaks the contract, or when another class
    holds the name.
    """
    name = getattr(workload, "name", None)
    if not isinstance(name, str):
        raise WorkloadError(
            f"{_title(workload)} has name {name!r}; set `name` to the text that study files use."
        )
    _require_contract(workload, name)
    _require_one_class(name, _registered.get(name), workload)
    _registered[name] = workload
    _found.pop(name, None)
    return workload


def workload_names() -> list[str]:
    """Return the names of all known workloads, sorted, without importing any plug-in."""
    return sorted({*_registered, *entry_points(group=ENTRY_POINT_GROUP).names})


def find_workload(name: str) -> "BaseWorkload":
    """Return the workload called `name`; the same instance every time in one process.

    Raises `UnknownWorkloadError` when nothing has that name, and `WorkloadError` when its plug-in
    fails to import, breaks the contract, or shares its name with another.
    """
    if name not in _found:
        workload = _find_class(name)
        try:
            _found[name] = workload()
        except Exception as error:
            raise WorkloadError(
                f"{_title(workload)}() raised {_sentence(error)}. A workload is made without "
                "arguments; do heavy work in `data`."
            ) from error
    return _found[name]


def contract_faults(workload: Any, name: str | None = None) -> list[str]:
    """Return what is wrong with a workload class, in sentences; an empty list when nothing is.

    `name`: the name under which it was offered, where there is one.
    """
    # They import torch: only once a workload is really used.
    from workloads.base import Workload
    from workloads.self_trained import SelfTrained

    if not (isinstance(workload, type) and issubclass(workload, Workload | SelfTrained)):
        return [f"{workload!r} is not a subclass of workloads.Workload or workloads.SelfTrained"]
    return list(_class_faults(workload, name))


def _class_faults(workload: "type[BaseWorkload]", name: str | None) -> Iterator[str]:
    if missing := sorted(getattr(workload, "__abstractmethods__", ())):
        yield f"these methods are not defined: {', '.join(missing)}"

    own_name = getattr(workload, "name", None)
    if not isinstance(own_name, str) or not own_name:
        yield f"name is {own_name!r}; allowed: non-empty text"
    elif name is not None and own_name != name:
        yield f"name is {own_name!r}, but it is offered as {name!r}; make them the same"

    version: Any = getattr(workload, "version", None)
    if not _is_number(version, int) or version < 1:
        yield f"version is {version!r}; allowed: an integer from 1"

    chance_error: Any = getattr(workload, "chance_error", None)
    if not _is_number(chance_error, int, float) or not 0 < chance_error <= 1:
        yield f"chance_error is {chance_error!r}; allowed: a number in (0, 1]"

    stackable: Any = getattr(workload, "stackable", False)
    if not isinstance(stackable, bool):
        yield f"stackable is {stackable!r}; allowed: True, False"

    model_size = getattr(workload, "model_size", None)
    if not isinstance(model_size, Axis):
        yield f"model_size is {model_size!r}; allowed: a workloads.Axis"
    elif model_size.kind is AxisKind.TEXT:
        yield "model_size is a TEXT axis; allowed: INTEGER or NUMBER, because laws regress on sizes"

    axes: Any = workload.axes
    if isinstance(axes, tuple) and all(isinstance(axis, Axis) for axis in axes):
        yield from _axes_faults(axes)
    else:
        yield f"axes is {axes!r}; allowed: a tuple of workloads.Axis"


def _axes_faults(axes: tuple[Axis, ...]) -> Iterator[str]:
    names = [axis.name for axis in axes]
    for repeated in sorted({name for name in names if names.count(name) > 1}):
        yield f"axis {repeated!r} is declared twice"
    for axis in axes:
        if axis.name in COMMON_AXES:
            yield (
                f"axis {axis.name!r} has the name of a common axis; "
                f"taken are {', '.join(COMMON_AXES)}"
            )
        if axis.default is None:
            yield f"axis {axis.name!r} has no default; give it one"
            continue
        try:
            axis.cast(axis.default)
        except AxisError as error:
            yield f"axis {axis.name!r} does not admit its own default: {error}"


def _find_class(name: str) -> "type[BaseWorkload]":
    offers = _offers(name)
    if name not in _registered and not offers:
        raise UnknownWorkloadError(
            f"Unknown workload {name!r}. Available: {', '.join(workload_names()) or 'none'}. "
            f"Others load from entry points {ENTRY_POINT_GROUP!r}."
        )
    if len(offers) > 1:
        both = " and ".join(_offer(offer) for offer in offers)
        raise WorkloadError(f"Two plug-ins are named {name!r}: {both}. Uninstall or rename one.")
    for offer in offers:
        loaded = _load(offer)
        _require_one_class(name, _registered.get(name), loaded)
        return loaded
    return _registered[name]


def _offers(name: str) -> list[EntryPoint]:
    """Return the distinct entry points called `name`, in a stable order."""
    offers = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP, name=name)}
    return [offers[value] for value in sorted(offers)]


def _load(offer: EntryPoint) -> "type[BaseWorkload]":
    try:
        workload = offer.load()
    except Exception as error:
        raise WorkloadError(
            f"Workload {offer.name!r} ({_offer(offer)}) failed to load: {_sentence(error)}. "
            "Repair the plug-in or uninstall it."
        ) from error
    _require_contract(workload, offer.name)
    return workload  # type: ignore[no-any-return]  # the contract has just been checked


def _require_contract(workload: Any, name: str) -> None:
    if faults := contract_faults(workload, name):
        raise WorkloadError(
            f"Workload {name!r} ({_title(workload)}) breaks the contract of workloads.Workload: "
            f"{'; '.join(faults)}."
        )


def _require_one_class(
    name: str, first: "type[BaseWorkload] | None", second: "type[BaseWorkload]"
) -> None:
    if first is not None and _title(first) != _title(second):
        raise WorkloadError(
            f"Two workloads are named {name!r}: {_title(first)} and {_title(second)}. Rename one."
        )


def _title(workload: Any) -> str:
    if inspect.isclass(workload):
        return f"{workload.__module__}.{workload.__qualname__}"
    return repr(workload)


def _offer(point: EntryPoint) -> str:
    origin = f" of {point.dist.name}" if point.dist is not None else ""
    return f"entry point {point.value!r}{origin}"


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".: ")


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
