import numpy as np
import pytest

from analysis.fits.seed_noise import seed_noise

FULL = np.ones((6, 4), dtype=bool)
GAPS = FULL & ~np.eye(6, 4, dtype=bool)
BLOCKS = np.kron(np.eye(2), np.ones((3, 4))).astype(bool)
OWN = np.kron(np.eye(5), np.ones((1, 4))).astype(bool)
CHAIN = np.eye(4, 5, dtype=bool) | np.eye(4, 5, k=1, dtype=bool)


def drawn(has, rng=0):
    return np.where(has, 0.1 * np.random.default_rng(rng).normal(size=has.shape), np.nan)


def design(has):
    """(runs, sizes + seeds) indicators of the size and of the seed of each run."""
    size, seed = np.nonzero(has)
    return np.hstack([np.eye(len(has))[size], np.eye(has.shape[1])[seed]])


@pytest.mark.parametrize("has", [FULL, BLOCKS])
def test_shifts_of_seeds_are_no_noise(has):
    scores = drawn(has)
    columns = design(has)
    fitted = columns @ np.linalg.lstsq(columns, scores[has], rcond=None)[0]
    freedom = has.sum() - np.linalg.matrix_rank(columns)
    expected = ((scores[has] - fitted) ** 2).sum() / freedom
    shifts = np.random.default_rng(1).normal(size=has.shape[1])
    assert seed_noise(scores + shifts) == (pytest.approx(expected), freedom)


@pytest.mark.parametrize("has", [FULL, GAPS, BLOCKS])
def test_degrees_of_freedom_are_those_that_sizes_and_seeds_leave(has):
    assert seed_noise(drawn(has))[1] == has.sum() - np.linalg.matrix_rank(design(has))


@pytest.mark.parametrize("has", [OWN, CHAIN])
def test_where_sizes_and_seeds_leave_nothing_runs_scatter_within_sizes(has):
    assert has.sum() == np.linalg.matrix_rank(design(has))
    scores = drawn(has)
    within = has.sum(axis=1) - 1
    expected = within @ np.nanvar(scores, axis=1, ddof=1) / within.sum()
    assert seed_noise(scores) == (pytest.approx(expected), within.sum())
