"""The report of a store's analysis: one self-contained HTML page, and the same numbers as JSON.

The page needs no network and runs one script, inline and named by its hash in the page's content
security policy: Vega, and the lines that draw. Charts are drawn by Vega's expression interpreter,
so that the policy need not allow `eval`. Text reaches the page through
an autoescaping template; chart definitions as JSON in which `<`, `>` and `&` are escaped.
"""

import hashlib
import json
import os
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from analysis import columns
from analysis.curves.power_law import PowerLawFit
from analysis.errors import FitError
from analysis.law_analysis import LawAnalysis
from analysis.reports.batch_charts import batch_curves_chart
from analysis.reports.chart_style import interval_text
from analysis.reports.charts import learning_curve_chart
from analysis.reports.collapse_chart import collapse_chart
from analysis.reports.exponent_chart import exponents_chart
from analysis.reports.optimum_chart import optimum_chart
from analysis.reports.report_tables import (
    estimator_table,
    optimum_table,
    point_table,
    rival_table,
    texts_of,
)
from analysis.store_analysis import (
    MEASURED,
    GridAnalysis,
    StoreAnalysis,
    analyze_store,
    exponent_table,
    verdict_table,
)
from analysis.summary_table import Summary

__all__ = ["analyze_store", "report_html", "write_report"]

LONGEST_MESSAGE = 2000
"""Characters of an error message on the page; fits.json holds the whole."""

DRAW = """
for (const figure of document.querySelectorAll("figure[data-spec]")) {
  const place = figure.querySelector("div");
  const spec = JSON.parse(document.getElementById(figure.dataset.spec).textContent);
  const actions = {export: true, source: false, compiled: false, editor: false};
  vegaEmbed(place, spec, {mode: "vega-lite", renderer: "svg", ast: true, actions})
    .catch((error) => { place.textContent = "The chart could not be drawn: " + error.message; });
}
"""


def write_report(analyzed: StoreAnalysis, out_dir: str | PathLike[str]) -> list[Path]:
    """Write report.html and fits.json into `out_dir`, each whole or not at all.

    Returns their paths. Raises `FitError` where `out_dir` cannot be made or written to.
    """
    folder = Path(out_dir)
    document = json.dumps(analyzed.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
    contents = {"report.html": report_html(analyzed), "fits.json": document + "\n"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, text) for name, text in contents.items()]
    except OSError as error:
        raise FitError(
            f"The report cannot be written to {str(folder)!r} ({error}). "
            "Name a folder that can, with --out DIR."
        ) from error


