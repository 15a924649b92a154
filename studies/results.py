"""The tables of docs/results.md, from the stores of the studies in this folder.

    python studies/results.py results > build/results.md

The argument is the folder of the stores, `results` where `scaling-study run` leaves them. A study
that was not run, or not to its end, or that a law cannot be fitted to, is said to be so; the others
are told all the same.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis import (
    FitError,
    OptimumLabel,
    PowerLawFit,
    backtest,
    check_batch_size_law,
    compare_exponents,
    curve_regions,
    fit_model_size_law,
    fit_power_law,
    load_cells,
    load_curves,
    load_grids,
)
from analysis.loading import FAILED

STUDIES = Path(__file__).parent
CHOSEN = ["model_size", "batch_size", "learning_rate"]
FIRST_MILESTONE = 9.0
"""Epoch at which the arms of dont_decay.yaml part."""
FEW = 4
"""Curves of a grid whose best batch sizes are printed one by one."""
FITTED = 0.1
"""Training loss below which a cell is said to have fitted its labels."""


@dataclass(frozen=True)
class Domain:
    """One learning curve beside what Hestness et al. 2017 (arXiv:1712.00409) found of its kind."""

    study: str
    title: str
    y: str
    theirs: str


DOMAINS = (
    Domain("baidu_language", "characters, LSTM: nats", "best_validation_loss", "−0.094 (nats)"),
    Domain(
        "baidu_translation", "translation, LSTM: token error", "best_validation_error", "−0.128"
    ),
    Domain(
        "baidu_pronunciation",
        "pronunciation, LSTM: token error",
        "best_validation_error",
        "none; their translation −0.128",
    ),
    Domain(
        "baidu_images",
        "images, perceptron: top-1 error",
        "best_validation_error",
        "−0.309 (ImageNet)",
    ),
    Domain("baidu_images", "images, perceptron: test error", "test_error", "−0.309 (ImageNet)"),
    Domain("baidu_speech", "speech frames, perceptron: error", "best_validation_error", "−0.299"),
    Domain("baidu_speech_cnn", "speech frames, CNN: error", "best_validation_error", "−0.299"),
    Domain("baidu_speech_ctc", "speech, CTC: phone error", "best_validation_error", "−0.299"),
)


HELD_FIXED = {
    "cross": "cumulative learning rate",
    "flow": "cumulative effective learning rate",
    "steps_500": "steps",
    "steps_2000": "steps",
    "steps_8000": "steps",
}
"""What the cells of each grid of smith_le.yaml have alike."""


class NotRunError(Exception):
    """A study whose store is missing or lacks cells; the message says which."""


class Stores:
    """The stores of the studies, each loaded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}

    def cells(self, study: str, grid: str | None = None) -> pd.DataFrame:
        """Return the cells of a study, or of one grid of it; raises `NotRunError`."""
        if study not in self._loaded:
            self._loaded[study] = self._load(study)
        cells, members = self._loaded[study]
        if grid is not None:
            members = members[members["grid"] == grid]
        # Not what an earlier form of the study file has left in the store.
        return cells[cells["cell_id"].isin(members["cell_id"])]

    def _load(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return all cells of the study's store, and which belong to which grid."""
        store = self.folder / yaml.safe_load((STUDIES / f"{study}.yaml").read_text())["name"]
        try:
            cells, members = load_cells(store, failed=True), load_grids(store)
        except FitError as error:
            raise NotRunError(
                f"{store} gives no results of studies/{study}.yaml: {error}"
            ) from error
        if missing := len(set(members["cell_id"]) - set(cells["cell_id"])):
            raise NotRunError(
                f"{missing} of {len(members)} cells of studies/{study}.yaml lack a row."
            )
        return cells, members


def main(folder: Path) -> None:
    """Print all tables."""
    stores = Stores(folder)
    for title, tell in (
        ("What was run", machine),
        ("Learning curves", learning_curves),
        ("Larger shards foretold from smaller ones", foretold),
        ("Errors by shard", errors_by_shard),
        ("Best model sizes", model_sizes),
        ("One exponent for two architectures", architectures),
        ("The best batch size", smith_le),
        ("Randomized labels and inputs", memorize),
        ("Decaying the rate, or increasing the batch", dont_decay),
    ):
        print(f"### {title}\n")
        try:
            print("\n".join(tell(stores)))
        except (NotRunError, FitError) as error:
            print(f"Not told: {error}")
        print()


def machine(stores: Stores) -> Iterator[str]:
    """Yield what each study cost, and on what it ran."""
    rows = []
    domains = dict.fromkeys(domain.study for domain in DOMAINS)
    for study in (*domains, "smith_le", "memorize", "dont_decay"):
        try:
            cells = stores.cells(study)
        except NotRunError as error:
            rows.append((study, f"not told: {error}"))
            continue
        failed = cells["status"] == FAILED
        done = cells[~failed]
        rows.append(
            (
                study,
                f"{len(cells):,}",
                f"{(done['status'] == 'diverged').sum():,}",
                f"{failed.sum():,}",
                f"{done['wall_seconds'].sum() / 60:,.0f}",
                f"{done['training_flops'].sum():.2g}",
                ", ".join(
                    f"{name} {'/'.join(sorted(done[column].astype(str).unique()))}"
                    for name, column in (
                        ("torch", "torch_version"),
                        ("ray", "ray_version"),
                        ("scaling-study", "code_version"),
                    )
                ),
            )
        )
    heads = ("study", "cells", "diverged", "failed", "minutes of one core", "training FLOPs")
    yield from table((*heads, "versions"), rows)


def learning_curves(stores: Stores) -> Iterator[str]:
    """Yield the exponents of all domains, with a floor and without."""

    def exponents(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        floor, none = (curve(cells, domain.y, form) for form in ("M2", "M1"))
        sizes = floor.curve.size
        notes.append(f"- {domain.title}: {floor.status}. {curve_regions(floor).reason}")
        return (
            f"{len(sizes)} of {math.log10(sizes.max() / sizes.min()):.1f} decades",
            interval(floor, "beta"),
            interval(floor, "gamma"),
            f"{misfit(floor):.3f}",
            interval(none, "beta"),
            f"{misfit(none):.3f}",
            domain.theirs,
        )

    notes: list[str] = []
    heads = ("curve", "shards", "β, floor free", "floor γ", "misfit", "β, no floor", "misfit")
    yield from table((*heads, "Hestness et al."), by_domain(stores, exponents))
    yield ""
    yield from notes


def foretold(stores: Stores) -> Iterator[str]:
    """Yield how well the larger shards are foretold from the smaller ones, by form."""

    def misses(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        held = backtest(cells, y=domain.y, forms=["M1", "M2"], choose=varied(cells)).forms
        return tuple(f"{held.loc[form, 'rmse']:.3f}" for form in ("M1", "M2"))

    heads = ("curve", "RMSE of log error, no floor", "floor free")
    yield from table(heads, by_domain(stores, misses))


def errors_by_shard(stores: Stores) -> Iterator[str]:
    """Yield each curve's points, and the settings that were best."""
    for domain, cells in told(stores):
        yield f"{domain.title}:"
        yield ""
        try:
            points = curve(cells, domain.y, "M2").points
        except FitError as error:
            yield from (f"not told: {error}", "")
            continue
        chosen = [name for name in CHOSEN if f"best_{name}" in points]
        heads = ("examples", "mean", *(f"best {name}" for name in chosen))
        rows = [
            (
                f"{int(row['train_examples']):,}",
                f"{row['mean_error']:.3f}",
                *(f"{row[f'best_{name}']:g}" for name in chosen),
            )
            for _, row in points.iterrows()
        ]
        yield from table(heads, rows)
        yield ""


def model_sizes(stores: Stores) -> Iterator[str]:
    """Yield the exponent of the best number of parameters, where the grid identifies it."""

    def size_law(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        law = fit_model_size_law(
            cells, y=domain.y, choose=[n for n in varied(cells) if n != "model_size"]
        )
        low, high = law.bounds
        finite = math.isfinite(low) and math.isfinite(high)
        said = f"{number(low)} to {number(high)}" if finite else "none"
        value = "not identified" if math.isnan(law.beta) else number(law.beta)
        return value, said, str(law.status)

    yield from table(("curve", "β_p", "bounds, 95 %", "why"), by_domain(stores, size_law))


def architectures(stores: Stores) -> Iterator[str]:
    """Yield whether perceptron and CNN share their exponent on the same speech."""
    fits = [
        curve(with_result(stores.cells(study)), "best_validation_error", "M2")
        for study in ("baidu_speech", "baidu_speech_cnn")
    ]
    compared = compare_exponents(*fits)
    low, high = compared.interval95
    yield (
        f"Speech frames, perceptron less CNN: difference of β {number(compared.difference)}, 95 % "
        f"{number(low)} to {number(high)}; {compared.verdict}. {compared.reason}"
    )


def smith_le(stores: Stores) -> Iterator[str]:
    """Yield the exponents of the best batch size, by both estimators, slice by slice.

    The verdict is that of the regression of optima, as in every report.
    """
    rows, notes = [], []
    for grid, held in HELD_FIXED.items():
        cells = stores.cells("smith_le", grid)
        law = check_batch_size_law(with_result(cells), held_fixed=held)
        for factor, verdict in law.verdicts.items():
            if factor in cells and cells[factor].nunique() > 1:
                by = (law.peaks.loc[factor], law.collapse.exponents.loc[factor])
                both = (
                    f"{number(row['exponent'])} ({number(row['lower95'])} to "
                    f"{number(row['upper95'])})"
                    for row in by
                )
                rows.append((grid, factor, *both, str(verdict), law.reasons[factor]))
        groups = ", ".join(f"{n} {label}" for label, n in law.regime["groups"].items() if n)
        notes.append(
            f"- {grid}: optima of {len(law.optima)} curves: {groups}. {' '.join(law.flags)}"
        )
        if len(law.optima) <= FEW:
            notes.append(f"  {'; '.join(map(optimum, law.optima.to_dict('records')))}.")
    yield from table(("grid", "factor", "by peaks (95 %)", "by collapse", "verdict", "why"), rows)
    yield ""
    yield from notes


def optimum(row: Mapping[str, Any]) -> str:
    """Return where the best batch size of one curve lies: a number, or what it is known to be."""
    where = f"N {row['train_examples']:,.0f}, m {row['momentum']:g}"
    if row["label"] == OptimumLabel.INTERIOR:
        return f"{where}: {row['optimal_batch_size']:.0f}"
    low, high = 2 ** row["log2_lower"], 2 ** row["log2_upper"]
    known = f"{low:.0f} to {high:.0f}" if math.isfinite(high) else f"{low:.0f} or more"
    return f"{where}: {known} ({row['label']})"


def memorize(stores: Stores) -> Iterator[str]:
    """Yield errors and time to fit of every condition."""
    cells = stores.cells("memorize")
    curves = load_curves(stores.folder / "memorize", cells)
    fitted = curves[curves["train_loss"] < FITTED].groupby("cell_id")["step"].min()
    cells = cells.assign(fitted=cells["cell_id"].map(fitted).fillna(math.inf))  # or never
    rows = [
        (
            condition,
            f"{noise:g}",
            f"{own['train_error'].mean():.3f}",
            f"{own['test_error'].mean():.3f} ± {own['test_error'].sem():.3f}",
            f"{own['fitted'].median():,.0f}",
        )
        for (condition, noise), own in cells.groupby(["inputs", "label_noise"], sort=False)
    ]
    heads = ("inputs", "random labels", "training error", "test error", "steps to fit")
    yield from table(heads, rows)


def dont_decay(stores: Stores) -> Iterator[str]:
    """Yield updates and final training loss of the three arms, paired by seed."""
    arms = {
        grid: stores.cells("dont_decay", grid).set_index("seed").sort_index()
        for grid in ("decay", "hybrid", "increase")
    }
    first = arms["decay"]["train_loss"]
    rows = []
    for grid, cells in arms.items():
        less = cells["train_loss"] - first
        said = "" if grid == "decay" else f"{less.mean():+.4f} ± {less.sem():.4f}"
        rows.append(
            (grid, f"{cells['steps'].iloc[0]:,}", f"{cells['train_loss'].mean():.4f}", said)
        )
    yield from table(("arm", "updates", "final training loss", "less that of decay"), rows)
    less = looks_by_seed(stores, arms["increase"]) - looks_by_seed(stores, arms["decay"])
    less = less.dropna(axis=1)  # at the end, a dropped partial batch sets the arms' looks apart
    yield ""
    for epoch in less.columns[less.columns > FIRST_MILESTONE]:
        yield (
            f"- training loss of the look at epoch {epoch}: increase less decay "
            f"{less[epoch].mean():+.4f} ± {less[epoch].sem():.4f}"
        )


def looks_by_seed(stores: Stores, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the training losses of looks: a row a seed, a column an epoch (alike to a batch)."""
    curves = load_curves(stores.folder / "dont_decay", cells)
    seeds = cells.reset_index().set_index("cell_id")["seed"]
    curves = curves.assign(seed=curves["cell_id"].map(seeds), epoch=curves["epoch"].round(1))
    return curves.pivot(index="seed", columns="epoch", values="train_loss")


def told(stores: Stores) -> Iterator[tuple[Domain, pd.DataFrame]]:
    """Yield the domains that were run, with the cells that have a result."""
    for domain in DOMAINS:
        try:
            cells = stores.cells(domain.study)
        except NotRunError:
            continue
        yield domain, with_result(cells)


def by_domain(
    stores: Stores, tell: Callable[[Domain, pd.DataFrame], tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each domain that was run: its title, and what `tell` says, or why nothing."""
    for domain, cells in told(stores):
        try:
            said = tell(domain, cells)
        except FitError as error:
            said = (f"not told: {error}",)
        yield domain.title, *said


def with_result(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that did not fail."""
    return cells[cells["status"] != FAILED]


def varied(cells: pd.DataFrame) -> list[str]:
    """Return the axes that a study of a learning curve chooses the best of."""
    return [name for name in CHOSEN if cells[name].nunique() > 1]


def curve(cells: pd.DataFrame, y: str, form: str) -> PowerLawFit:
    """Return the law of the best of all settings."""
    return fit_power_law(cells, y=y, form=form, choose=varied(cells))


def misfit(fit: PowerLawFit) -> float:
    """Return the root mean square of log error less the fitted curve's."""
    used = fit.points[fit.points["used"]]
    left = used["mean_log_error"] - np.log(fit.predict(used[fit.x].to_numpy()))
    return float((left**2).mean() ** 0.5)


def interval(fit: PowerLawFit, name: str) -> str:
    """Return a parameter with its interval at 95 %."""
    low, high = fit.conf_int().loc[name]
    return f"{number(fit.params[name])} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Return three decimals, with a minus sign proper."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    return f"{value:.3f}".replace("-", "−")


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield a Markdown table; rows that are short are filled up."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        filled = [*map(str, row), *[""] * (len(heads) - len(row))]
        yield f"| {' | '.join(filled)} |"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python studies/results.py FOLDER_OF_STORES")
    main(Path(sys.argv[1]))
