"""From a study file to cells, packs, Ray Tune trials and Parquet.

The names below are loaded when they are first used: torch and pandas take seconds to import, and
`scaling-study --help` needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.shadowing import refuse_shadowed_packages

if TYPE_CHECKING:
    from orchestrator.planning import Plan, plan_study
    from orchestrator.running.run import RunReport, run_study
    from orchestrator.storage.store import Store
    from orchestrator.study_file.study import Study

__all__ = ["Plan", "RunReport", "Store", "Study", "plan_study", "run_study"]

_HOMES = {
    "Plan": "orchestrator.planning",
    "RunReport": "orchestrator.running.run",
    "Store": "orchestrator.storage.store",
    "Study": "orchestrator.study_file.study",
    "plan_study": "orchestrator.planning",
    "run_study": "orchestrator.running.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    refuse_shadowed_packages()
    return getattr(import_module(_HOMES[name]), name)
