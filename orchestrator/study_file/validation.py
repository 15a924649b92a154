"""The border: pydantic checks the shape of a study file; its findings become our own sentences.

Each field's `description` says what it allows, so that a message is made of the place, the value
and the description, and no wording of pydantic reaches the user.
"""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.errors import StudyFileError
from orchestrator.study_file.axes import shown
from orchestrator.study_file.yaml_lines import Document, KeyPath

__all__ = ["Spec", "checked", "place"]


class Spec(BaseModel):
    """One mapping of a study file: exact types, finite numbers, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SpecType = TypeVar("SpecType", bound=Spec)


def checked(
    model: type[SpecType],
    values: Any,
    document: Document,
    path: KeyPath,
    other_keys: Collection[str] = (),
) -> SpecType:
    """Return `values`, which stand at `path` of `document`, as a `model`.

    `other_keys`: keys that may stand there too, for messages; the caller has taken them out.
    Raises `StudyFileError` about the first fault: unknown keys before missing ones, since a typing
    error gives both.
    """
    keys = [*model.model_fields, *other_keys]
    if not isinstance(values, dict):
        raise document.error(
            path, f"{place(path)}{shown(values)}; allowed: a mapping with keys {', '.join(keys)}."
        )
    for key in values:
        if key not in keys:
            raise _unknown_key(key, keys, document, path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
    key = str(finding["loc"][0])
    allowed = model.model_fields[key].description
    if key not in values:
        raise document.error(path, f"{place(path)}{key} is missing; add {key}: {allowed}.")
    raise document.error(
        (*path, key), f"{place(path)}{key} is {shown(values[key])}; allowed: {allowed}. Change it."
    )


def place(path: KeyPath) -> str:
    """Return how a message begins that speaks of `path`, as in "grid 'batch_law': "."""
    match path:
        case ():
            return ""
        case ("grids", name):
            return f"grid {name!r}: "
        case (*outer, int(position)):
            return f"{'.'.join(map(str, outer))}, item {position + 1}: "
    return f"{'.'.join(map(str, path))}: "


def _unknown_key(
    key: str, keys: Collection[str], document: Document, path: KeyPath
) -> StudyFileError:
    near = get_close_matches(key, keys, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return document.error(
        (*path, key),
        f"{place(path)}unknown key {key[:60]!r}. {hint}Allowed: {', '.join(keys)}. "
        "Rename or remove it.",
    )
