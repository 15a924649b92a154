"""docs/validation.md shows the calibration that there is."""

from pathlib import Path

from tests.analysis.calibration.registry import FULL, SECTIONS, section

DOCUMENT = (Path(__file__).parents[3] / "docs" / "validation.md").read_text()


def test_every_figure_of_the_calibration_stands_in_the_document():
    for name in SECTIONS:
        of_section = section(name)
        rows = of_section.rows([of_section.measure(task) for task in of_section.tasks(2)])
        missing = [row for row in rows if f"| {row.what} | {row.truth} | " not in DOCUMENT]
        assert not missing
    shown = [line.split(" | ") for line in DOCUMENT.splitlines() if "95 % coverage" in line]
    assert min(int(cells[2]) for cells in shown if len(cells) == 6) == FULL
