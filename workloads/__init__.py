"""What can be trained: models, data and the trainer. Knows nothing of Ray or of Parquet.

The names below are what a workload's author needs. They are imported on first use, because most of
them import torch, which `scaling-study --help` must not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.axis import Axis, AxisKind, AxisValues
    from workloads.base import Data, Split, Workload
    from workloads.registry import register
    from workloads.self_trained import SelfTrained

__all__ = ["Axis", "AxisKind", "AxisValues", "Data", "SelfTrained", "Split", "Workload", "register"]

_HOME = {
    "Axis": "workloads.axis",
    "AxisKind": "workloads.axis",
    "AxisValues": "workloads.axis",
    "Data": "workloads.base",
    "SelfTrained": "workloads.self_trained",
    "Split": "workloads.base",
    "Workload": "workloads.base",
    "register": "workloads.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workloads' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
