"""docs/validation.md shows the reproduced numbers that there are, and no other."""

from pathlib import Path

import pytest

from tests.analysis import censored_optima
from tests.analysis.reproduction import SOURCES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()
_, _, REST = DOCUMENT.partition("<!-- reproduction: the output of the command -->\n")
SHOWN = REST.partition("<!-- end of reproduction -->")[0].strip().splitlines()
SLOW = pytest.param("hpobench_mlp", marks=pytest.mark.slow)


@pytest.mark.parametrize("source", [*(name for name in SOURCES if name != "hpobench_mlp"), SLOW])
def test_every_reproduced_number_stands_in_the_document(source):
    for row in SOURCES[source]():
        start = f"| {row.source} | {row.what} | {row.published} | "
        (line,) = [line for line in SHOWN if line.startswith(start)]
        ours, tolerance, ok = line.removeprefix(start).removesuffix(" |").split(" | ")
        assert (tolerance, ok) == (row.tolerance, "yes")
        # Two units of the last digit shown: it may round the other way.
        assert float(ours) == pytest.approx(row.ours, abs=2 * 10.0**-row.decimals)


def test_the_document_has_no_number_that_is_not_reproduced():
    shown = [line for line in SHOWN[2:] if line.endswith(" |") and "hpobench_mlp" not in line]
    shown = shown[: [line.startswith("| ---") for line in shown].index(True) - 1]
    quick = [row for name, rows in SOURCES.items() if name != "hpobench_mlp" for row in rows()]
    assert len(shown) == len(quick)


@pytest.mark.slow
def test_the_slices_of_hpobench_are_told_as_they_are():
    # Counts and labels, up to the naive exponent: digits beyond may round the other way.
    for line in censored_optima.markdown().splitlines():
        told = line.split(" | ")[:8]
        assert any(shown.split(" | ")[:8] == told for shown in SHOWN), line
