"""Learning curves of the domains: ε(m) = α m^β + γ of the best of all settings at each shard."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import (
    FitError,
    PowerLawFit,
    backtest,
    compare_exponents,
    curve_regions,
    fit_model_size_law,
    fit_power_law,
)
from studies.tables.markdown import interval, number, table
from studies.tables.stores import NotRunError, Stores, with_result

CHOSEN = ["model_size", "batch_size", "learning_rate"]


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


def exponents(stores: Stores) -> Iterator[str]:
    """Yield the exponents of all domains, with a floor and without."""

    def both_forms(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        floor, none = (curve(cells, domain.y, form) for form in ("M2", "M1"))
        sizes = floor.curve.size
        notes.append(f"- {domain.title}: {floor.status}. {floor_begins(floor)}")
        return (
            f"{len(sizes)} of {math.log10(sizes.max() / sizes.min()):.1f} decades",
            parameter(floor, "beta"),
            parameter(floor, "gamma"),
            f"{misfit(floor):.3f}",
            parameter(none, "beta"),
            f"{misfit(none):.3f}",
            domain.theirs,
        )

    notes: list[str] = []
    heads = ("curve", "shards", "β, floor free", "floor γ", "misfit", "β, no floor", "misfit")
    yield from table((*heads, "Hestness et al."), by_domain(stores, both_forms))
    yield ""
    yield from notes


def of_one_batch_size(stores: Stores) -> Iterator[str]:
    """Yield the exponents again, of one batch size that all shards have where some have two."""

    def alone(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        shards = cells.groupby("batch_size")["train_examples"].nunique()
        everywhere = shards.index[shards == cells["train_examples"].nunique()]
        batch = int(everywhere.max())
        own = cells[cells["batch_size"] == batch]
        fits = [curve(own, domain.y, form) for form in ("M2", "M1")]
        return (f"{batch}", *(parameter(fit, "beta") for fit in fits))

    yield from table(("curve", "batch", "β, floor free", "β, no floor"), by_domain(stores, alone))


def foretold(stores: Stores) -> Iterator[str]:
    """Yield how well the larger shards are foretold from the smaller ones, by form."""

    def misses(domain: Domain, cells: pd.DataFrame) -> tuple[str, ...]:
        held = backtest(cells, y=domain.y, forms=["M1", "M2"], choose=varied(cells)).forms
        return tuple(number(rmse) for rmse in held["rmse"][["M1", "M2"]])

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
    perceptron, cnn = (
        curve(with_result(stores.cells(study)), "best_validation_error", "M2")
        for study in ("baidu_speech", "baidu_speech_cnn")
    )
    compared = compare_exponents(perceptron, cnn)
    low, high = compared.interval95
    yield (
        f"Speech frames, perceptron less CNN: difference of β {number(compared.difference)}, 95 % "
        f"{number(low)} to {number(high)}; {compared.verdict}. {compared.reason}"
    )


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


def varied(cells: pd.DataFrame) -> list[str]:
    """Return the axes that a study of a learning curve chooses the best of."""
    return [name for name in CHOSEN if cells[name].nunique() > 1]


def curve(cells: pd.DataFrame, y: str, form: str) -> PowerLawFit:
    """Return the law of the best of all settings."""
    return fit_power_law(cells, y=y, form=form, choose=varied(cells))


def parameter(fit: PowerLawFit, name: str) -> str:
    """Return a parameter with its interval at 95 %."""
    return interval(fit.params[name], *fit.conf_int().loc[name])


def floor_begins(fit: PowerLawFit) -> str:
    """Return whether there is a floor, and from which size on it is half of the error."""
    regions = curve_regions(fit)
    if not regions.has_floor:
        return regions.reason
    begins = (f"{size:,.0f}" for size in (regions.floor_begins, regions.lower, regions.upper))
    return "{} That is {} ({} to {}).".format(regions.reason, *begins)


def misfit(fit: PowerLawFit) -> float:
    """Return the root mean square of log error less the fitted curve's."""
    used = fit.points[fit.points["used"]]
    left = used["mean_log_error"] - np.log(fit.predict(used[fit.x].to_numpy()))
    return float((left**2).mean() ** 0.5)
