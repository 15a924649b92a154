"""The hash of a workload's source: it shows a change that its author forgot to version."""

import ast
import hashlib
import inspect
import sys
import textwrap

from workloads.base import BaseWorkload, Workload
from workloads.errors import WorkloadError
from workloads.self_trained import SelfTrained

__all__ = ["source_hash"]


def source_hash(workload: BaseWorkload) -> str:
    """Return 16 hex digits that change with the code of `workload`, and not with its wording.

    Hashed are the modules that define the workload's class and its bases below `Workload` or
    `SelfTrained`; of a class in `__main__`, its class statement alone, because the rest of a script
    is not the workload. Comments, formatting and docstrings do not count. Modules that these import
    do not count either: code that should must be in a base class's module.

    Raises `WorkloadError` where no source can be found.
    """
    digest = hashlib.sha256()
    for text in dict.fromkeys(_source(kind) for kind in _classes(workload)):
        digest.update(_essence(text).encode() + b"\0")
    return digest.hexdigest()[:16]


def _classes(workload: BaseWorkload) -> list[type]:
    contract = {*Workload.__mro__, *SelfTrained.__mro__}
    return [kind for kind in type(workload).__mro__ if kind not in contract]


def _source(kind: type) -> str:
    try:
        if kind.__module__ == "__main__":
            return textwrap.dedent(inspect.getsource(kind))
        return inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError) as error:
        raise WorkloadError(
            f"The source of {kind.__module__}.{kind.__qualname__} cannot be found ({error}). "
            "Put the class in a file and import it from there."
        ) from error


def _essence(source: str) -> str:
    """Return the code without comments, formatting and strings that stand as statements.

    Unparsed text rather than a dump of the tree: nodes gain fields with every Python version.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if isinstance(statements, list):
                kept = [statement for statement in statements if not _is_bare_string(statement)]
                if len(kept) < len(statements):
                    setattr(node, block, kept or [ast.Pass()])
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_bare_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
