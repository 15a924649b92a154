"""Chart definitions as a browser reads them: their data, their words, and what leaves the frame."""

import json
import re

import pandas as pd


def spec_of(chart):
    """The definition as strict JSON reads it back, its data where they are used."""
    spec = json.loads(json.dumps(chart.to_dict(), allow_nan=False))
    return inlined(spec, spec.pop("datasets"))


def inlined(node, datasets):
    if isinstance(node, list):
        return [inlined(value, datasets) for value in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("data"), dict):
        node = node | {"data": datasets[node["data"]["name"]]}
    return {
        name: value if name == "data" else inlined(value, datasets) for name, value in node.items()
    }


def tables(node):
    """Every table of data in a definition, in order."""
    if isinstance(node, dict):
        if "data" in node:
            yield pd.DataFrame(node["data"])
        for name, value in node.items():
            if name != "data":
                yield from tables(value)
    elif isinstance(node, list):
        for value in node:
            yield from tables(value)


def words(spec):
    return " ".join([spec["title"]["text"], *spec["title"]["subtitle"]])


def panels(node):
    """Every part of a definition whose layers share their scales."""
    if isinstance(node, list):
        for value in node:
            yield from panels(value)
    elif isinstance(node, dict) and "layer" in node:
        yield node
    elif isinstance(node, dict):
        for name, value in node.items():
            if name != "data":
                yield from panels(value)


def misplaced(spec):
    """Return what a reader would not see: (channel, value) outside its domain or missing.

    Marks that are cut at the frame on purpose are left out; their positions must be numbers too.
    """
    return [found for panel in panels(spec) for found in _misplaced(panel, spec)]


def _misplaced(panel, spec):
    domains = {}
    for layer in panel["layer"]:
        for channel, encoding in layer["encoding"].items():
            if isinstance(encoding, dict) and "domain" in (encoding.get("scale") or {}):
                domains.setdefault(channel, encoding["scale"]["domain"])
    for layer in panel["layer"]:
        rows = _filtered(layer, panel, spec)
        for channel in ("x", "x2", "y", "y2"):
            field = layer["encoding"].get(channel, {}).get("field")
            if field is None or rows.empty:
                continue
            if rows[field].isna().any():
                yield channel, field
            low, high = domains.get(channel[0], (None, None))
            if isinstance(low, int | float) and not layer["mark"].get("clip"):
                values = rows[field].astype(float)
                # Numbers and domains are rounded to six digits.
                room = 1e-5 * (abs(low) + abs(high))
                outside = values[(values < low - room) | (values > high + room)]
                yield from ((channel, value) for value in outside)


def _filtered(layer, panel, spec):
    data = next(node["data"] for node in (layer, panel, spec) if "data" in node)
    rows = pd.DataFrame(data)
    for step in layer.get("transform", []):
        told = step["filter"]
        if kind := re.search(r"kind === '(\w+)'", told):
            rows = rows[rows["kind"] == kind[1]]
        else:
            rows = rows[rows.apply(lambda row, told=told: FILTERS[told](row), axis=1)]
    return rows


FILTERS = {
    "isValid(datum.claimed)": lambda row: pd.notna(row["claimed"]),
    "datum.judged": lambda row: row["judged"],
    "!datum.judged": lambda row: not row["judged"],
    "datum.first && datum.row > 0": lambda row: row["first"] and row["row"] > 0,
}
