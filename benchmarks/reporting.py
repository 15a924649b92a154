"""What every benchmark prints: where it ran, one aligned table, and the spread of repetitions."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

__all__ = ["print_table", "settings_lines", "spread"]

PACKAGES = ("torch", "ray", "pandas", "pyarrow")


def settings_lines() -> list[str]:
    """Return the versions and the machine that figures depend on, one line each."""
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"versions: Python {platform.python_version()}, {', '.join(versions)}",
        f"machine: {_cpu_model()}, {usable} cores usable, {platform.system()}",
    ]


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print an aligned table: the first column to the left, the others to the right."""
    lines = [[str(item) for item in line] for line in (headers, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    for first, *others in (lines[0], rule, *lines[1:]):
        cells = [other.rjust(width) for other, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def spread(values: Sequence[float]) -> str:
    """Return 'median [min, max]' to three digits; a single value stands alone."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
