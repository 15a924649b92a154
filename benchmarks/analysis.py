"""What fits and their draws cost: ours in one batch, against loops of scipy and PyPI's packages.

    python -m benchmarks.analysis                   # about a minute
    python -m benchmarks.analysis --simple-scaling-laws PYTHON --chinchilla PYTHON

A peer is measured by the interpreter that has it installed, which need not be this one:
simple-scaling-laws asks for Python >= 3.12. Without its option a peer's row says so.
- learning curve: all seeds, five folds of the jackknife and 1,000 draws of seeds with replacement,
  against a loop of `scipy.optimize.curve_fit` over the same refits, started at the estimate; once
  with the floor γ ≥ 0 as we have it, and once without bounds, a smaller task. "With interval" adds
  the score interval of `fit_power_law`, which inverts a test and which the loop has no part of;
- joint law: E + A/N^α + B/D^β on 220 runs, with 200 refits to rows drawn with replacement, against
  the same number of draws of simple-scaling-laws (a wild bootstrap), and against one fit of
  chinchilla without any draws;
- batch-size law: the whole check of 5,120 runs with its jackknife, by optima and by collapse,
  against a script of loops that finds both (`law_script`), without verdicts, corrections or rivals.
"""

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from analysis import check_batch_size_law, find_form, fit_power_law, fit_scaling_law
from benchmarks.law_script import scripted_law
from benchmarks.reporting import print_table, settings_lines, spread

SIZES = np.round(np.geomspace(50, 50 * 10**2.4, 9))
SEEDS = 5
CURVE_DRAWS = 1000
JOINT_DRAWS = 200
GRID_STARTS = 5**5
"""Starts of the grid in chinchilla's README."""
TIMED_STARTS = 3**5
"""Starts that are run; its time grows in proportion, and is given for `GRID_STARTS`."""
PEER_SCRIPT = Path(__file__).with_name("analysis_peers.py")
PEER_TIMEOUT_SECONDS = 900

Row = list[str]


def learning_curve_table() -> pd.DataFrame:
    """Return cells of nine sizes and five seeds at 4 % noise, with a floor."""
    log_truth = np.log(0.68 * (SIZES / SIZES[0]) ** -0.3 + 0.02)
    noise = 0.04 * np.random.default_rng(0).normal(size=(len(SIZES), SEEDS))
    return pd.DataFrame(
        {
            "train_examples": np.repeat(SIZES, SEEDS),
            "seed": np.tile(np.arange(SEEDS), len(SIZES)),
            "best_validation_error": np.exp(log_truth[:, None] + noise).ravel(),
        }
    )


def joint_table() -> pd.DataFrame:
    """Return 220 runs of a known law at 1 % noise."""
    grid = np.array(list(product(np.geomspace(5e7, 2e9, 11), np.geomspace(1e9, 4e11, 20))))
    log_loss = find_form("Chinchilla").log_value(np.array([0.6, 6.0, 6.6, 0.34, 0.28]), grid)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(grid))
    return pd.DataFrame({"N": grid[:, 0], "D": grid[:, 1], "loss": np.exp(log_loss + noise)})


def our_curve(cells: pd.DataFrame, ci: str | None) -> pd.DataFrame:
    """Fit the curve and its folds, with its interval or without, and return the draws."""
    return fit_power_law(cells, ci=ci).bootstrap(CURVE_DRAWS, rng=0)


