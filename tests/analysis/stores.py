"""Stores as a study leaves them, filled from laws that are known."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

POOL = 8192
CHANCE = 0.9


def cell_rows(
    error,
    *,
    train_examples,
    batch_size=(32,),
    learning_rate=(0.1,),
    momentum=(0.0,),
    model_size=(64,),
    label_noise=(0.0,),
    seeds=5,
    noise=0.03,
    seed=0,
):
    """Return one row a cell of the grid; `error(n, b, lr, m, size, label_noise)` is its mean."""
    rng = np.random.default_rng(seed)
    axes = (train_examples, batch_size, learning_rate, momentum, model_size, label_noise)
    rows = []
    for point in itertools.product(*axes):
        n, b, lr, m, size, q = point
        mean = error(*point)
        diverged = mean is None
        for replicate in range(seeds):
            value = CHANCE if diverged else min(CHANCE, mean * np.exp(noise * rng.normal()))
            identity = json.dumps([*point, replicate, seed])
            rows.append(
                {
                    "cell_id": hashlib.sha256(identity.encode()).hexdigest()[:16],
                    "workload": "synthetic",
                    "workload_version": 1,
                    "dataset_fraction": n / POOL,
                    "train_examples": n,
                    "model_size": float(size),
                    "batch_size": b,
                    "learning_rate": lr,
                    "momentum": m,
                    "seed": replicate,
                    "budget": "{steps: 1000}",
                    "optimizer": "sgd",
                    "learning_rate_schedule": "constant",
                    "workload_axes": json.dumps({"label_noise": q}),
                    "chance_error": CHANCE,
                    "validation_examples": 10_000,
                    "test_examples": 10_000,
                    "status": "diverged" if diverged else "completed",
                    "steps": 1000,
                    "validation_error": value,
                    "test_error": value,
                    "best_validation_error": value,
                    "pack_id": "p0",
                    "started_at": pd.Timestamp("2025-01-01", tz="UTC"),
                }
            )
    return pd.DataFrame(rows)


def learning_curve_cells(*, exponent=-0.35, floor=0.02, sizes=None, **axes):
    """Cells whose error is 4 n^exponent + floor, a tenth lower at sizes other than 64.

    Their batch size is none of the batch-law cells', with which they share no identity.
    """
    sizes = sizes or [32 * 2**k for k in range(9)]

    def error(n, b, lr, m, size, q):
        return (4.0 * n**exponent + floor + q) * (1.0 if size == 64 else 0.9)

    return cell_rows(error, train_examples=sizes, **({"batch_size": (24,)} | axes))


def batch_law_cells(*, exponents=(1.0, 1.0, 1.0), scale=0.004, steepness=0.015, **axes):
    """Cells whose error rises by steepness · octaves² about B_opt, and diverges far below it."""
    a, b_, c = exponents

    def error(n, b, lr, m, size, q):
        optimum = scale * (lr / 0.1) ** a * n**b_ * (1 / (1 - m)) ** c
        octaves = np.log2(b / optimum)
        if octaves < -5:
            return None
        return 0.08 + q + steepness * octaves**2 + 0.002 * octaves**3 * (octaves > 0)

    grid = {
        "train_examples": [1024, 2048, 4096],
        "batch_size": [2**k for k in range(10)],
        "learning_rate": [0.05, 0.1, 0.2, 0.4],
        "momentum": [0.0, 0.5, 0.8, 0.9],
    }
    return cell_rows(error, **(grid | axes))


def write_store(store: Path, studies, *, failures=(), missing=()):
    """Write `studies` (name -> grid -> cells); leave out the rows of `missing` and `failures`.

    `failures`: (cell_id, message) pairs. The files of grids name every cell all the same.
    """
    absent = {*missing, *(cell_id for cell_id, _ in failures)}
    for part in ("cells", "grids", "failures"):
        (store / part).mkdir(parents=True, exist_ok=True)
    for number, (study, grids) in enumerate(studies.items()):
        members = [
            pd.DataFrame({"study": study, "grid": grid, "cell_id": cells["cell_id"]})
            for grid, cells in grids.items()
        ]
        pd.concat(members).to_parquet(store / "grids" / f"study-{number}.parquet")
        for index, cells in enumerate(grids.values()):
            kept = cells[~cells["cell_id"].isin(absent)]
            kept.to_parquet(store / "cells" / f"part-{number}-{index}.parquet")
    rows = [
        {
            "cell_id": cell_id,
            "pack_id": "p9",
            "attempt": attempt,
            "error_type": "RuntimeError",
            "error_message": message,
            "error_traceback": None,
            "failed_at": pd.Timestamp("2025-01-02", tz="UTC") + pd.Timedelta(seconds=attempt),
        }
        for cell_id, message in failures
        for attempt in (1, 2)
    ]
    if rows:
        pd.DataFrame(rows).to_parquet(store / "failures" / "part-0.parquet")
    return store
