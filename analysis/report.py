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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup

from analysis import columns
from analysis.batch_charts import batch_curves_chart, optimum_chart
from analysis.batch_law import BatchSizeLaw
from analysis.chart_style import interval_text
from analysis.charts import curve_table, exponents_chart, learning_curve_chart
from analysis.errors import FitError
from analysis.law_analysis import LawAnalysis, brief_summary, control_sentence
from analysis.power_law import PowerLawFit
from analysis.store_analysis import GridAnalysis, StoreAnalysis, analyze_store, verdict_table
from analysis.summary_table import format_number

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
        "date": f"{analyzed.analyzed_at:%Y-%m-%d %H:%M} UTC",
        "verdicts": _verdict_groups(verdicts),
        "exponents": page.add(exponents_chart(verdicts)),
        "grids": [_grid(grid, page) for grid in analyzed.grids],
        "specs": page.specs,
    }
    script = _script()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("analysis").joinpath("report.html").read_text("utf-8"))
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
        "controls": [control_sentence(control) for control in law.controls],
    }
    result = law.result
    if result is None:
        return content
    if isinstance(result, PowerLawFit):
        charts: list[alt.TopLevelMixin | None] = [learning_curve_chart(result, law.cells)]
        tables = {"Points": (_points(result, law.cells), True)}
    else:
        charts = [batch_curves_chart(result, law.cells), optimum_chart(result)]
        tables = {f"Optima of {len(result.optima)} groups": (_optima(result), False)}
    summary = brief_summary(result)
    return content | {
        "used": f"{result.n_cells} of the grid's {grid.counts.planned} cells are in this analysis.",
        "charts": [name for chart in charts if (name := page.add(chart))],
        "summary": summary,
        "estimates": _rows(summary.table.reset_index(names="")),
        "tables": tables,
        "cell_ids": result.cell_ids,
    }


def _points(fit: PowerLawFit, cells: pd.DataFrame) -> dict[str, Any]:
    points = curve_table(fit, cells)
    table = pd.DataFrame(
        {
            fit.x: points["size"],
            "mean error": points["error"],
            "interval": [
                interval_text(low, high, 4, general=True)
                for low, high in points[["lower", "upper"]].to_numpy()
            ],
            "kind of interval": points["interval"],
            "seeds": points["seeds"],
            "in the fit": ["yes" if used else "no" for used in points["used"]],
        }
    )
    if "agreed" in fit.points:
        chosen = fit.points[[f"best_{name}" for name in fit.choose]].itertuples(index=False)
        table["best choice"] = [
            ", ".join(map(" ".join, zip(fit.choose, _texts(row), strict=True))) for row in chosen
        ]
    return _rows(table)


def _optima(law: BatchSizeLaw) -> dict[str, Any]:
    optima = law.optima
    bounds = np.exp2(optima[["log2_lower", "log2_upper"]].to_numpy(dtype=float))
    table = optima[[columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM]].assign(
        label=optima["label"].astype(str),
        B_opt=["–" if np.isnan(b) else format_number(b) for b in optima["optimal_batch_size"]],
        between=[interval_text(low, high, 4, general=True) for low, high in bounds],
        seeds=optima["seeds"],
        cells=optima["n_cells"],
    )
    return _rows(table)


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "columns": [str(name) for name in table.columns],
        "rows": [list(_texts(row)) for row in table.itertuples(index=False)],
    }


def _texts(row: Iterable[Any]) -> Iterator[str]:
    for value in row:
        if isinstance(value, float) and value == int(value if np.isfinite(value) else 0.5):
            yield f"{value:.0f}"
        elif isinstance(value, float):
            yield "–" if np.isnan(value) else format_number(value)
        else:
            yield str(value)


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