def scipys_curve(cells: pd.DataFrame, *, bounded: bool) -> np.ndarray:
    """Refit by `curve_fit`: all seeds, without each, and the draws."""
    logs = np.log(cells["best_validation_error"].to_numpy()).reshape(len(SIZES), SEEDS)
    counts = np.random.default_rng(0).multinomial(SEEDS, np.full(SEEDS, 1 / SEEDS), CURVE_DRAWS)
    folds = (1 - np.eye(SEEDS)) / (SEEDS - 1)
    shares = np.concatenate([np.full((1, SEEDS), 1 / SEEDS), folds, counts / SEEDS])

    def log_curve(m: np.ndarray, log_alpha: float, beta: float, gamma: float) -> np.ndarray:
        return np.log(np.exp(log_alpha) * m**beta + (gamma if bounded else abs(gamma)))

    limits = ([-np.inf, -4, 0], [np.inf, 4, np.inf]) if bounded else (-np.inf, np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = [0.8, -0.3, 0.02]
        fits = []
        for log_error in shares @ logs.T:
            start_here = fits[0] if fits and min(fits[0][2:]) > 0 else start
            fits.append(curve_fit(log_curve, SIZES, log_error, start_here, bounds=limits)[0])
    return np.array(fits)


def our_law(runs: pd.DataFrame, scale: str) -> pd.Series:
    """Fit the joint law with bootstrap draws."""
    fit = fit_scaling_law(
        runs,
        ["N", "D"],
        "loss",
        form="Chinchilla",
        scale=scale,
        ci="bootstrap",
        draws=JOINT_DRAWS,
        rng=0,
    )
    return fit.params


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peer_seconds(python: str, peer: str, table: Path, number: int) -> float:
    """Return the seconds of a peer's fit, in its own interpreter."""
    command = [python, str(PEER_SCRIPT), peer, str(table), str(number)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PEER_TIMEOUT_SECONDS, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def row(title: str, peers: Sequence[float], ours: Sequence[float], factor: float = 1.0) -> Row:
    """Return a row of the table: a peer's times against ours, repetition by repetition."""
    theirs = [seconds * factor for seconds in peers]
    ratios = [one / own for one, own in zip(theirs, ours, strict=True)]
    mark = "" if factor == 1 else " *"
    return [title, spread(theirs) + mark, spread(ours), spread(ratios) + mark]


def curve_rows(repetitions: int) -> list[Row]:
    """Measure the learning curve against loops of scipy."""
    cells = learning_curve_table()
    our_curve(cells, "jackknife")
    ours, interval, bounded, free = [], [], [], []
    for _ in range(repetitions):
        ours.append(seconds_of(lambda: our_curve(cells, None)))
        interval.append(seconds_of(lambda: our_curve(cells, "jackknife")))
        bounded.append(seconds_of(lambda: scipys_curve(cells, bounded=True)))
        free.append(seconds_of(lambda: scipys_curve(cells, bounded=False)))
    return [
        row("curve: curve_fit, γ ≥ 0", bounded, ours),
        row("curve: curve_fit, γ ≥ 0; ours with interval", bounded, interval),
        row("curve: curve_fit, no bounds", free, ours),
    ]


def joint_rows(repetitions: int, simple_scaling_laws: str, chinchilla: str) -> list[Row]:
    """Measure the joint law against the peers that are installed."""
    runs = joint_table()
    our_law(runs, "linear")
    linear, log, simple, grid = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "runs.csv"
        runs.to_csv(table, index=False)
        for _ in range(repetitions):
            linear.append(seconds_of(lambda: our_law(runs, "linear")))
            log.append(seconds_of(lambda: our_law(runs, "log")))
            if simple_scaling_laws:
                simple.append(
                    peer_seconds(simple_scaling_laws, "simple-scaling-laws", table, JOINT_DRAWS)
                )
            if chinchilla:
                grid.append(peer_seconds(chinchilla, "chinchilla", table, TIMED_STARTS))
    rows = [_absent("joint: simple-scaling-laws", linear)]
    if simple:
        # It fits residuals of the loss itself, and so do we here.
        rows = [row(f"joint: simple-scaling-laws, {JOINT_DRAWS} draws", simple, linear)]
    if grid:
        factor = GRID_STARTS / TIMED_STARTS
        return [*rows, row("joint: chinchilla, one fit, no draws", grid, log, factor)]
    return [*rows, _absent("joint: chinchilla", log)]


def batch_size_table() -> pd.DataFrame:
    """Return 5,120 runs: 64 groups at 16 batch sizes and five seeds, of the law itself."""
    level = np.arange(4) - 1.5
    e, n, q, b, seed = np.meshgrid(
        level, level, level, np.arange(16.0), np.arange(5), indexing="ij"
    )
    above = b - 7.6 - e - n - q
    bowl = 0.1 + 0.025 * (np.exp(-0.9 * above) + 0.9 * above - 1)
    noise = 0.008 * np.random.default_rng(0).normal(size=bowl.shape)
    return pd.DataFrame(
        {
            "learning_rate": 0.1 * 2 ** e.ravel(),
            "train_examples": 2.0**17 * 2 ** n.ravel(),
            "momentum": 1 - 2 ** -(q - q.min()).ravel(),
            "batch_size": 2 ** b.ravel(),
            "seed": seed.ravel(),
            "validation_error": np.where(bowl < 0.9, bowl + noise, 0.9).ravel(),
            "chance_error": 0.9,
        }
    )


def law_rows(repetitions: int) -> list[Row]:
    """Measure the check of the batch-size law against a script; both must find its exponents."""
    cells = batch_size_table()
    law, script = check_batch_size_law(cells), scripted_law(cells)
    found = np.concatenate([law.peaks["exponent"], law.collapse.exponents["exponent"], script[0]])
    if not np.abs(found - 1).max() < 0.1:
        raise SystemExit(f"Exponents of 1 came out as {found.round(3)}.")
    ours, theirs = [], []
    for _ in range(repetitions):
        ours.append(seconds_of(lambda: check_batch_size_law(cells)))
        theirs.append(seconds_of(lambda: scripted_law(cells)))
    return [row("law: script of loops, 5,120 runs", theirs, ours)]


def _absent(peer: str, ours: Sequence[float]) -> Row:
    return [peer, "not measured: its option is not given", spread(ours), "-"]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--simple-scaling-laws", default="", help="Python that has simple-scaling-laws"
    )
    parser.add_argument("--chinchilla", default="", help="Python that has chinchilla")
    options = parser.parse_args()
    rows = curve_rows(options.repetitions)
    rows += joint_rows(options.repetitions, options.simple_scaling_laws, options.chinchilla)
    rows += law_rows(options.repetitions)
    for line in settings_lines():
        print(line)
    print(f"{options.repetitions} repetitions: median [least, most]; imports not counted")
    print(
        f"* {GRID_STARTS:,} starts, extrapolated from {TIMED_STARTS:,}; chinchilla uses all cores"
    )
    print_table(["peer", "seconds", "ours, seconds", "peer / ours"], rows)


if __name__ == "__main__":
    main()
