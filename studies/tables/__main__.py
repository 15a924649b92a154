"""The tables of docs/results.md, from the stores of the studies in this folder.

    python -m studies.tables results > build/results.md

The argument is the folder of the stores, `results` where `scaling-study run` leaves them. A study
that was not run, or not to its end, or that a law cannot be fitted to, is said to be so; the others
are told all the same.
"""

import sys
from pathlib import Path

from analysis import FitError
from studies.tables import best_batch_sizes, learning_curves
from studies.tables.machine import machine
from studies.tables.randomized import memorize
from studies.tables.schedules import dont_decay
from studies.tables.stores import NotRunError, Stores

SECTIONS = {
    "What was run": machine,
    "Learning curves": learning_curves.exponents,
    "The same, of one batch size": learning_curves.of_one_batch_size,
    "Larger shards foretold from smaller ones": learning_curves.foretold,
    "Errors by shard": learning_curves.errors_by_shard,
    "Best model sizes": learning_curves.model_sizes,
    "One exponent for two architectures": learning_curves.architectures,
    "The best batch size": best_batch_sizes.laws,
    "Curves whose best batch size may lie beyond the grid": best_batch_sizes.censored,
    "How steep the curves are": best_batch_sizes.steepness,
    "Error by batch size and number of examples": best_batch_sizes.errors,
    "Randomized labels and inputs": memorize,
    "Decaying the rate, or increasing the batch": dont_decay,
}


def main(folder: Path) -> None:
    """Print all tables."""
    stores = Stores(folder)
    for title, tell in SECTIONS.items():
        print(f"### {title}\n")
        try:
            print("\n".join(tell(stores)))
        except (NotRunError, FitError) as error:
            print(f"Not told: {error}")
        print()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m studies.tables FOLDER_OF_STORES")
    main(Path(sys.argv[1]))