def report_html(analyzed: StoreAnalysis) -> str:
    """Return the report as one page that needs nothing else."""
    page = _Page()
    verdicts = verdict_table(analyzed)
    context = {
        "title": f"Scaling {'study' if len(analyzed.studies) == 1 else 'studies'} "
        + ", ".join(analyzed.studies),
        "analyzed": analyzed,
        "measured": MEASURED,
        "date": f"{analyzed.analyzed_at:%Y-%m-%d %H:%M} UTC",
        "verdicts": _verdict_groups(verdicts),
        "exponents": page.add(exponents_chart(exponent_table(analyzed))),
        "grids": [_grid(grid, page) for grid in analyzed.grids],
        "specs": page.specs,
    }
    script = _script()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("analysis.reports").joinpath("report.html").read_text("utf-8")
    )
    return template.render(
        context,
        script=Markup(script),
        script_digest=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@dataclass
class _Page:
    """The charts of a page, by the id under which their definitions are embedded."""

    specs: dict[str, Markup] = field(default_factory=dict)

    def add(self, chart: alt.TopLevelMixin | None) -> str | None:
        """Embed a chart, and return its id; None where there is no chart."""
        if chart is None:
            return None
        name = f"chart-{len(self.specs) + 1}"
        self.specs[name] = _embedded(chart.to_dict())
        return name


def _embedded(spec: Mapping[str, Any]) -> Markup:
    """Return JSON that no HTML parser mistakes for markup, whatever its strings hold."""
    text = json.dumps(spec, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _script() -> str:
    """Return Vega, Vega-Lite, Vega-Embed and `DRAW` as one script."""
    release = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    script = vl_convert.javascript_bundle(DRAW, vl_version=release)
    if "</script" in script.lower() or "<!--" in script:
        raise RuntimeError(
            f"The Vega bundle of vl-convert-python {version('vl-convert-python')} holds text that "
            "would end its script element. Install another release of it."
        )
    return script


def _verdict_groups(verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one entry a law and grid: what it was asked of, and its `rows`."""
    keys = ["law", "y", "study", "grid", "part"]
    return [
        dict(zip(keys, values, strict=True))
        | {"rows": [_verdict(row) for row in rows.to_dict("records")]}
        for values, rows in verdicts.groupby(keys, sort=False)
    ]


def _verdict(row: dict[Any, Any]) -> dict[Any, Any]:
    known = pd.notna(row["exponent"])
    return row | {
        "exponent": f"{row['exponent']:.3f}" if known else "–",
        "interval": interval_text(row["lower95"], row["upper95"]) if known else "–",
        "n_cells": f"{row['n_cells']:.0f}" if pd.notna(row["n_cells"]) else "–",
        "seeds": f"{row['seeds']:.0f}" if pd.notna(row["seeds"]) else "–",
    }


def _grid(grid: GridAnalysis, page: _Page) -> dict[str, Any]:
    messages = grid.failures.groupby(columns.ERROR_MESSAGE, dropna=False, sort=False)
    return {
        "of": grid,
        "laws": [_law(law, grid, page) for law in grid.laws],
        "failures": [
            {
                "message": _shortened(str(message)),
                "cell_ids": rows[columns.CELL_ID].tolist(),
                "attempts": int(rows["attempts"].sum()),
            }
            for message, rows in messages
        ],
    }


def _law(law: LawAnalysis, grid: GridAnalysis, page: _Page) -> dict[str, Any]:
    content: dict[str, Any] = {
        "of": law,
        "controls": [str(control) for control in law.controls],
    }
    result = law.result
    if result is None:
        return content
    if isinstance(result, PowerLawFit):
        charts: list[alt.TopLevelMixin | None] = [learning_curve_chart(result, law.cells)]
        tables = {"Points": (point_table(result, law.cells), True)}
    else:
        curves = batch_curves_chart(result, law.cells)
        charts = [curves, collapse_chart(result), optimum_chart(result)]
        tables = {
            "Exponents by both estimators, and of the stability edge": (
                estimator_table(law),
                True,
            ),
            "Rival laws, by how well they foretell the optimum of a group left out": (
                rival_table(result),
                True,
            ),
            f"Optima of {len(result.optima)} groups": (optimum_table(result), False),
        }
    return content | {
        "used": f"{result.n_cells} of the grid's {grid.counts.planned} cells are in this analysis.",
        "charts": [name for chart in charts if (name := page.add(chart))],
        "summary": _summary(result.summary()),
        "answers": [
            {
                "question": answer.question,
                "problem": answer.problem,
                "summary": answer.result and _summary(answer.result.summary()),
            }
            for answer in law.answers
        ],
        "tables": tables,
        "cell_ids": result.cell_ids,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "title": summary.title,
        "facts": summary.facts,
        "table": texts_of(summary.table),
        "notes": summary.notes,
    }


def _shortened(message: str) -> str:
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[:LONGEST_MESSAGE]}… ({len(message)} characters; fits.json holds all)"


def _write(path: Path, text: str) -> Path:
    """Write a file under a hidden name, then rename it: readers see the old or the new whole."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        hidden = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            hidden.chmod(0o644)
            hidden.replace(path)
        except BaseException:
            hidden.unlink()
            raise
    return path
