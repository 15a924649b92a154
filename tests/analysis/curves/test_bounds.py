import numpy as np
import pytest

from analysis.curves.bounds import profile_bounds, score_bounds

LOG_SIZES = np.log(np.geomspace(50, 50 * 10**2.4, 9))


def tables(seeds=5):
    """Log errors (6, 9, S): power laws, a floor soon reached (unbounded), and a level one."""
    rng = np.random.default_rng(0)
    power = np.exp(-np.array([0.1, 0.3, 0.6, 0.3])[:, None] * (LOG_SIZES - LOG_SIZES[0]))
    drop = np.array([0.5] + [0.2] * 8)
    error = np.vstack([power * 0.6 + np.array([0, 0.01, 0.02, 0.1])[:, None], drop, drop * 0 + 0.3])
    return np.log(error)[:, :, None] + 0.04 * rng.normal(size=(6, 9, seeds))


def fold_means(log_error):
    without = [np.delete(log_error, s, axis=-1).mean(axis=-1) for s in range(log_error.shape[-1])]
    return np.stack([log_error.mean(axis=-1), *without], axis=-2)


@pytest.mark.parametrize("floor", [True, False])
def test_tables_walked_out_together_have_the_bounds_of_each_alone(floor):
    log_error = tables()
    none = np.zeros((9, 9))
    options = {"floor": floor, "level": 0.95}
    together = score_bounds(LOG_SIZES, fold_means(log_error), (none, none), **options)
    profiles = profile_bounds(LOG_SIZES, log_error, **options)
    assert together.shape == profiles.shape == (6, 3, 2)
    assert np.isinf(together).any() == np.isinf(profiles).any() == floor
    for place, table in enumerate(log_error):
        alone = score_bounds(LOG_SIZES, fold_means(table), (none, none), **options)
        # No step mixes tables: the same operations on the same numbers.
        np.testing.assert_allclose(together[place], alone, rtol=1e-9)
        alone = profile_bounds(LOG_SIZES, table, **options)
        np.testing.assert_allclose(profiles[place], alone, rtol=1e-9)
