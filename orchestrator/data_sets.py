"""What `scaling-study data` shows and does: which data sets are on this machine, and which not."""

from collections.abc import Iterator
from typing import Any

from orchestrator.errors import RequestError
from workloads.data.catalogue import CATALOGUE
from workloads.data.data_set import DataSet

__all__ = ["data_document", "data_lines", "fetch_data"]


def data_document(name: str | None = None) -> list[dict[str, Any]]:
    """Return every data set, or the one of that name, as plain values."""
    chosen = CATALOGUE.values() if name is None else [_named(name)]
    return [
        {
            "name": each.name,
            "title": each.title,
            "found": _found(each),
            "examples": each.examples,
            "licence": each.licence,
            "source": each.source,
            "get": each.commands(),
        }
        for each in chosen
    ]


def data_lines(document: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the data sets as a person reads them."""
    for each in document:
        yield f"{each['name']}: {each['title']}; {each['examples']}"
        yield f"  licence: {each['licence']}; source: {each['source']}"
        if each["found"]:
            yield f"  found: {each['found']}"
        else:
            yield "  not found; get it with"
            yield from (f"    {command}" for command in each["get"])


def fetch_data(name: str) -> None:
    """Download a data set into the user's folder; nothing where it is there already.

    Raises `RequestError` for an unknown name or a set that no library downloads.
    """
    wanted = _named(name)
    if wanted.find() is not None:
        return
    if wanted.fetch is None:
        commands = " or ".join(f"`{command}`" for command in wanted.commands())
        raise RequestError(f"No library downloads '{name}'. Get it with {commands}.")
    wanted.fetch(wanted.folder)


def _named(name: str) -> DataSet:
    if name not in CATALOGUE:
        raise RequestError(f"Unknown data set '{name}'. Available: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def _found(data_set: DataSet) -> str | None:
    found = data_set.find()
    return None if found is None else str(next(iter(found.values())).parent)
