"""The tables of a report, as texts."""

from typing import Any

import numpy as np
import pandas as pd

from analysis import columns
from analysis.batches.batch_law import BatchSizeLaw
from analysis.curves.power_law import PowerLawFit
from analysis.law_analysis import LawAnalysis, law_exponents
from analysis.reports.chart_style import interval_text
from analysis.reports.curve_data import curve_table
from analysis.summary_table import format_number, table_texts

__all__ = ["estimator_table", "optimum_table", "point_table", "rival_table", "texts_of"]


def texts_of(table: pd.DataFrame) -> dict[str, Any]:
    """Return `columns` and `rows` of a table with its index, as texts."""
    names, rows = table_texts(table)
    return {"columns": names, "rows": rows}


def point_table(fit: PowerLawFit, cells: pd.DataFrame) -> dict[str, Any]:
    """Return what a learning curve was fitted to, size by size."""
    points = curve_table(fit, cells)
    bounds = points[["lower", "upper"]].to_numpy()
    table = pd.DataFrame(
        {
            "geometric mean": points["error"],
            "interval": [interval_text(low, high, 4, general=True) for low, high in bounds],
            "kind of interval": points["interval"],
            "error / fit − 1": [_percent(left) for left in points["residual"]],
            "seeds": points["seeds"],
            "in the fit": ["yes" if used else "no" for used in points["used"]],
        }
    )
    if "agreed" in fit.points:
        chosen = fit.points[[f"best_{name}" for name in fit.choose]].itertuples(index=False)
        table["best choice"] = [
            ", ".join(
                f"{name} {_short(value)}" for name, value in zip(fit.choose, row, strict=True)
            )
            for row in chosen
        ]
    return texts_of(table.set_index(pd.Index(points["size"].map(_short), name=fit.x)))


def optimum_table(law: BatchSizeLaw) -> dict[str, Any]:
    """Return what is known of the optimum and of the stability edge of each group."""
    optima = law.optima
    bounds = np.exp2(optima[["log2_lower", "log2_upper"]].to_numpy(dtype=float))
    table = optima[[columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM]].assign(
        label=optima["label"].astype(str),
        B_opt=optima["optimal_batch_size"],
        between=[interval_text(low, high, 4, general=True) for low, high in bounds],
        edge=[_edge(*ends) for ends in np.exp2(law.edges.to_numpy(dtype=float))],
        seeds=optima["seeds"],
        cells=optima["n_cells"],
    )
    return texts_of(table.set_index(columns.LEARNING_RATE))


def estimator_table(law: LawAnalysis) -> dict[str, Any]:
    """Return the exponents of each factor by each estimator, with the verdict of the judged one."""
    rows = [
        {
            "factor": row["factor"],
            "by": row["estimator"],
            "exponent": row["exponent"],
            "standard error": row["standard_error"],
            "95 % interval": interval_text(row["lower95"], row["upper95"]),
            "90 % interval": interval_text(row["lower90"], row["upper90"]),
            "verdict": row["verdict"] or ("not asked" if row["claimed"] == 1 else "no claim"),
        }
        for row in law_exponents(law)
    ]
    return texts_of(pd.DataFrame(rows).set_index("factor"))


def rival_table(law: BatchSizeLaw) -> dict[str, Any]:
    """Return the rival laws, the best first."""
    names = {"log_score": "log score", "error_octaves": "error in octaves"}
    return texts_of(law.rivals.rename(columns=names))


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:+.1f} %"


def _short(value: Any) -> str:
    """Return a level or a size: whole numbers whole, others to four digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() else format_number(value)


def _edge(low: float, high: float) -> str:
    if np.isnan(low):
        return "no chance error"
    return interval_text(low, high, 4, general=True) if low > 0 else "not seen"
