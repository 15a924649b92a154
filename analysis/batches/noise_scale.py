"""The gradient noise scale B_simple = tr Σ/|G|², from gradients of two batch sizes.

G is the gradient of the whole population and Σ the covariance of one example's gradient. A batch of
B examples has E|G_B|² = |G|² + tr Σ/B, so that squared norms at two batch sizes give both without
bias (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1). In theory B_simple tells where larger
batches stop to pay, the B_crit of `fit_critical_batch_size`; it often grows tenfold within a run,
so that each value belongs to a moment of training.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.errors import FitError
from analysis.fits.jackknife import Jackknife
from analysis.json_values import json_value
from analysis.summary_table import Summary, format_number

__all__ = ["NoiseScale", "gradient_noise_scale"]

Array = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseScale:
    """A gradient noise scale with what it is the ratio of."""

    batch_sizes: tuple[float, float]
    """The two batch sizes measured at."""
    squared_gradients: Array
    """(n,) estimates of |G|², one a replicate; single ones may be negative."""
    noise_traces: Array
    """(n,) estimates of tr Σ."""

    @property
    def squared_gradient(self) -> float:
        """|G|², the mean over replicates."""
        return float(self.squared_gradients.mean())

    @property
    def noise_trace(self) -> float:
        """Tr Σ, the mean over replicates."""
        return float(self.noise_traces.mean())

    @property
    def noise_scale(self) -> float:
        """B_simple, ratio of the two means; infinite where the mean of |G|² is not above 0."""
        if self.squared_gradient <= 0:
            return float("inf")
        return max(self.noise_trace, 0.0) / self.squared_gradient

    @property
    def standard_error(self) -> float:
        """Delete-one jackknife standard error of the ratio; infinite where a fold has none."""
        squared, trace = _without_each(self.squared_gradients), _without_each(self.noise_traces)
        if self.squared_gradient <= 0 or (squared <= 0).any():
            return float("inf")
        estimate = np.array([self.noise_trace / self.squared_gradient])
        return float(Jackknife(estimate, (trace / squared)[:, None]).standard_error[0])

    def conf_int(self, level: float = LEVEL) -> pd.Series:
        """Return `lower` and `upper` bounds of B_simple.

        Of the log of the ratio, by the delete-one jackknife with Student's t at n - 1. Open to
        infinity where |G|² cannot be told from 0, and on both sides where some fold has no ratio.
        Fieller's interval of the ratio itself covers .88 to .92 with 5 to 40 replicates of
        batches of 4 and 64, at a nominal .95: squared norms are skew. This one covers .97 to .99.
        """
        if not 0 < level < 1:
            raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")
        lower, upper = 0.0, float("inf")
        squared, trace = _without_each(self.squared_gradients), _without_each(self.noise_traces)
        if min(squared.min(), trace.min(), self.noise_scale) > 0:
            logs = np.log(trace / squared)[:, None]
            bounds = Jackknife(np.log([self.noise_scale]), logs).interval(level)
            lower, upper = (float(bound) for bound in np.exp(bounds)[0])
        gradient = Jackknife(np.array([self.squared_gradient]), squared[:, None])
        if gradient.interval(level)[0, 0] <= 0:
            upper = float("inf")
        return pd.Series({"lower": lower, "upper": upper}, name="noise_scale")

    def summary(self) -> Summary:
        """Return a printable summary: the ratio with its interval, and what it is the ratio of."""
        bounds = self.conf_int()
        row = {"estimate": self.noise_scale, **bounds.to_dict()}
        small, large = self.batch_sizes
        facts = (
            ("|G|²", format_number(self.squared_gradient)),
            ("tr Σ", format_number(self.noise_trace)),
            ("Batch sizes", f"{small:g} and {large:g}"),
            ("Replicates", str(len(self.noise_traces))),
            ("Standard error", format_number(self.standard_error)),
            ("Interval", f"jackknife of its log, {LEVEL:.0%}"),
        )
        table = pd.DataFrame([row], index=["B_simple"])
        return Summary(title="Gradient noise scale", facts=facts, table=table)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain values for JSON; infinite numbers are "inf"."""
        return {
            "noise_scale": json_value(self.noise_scale),
            "standard_error": json_value(self.standard_error),
            "conf_int": json_value(self.conf_int().to_dict()),
            "level": LEVEL,
            "squared_gradient": self.squared_gradient,
            "noise_trace": self.noise_trace,
            "replicates": len(self.noise_traces),
            "batch_sizes": list(self.batch_sizes),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def gradient_noise_scale(
    table: pd.DataFrame,
    *,
    squared_norm: str = "squared_gradient_norm",
    batch_size: str = columns.BATCH_SIZE,
    replicate: str = columns.SEED,
) -> NoiseScale:
    """Estimate B_simple = tr Σ/|G|² from squared gradient norms at two batch sizes B_1 < B_2.

    |G|² = (B_2 |G_2|² - B_1 |G_1|²)/(B_2 - B_1), tr Σ = (|G_1|² - |G_2|²)/(1/B_1 - 1/B_2). Each is
    averaged over replicates before the ratio is taken, as a mean of ratios would be biased. Rows of
    one replicate and batch size are averaged first.

    Args:
        table: one row a measured gradient, all at the same moment of training.
        squared_norm: column of |G_B|², the squared norm of the mean gradient of a batch.
        batch_size: column of the number of examples in that batch; it has two values.
        replicate: column that tells independent replicates apart: seeds, or draws of batches at one
            checkpoint. Each needs both batch sizes. Steps of one run are not independent.

    Returns:
        A `NoiseScale`.

    Raises:
        FitError: other than two batch sizes, fewer than 2 replicates, a replicate without one of
            the batch sizes, or numbers that are missing or negative.
    """
    names = [squared_norm, batch_size, replicate]
    if missing := [name for name in names if name not in table]:
        raise FitError(f"No column {missing[0]!r}. Columns here: {', '.join(map(str, table))}.")
    for name in (batch_size, replicate):
        if nulls := int(table[name].isna().sum()):
            raise FitError(
                f"{nulls} of {len(table)} rows have no {name}. Drop or complete them first."
            )
    for name in (squared_norm, batch_size):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise FitError(f"Column {name!r} is of type {table[name].dtype}; numbers are needed.")
    norms = table[squared_norm].to_numpy(dtype=float)
    if not (np.isfinite(norms) & (norms >= 0)).all():
        raise FitError(f"{squared_norm} has values that are missing, infinite or negative.")
    wide = table.pivot_table(index=replicate, columns=batch_size, values=squared_norm, sort=True)
    _check(wide, batch_size, replicate)
    small, large = (float(size) for size in wide.columns)
    of_small, of_large = wide.to_numpy(dtype=float).T
    return NoiseScale(
        batch_sizes=(small, large),
        squared_gradients=(large * of_large - small * of_small) / (large - small),
        noise_traces=(of_small - of_large) / (1 / small - 1 / large),
    )


def _check(wide: pd.DataFrame, batch_size: str, replicate: str) -> None:
    sizes = wide.columns.to_numpy(dtype=float)
    if len(sizes) != 2 or sizes.min() <= 0:
        found = ", ".join(f"{size:g}" for size in sizes)
        raise FitError(f"{batch_size} has the values {found}; exactly two above 0 are needed.")
    if wide.isna().to_numpy().any():
        name = wide.index[wide.isna().any(axis=1)][0]
        raise FitError(f"{replicate} {name} has one batch size only; each needs both.")
    if len(wide) < 2:
        raise FitError(f"An interval needs at least 2 values of {replicate}; there is {len(wide)}.")


def _without_each(values: Array) -> Array:
    """Return (n,) means of (n,) values, each without one of them."""
    return np.asarray((values.sum() - values) / (len(values) - 1))
