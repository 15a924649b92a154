"""A peer's fit of L = E + A/N^α + B/D^β, run by the interpreter that has the peer installed.

    python benchmarks/analysis_peers.py simple-scaling-laws runs.csv 200
    python benchmarks/analysis_peers.py chinchilla runs.csv 243

It imports the named peer and nothing of this project, and prints one JSON document: the seconds of
the fit (imports not counted), its parameters, and the peer's version.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def simple_scaling_laws(table: Path, draws: int) -> dict:
    """Fit by PyPI's simple-scaling-laws with `draws` bootstrap draws."""
    import polars as pl
    from simple_scaling_laws import fit

    runs = pl.read_csv(table).select(
        training_run_id=pl.int_range(pl.len()).cast(pl.String),
        model_size__N=pl.col("N"),
        dataset_size__D=pl.col("D"),
        test_loss__L=pl.col("loss"),
    )
    began = time.perf_counter()
    model = fit(runs, law="separable-power", n_draws=draws, seed=0)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "params": model.params("test_loss__L")}


def chinchilla(table: Path, starts: int) -> dict:
    """Fit once by PyPI's chinchilla from `starts` points, a fifth power, of its README's grid."""
    import numpy as np
    import pandas as pd
    from chinchilla import Chinchilla

    each = round(starts**0.2)
    with tempfile.TemporaryDirectory() as folder:
        runs = pd.read_csv(table).assign(C=lambda t: 6 * t["N"] * t["D"])
        runs[["C", "N", "D", "loss"]].to_csv(Path(folder) / "df.csv", index=False)
        law = Chinchilla(
            folder,
            param_grid={
                "E": np.linspace(1, 2, each),
                "a": np.linspace(1, 10, each),
                "b": np.linspace(1, 10, each),
                "alpha": np.linspace(0.1, 0.7, each),
                "beta": np.linspace(0.1, 0.7, each),
            },
            loss_fn=lambda true, predicted: np.square(np.log(predicted) - np.log(true)),
            log_level=50,
        )
        began = time.perf_counter()
        law.fit(parallel=True)
        seconds = time.perf_counter() - began
        params = {name: float(value) for name, value in law.params.items()}
    return {"seconds": seconds, "params": params}


PEERS = {"simple-scaling-laws": simple_scaling_laws, "chinchilla": chinchilla}

if __name__ == "__main__":
    peer, path, number = sys.argv[1:]
    answer = PEERS[peer](Path(path), int(number))
    print(json.dumps({**answer, "version": version(peer)}))
