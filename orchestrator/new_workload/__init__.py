"""A plug-in package to start from: `scaling-study workloads new NAME`.

The files beside this one are its templates. They are a working workload, on data that scikit-learn
ships, so that a user changes what runs instead of filling in what does not.
"""

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from orchestrator.errors import RequestError
from workloads.registry import workload_names

__all__ = ["new_workload"]

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ALLOWED = (
    "lower-case letters, digits and single '_' between them, a letter first, as in 'my_images'"
)
TAKEN = {*keyword.kwlist, "null", "yes", "no", "on", "off", "Axis", "Data", "Split", "Tensor"}
"""Words of Python and of YAML, and the classes that the templates use."""
SPECIAL = {"conftest", "setup"}
"""Modules that pytest and pip run for what they are."""

TEMPLATES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "workload.py.tmpl": "{name}.py",
    "test_workload.py.tmpl": "test_{name}.py",
    "study.yaml.tmpl": "study.yaml",
    "README.md.tmpl": "README.md",
}


def new_workload(name: str, into: Path) -> list[Path]:
    """Write a plug-in package called `name` into a new folder of that name, and return its files.

    Raises `RequestError` for a name that cannot be one, that another workload or an importable
    module has, or whose folder exists.
    """
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if NAME.fullmatch(name) is None:
        raise RequestError(f"The name is {name!r}; allowed: {ALLOWED}. Choose another.")
    if taken := {name, class_name} & TAKEN:
        raise RequestError(
            f"The name is {name!r}, and {taken.pop()} is a word of Python, of YAML or of the "
            "workload's own code. Choose another."
        )
    if name in SPECIAL:
        raise RequestError(
            f"The name is {name!r}, and {name}.py is a file that pip or pytest runs. Choose "
            "another."
        )
    if name in workload_names():
        raise RequestError(f"There is a workload {name!r} already. Choose another name.")
    if find_spec(name) is not None:
        raise RequestError(
            f"A module {name!r} can be imported already, and yours would hide it or be hidden. "
            "Choose another name."
        )
    folder = into / name
    if folder.exists():
        raise RequestError(f"{folder} exists already. Choose another name, or --into elsewhere.")
    words = {
        "name": name,
        "Class": class_name,
        "distribution": name.replace("_", "-"),
    }
    contents = {
        folder / target.format(name=name): Template(
            files(__package__).joinpath(template).read_text("utf-8")
        ).substitute(words)
        for template, target in TEMPLATES.items()
    }
    try:
        folder.mkdir(parents=True)
        for path, text in contents.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be written: {error}. Choose another --into."
        ) from error
    return list(contents)
