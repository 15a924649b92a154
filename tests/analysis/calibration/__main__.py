"""`python -m tests.analysis.calibration`: measure, print a table, exit with 1 where one misses."""

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from tests.analysis.calibration.registry import FULL, SECTIONS, Row, markdown, section


def measured(names: list[str], sets: int, processes: int) -> list[Row]:
    """Return the rows of the sections named, their tasks shared among processes."""
    rows: list[Row] = []
    # Started anew: a fork would inherit whatever threads the libraries of the parent hold.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, fresh) if processes > 1 else nullcontext() as pool:
        for name in names:
            of_section = section(name)
            run = pool.map if pool else map
            rows += of_section.rows(list(run(of_section.measure, of_section.tasks(sets))))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.analysis.calibration")
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--sets", type=int, default=FULL, help="tables of each kind (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="worker processes (%(default)s)")
    options = parser.parse_args(arguments)
    began = time.process_time()
    rows = measured(options.sections or list(SECTIONS), options.sets, options.processes)
    print(markdown(rows))
    missed = sum(not row.ok for row in rows)
    required = sum(row.required is not None for row in rows)
    print(f"\n{required} figures required, {missed} missed.")
    if options.processes == 1:
        print(f"{time.process_time() - began:.0f} s of one core.", file=sys.stderr)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
