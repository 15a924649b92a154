"""Detects a user's own file that Python would import in place of one of our packages."""

import importlib.util
from pathlib import Path

from orchestrator.errors import LaunchError

__all__ = ["refuse_shadowed_packages"]


def refuse_shadowed_packages() -> None:
    """Raise `LaunchError` if `analysis`, `workloads` or `cluster` is not the one beside us.

    A file `analysis.py` in the working folder or beside the user's script comes first on
    `sys.path`, and would otherwise fail much later with a puzzling import error.
    """
    home = Path(__file__).resolve().parents[1]
    for name in ("analysis", "workloads", "cluster"):
        spec = importlib.util.find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if found != home / name / "__init__.py":
            raise LaunchError(
                f"Python finds the package '{name}' of scaling-study at {found}, not at "
                f"{home / name}. A file or folder of that name stands in its way: rename it, or "
                "start from another folder."
            )
