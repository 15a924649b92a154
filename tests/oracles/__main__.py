"""`python -m tests.oracles`: train the oracles' studies and print truth beside measured."""

import argparse
import sys
import tempfile
from pathlib import Path

from orchestrator import run_study
from tests.oracles.truth import ORACLES, markdown


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 where an interval misses the truth."""
    names = [oracle.name for oracle in ORACLES]
    parser = argparse.ArgumentParser(prog="python -m tests.oracles")
    parser.add_argument("studies", nargs="*", help=f"of {', '.join(names)}; all by default")
    parser.add_argument(
        "--store", type=Path, help="folder for the stores; by default a passing one"
    )
    parser.add_argument("--inline", action="store_true", help="without Ray, on one core")
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.studies} - {*names}):
        parser.error(f"unknown {', '.join(unknown)}; allowed: {', '.join(names)}")
    answers = []
    with tempfile.TemporaryDirectory() as passing:
        for oracle in ORACLES:
            if oracle.name in (options.studies or names):
                store = (options.store or Path(passing)) / oracle.name
                report = run_study(oracle.study, store, inline=options.inline)
                print(f"{oracle.name}: {report.tally}", file=sys.stderr)
                answers += [(oracle.name, answer) for answer in oracle.answers(store)]
    print(markdown(answers))
    return int(not all(answer.holds for _, answer in answers))


if __name__ == "__main__":
    sys.exit(main())
