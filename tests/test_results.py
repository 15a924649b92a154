"""The tables of docs/results.md are what the stores of the shipped studies say."""

import re
from pathlib import Path

import pytest

from studies.tables import best_batch_sizes, learning_curves
from studies.tables.__main__ import SECTIONS, main
from studies.tables.stores import NotRunError, Stores
from tests.analysis.stores import learning_curve_cells, write_store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text()
SHIPPED = ROOT / "studies" / "stores"
GRIDS = set(best_batch_sizes.HELD_FIXED)


def rows(lines):
    """Return the cells of a Markdown table's rows, without its head."""
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in table[2:]]


def test_the_page_says_of_the_best_batch_size_what_the_shipped_rows_say():
    told = [row for row in rows(best_batch_sizes.laws(Stores(SHIPPED))) if row[0] in GRIDS]
    section = PAGE[PAGE.index("## The best batch size") :].splitlines()
    shown = rows(section)
    assert [row[2:5] for row in told] == [row[2:5] for row in shown]
    assert len(shown) == 7  # three factors of the cross, one of each slice


def test_studies_that_were_not_run_are_said_to_be_missing_and_the_others_are_told(capsys):
    main(SHIPPED)
    told = capsys.readouterr().out
    assert re.findall("^### (.*)$", told, re.M) == list(SECTIONS)
    assert "smith_le | 8,290 | 0 | 0 |" in told
    assert "baidu_images | not told:" in told
    assert "steps_8000 | train_examples | 0.619" in told
    for title in ("One exponent for two architectures", "Randomized labels and inputs"):
        assert f"### {title}\n\nNot told: " in told


def test_a_learning_curve_has_the_exponent_that_made_it_and_one_without_floor_beside(tmp_path):
    sizes = [128 * 2**k for k in range(9)]
    cells = learning_curve_cells(
        exponent=-0.35, floor=0.05, sizes=sizes, noise=0.01, model_size=(16, 64)
    )
    write_store(tmp_path / "baidu_images", {"baidu_images": {"learning_curve": cells}})
    (told, _) = rows(learning_curves.exponents(Stores(tmp_path)))  # of validation, of test error
    (beta, low, high), (floor, _, _), (without, _, _) = (
        [float(number.replace("−", "-")) for number in re.findall(r"−?\d\.\d+", told[place])]
        for place in (2, 3, 5)
    )
    assert told[:2] == ["images, perceptron: top-1 error", "9 of 2.4 decades"]
    assert low < -0.35 < high
    assert high - low < 0.1
    assert floor == pytest.approx(0.05, abs=0.02)
    assert beta < without < 0  # a power law without the floor that is there is flatter


def test_a_study_with_cells_missing_is_not_told(tmp_path):
    cells = learning_curve_cells()
    store = tmp_path / "baidu_images"
    write_store(store, {"baidu_images": {"curve": cells}}, missing=list(cells["cell_id"][:2]))
    with pytest.raises(NotRunError, match=r"2 of 45 cells of studies/baidu_images.yaml"):
        Stores(tmp_path).cells("baidu_images")


def test_a_store_holds_more_than_its_study_and_only_the_study_is_told(tmp_path):
    cells, more = learning_curve_cells(), learning_curve_cells(seed=1)
    grids = {"baidu_images": {"curve": cells}}
    store = write_store(tmp_path / "baidu_images", grids)
    more.to_parquet(store / "cells" / "of_an_earlier_file.parquet")
    assert set(Stores(tmp_path).cells("baidu_images")["cell_id"]) == set(cells["cell_id"])
