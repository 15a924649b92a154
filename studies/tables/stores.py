"""The stores of the shipped studies, and what is missing in them."""

from pathlib import Path

import pandas as pd
import yaml

from analysis import FitError, load_cells, load_grids
from analysis.loading import FAILED

STUDIES = Path(__file__).parents[1]


class NotRunError(Exception):
    """A study whose store is missing or lacks cells; the message says which."""


class Stores:
    """The stores of the studies, each loaded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}

    def cells(self, study: str, grid: str | None = None) -> pd.DataFrame:
        """Return the cells of a study, or of one grid of it; raises `NotRunError`."""
        if study not in self._loaded:
            self._loaded[study] = self._load(study)
        cells, members = self._loaded[study]
        if grid is not None:
            members = members[members["grid"] == grid]
        # Not what an earlier form of the study file has left in the store.
        return cells[cells["cell_id"].isin(members["cell_id"])]

    def _load(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return all cells of the study's store, and which belong to which grid."""
        store = self.folder / yaml.safe_load((STUDIES / f"{study}.yaml").read_text())["name"]
        try:
            cells, members = load_cells(store, failed=True), load_grids(store)
        except FitError as error:
            raise NotRunError(
                f"{store} gives no results of studies/{study}.yaml: {error}"
            ) from error
        if missing := len(set(members["cell_id"]) - set(cells["cell_id"])):
            raise NotRunError(
                f"{missing} of {len(members)} cells of studies/{study}.yaml lack a row."
            )
        return cells, members


def with_result(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that did not fail."""
    return cells[cells["status"] != FAILED]
