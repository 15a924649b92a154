"""Regions of synthetic curves with plateau, power law and floor; none where there is none."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis import FitError, curve_regions, fit_power_law
from analysis.curves.curve_points import Region
from analysis.curves.regions import CurveRegions

Floats = NDArray[np.float64]
CHANCE = 0.9
SIZES = 10 * 2.0 ** np.arange(14)


def error(beta: float, gamma: float, turn: float) -> Floats:
    """Chance until the power law, begun at the size `turn`, falls below it."""
    return np.minimum(CHANCE, (CHANCE - gamma) * (SIZES / turn) ** beta + gamma)


def regions(curve: Floats, sd: float, seeds: int, rng: int, **options: str) -> CurveRegions:
    noise = sd * np.random.default_rng(rng).normal(size=(len(SIZES), seeds))
    cells = pd.DataFrame(
        {
            "train_examples": np.repeat(SIZES, seeds),
            "seed": np.tile(np.arange(seeds), len(SIZES)),
            "best_validation_error": np.minimum(curve[:, None] * np.exp(noise), 1).ravel(),
        }
    )
    return curve_regions(fit_power_law(cells, chance_error=CHANCE, **options))  # type: ignore[arg-type]


def boundaries(found: CurveRegions) -> tuple[int, int]:
    """Return the number of sizes before the power law, and before the floor."""
    labels = found.table["region"].tolist()
    small = labels.count(Region.SMALL_DATA)
    return small, len(labels) - labels.count(Region.FLOOR)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("sd", [0.0, 0.01, 0.03])
@pytest.mark.parametrize(("beta", "gamma"), [(-0.5, 0.08), (-0.4, 0.12), (-0.7, 0.05)])
def test_each_label_is_right_within_one_shard_step(
    beta: float, gamma: float, sd: float, seeds: int
) -> None:
    turn = 50.0
    found = regions(error(beta, gamma, turn), sd, seeds, rng=seeds)
    # power term = floor, solved by hand
    begins = turn * (gamma / (CHANCE - gamma)) ** (1 / beta)
    small, power = boundaries(found)
    assert abs(small - (turn >= SIZES).sum()) <= 1
    assert abs(power - (begins > SIZES).sum()) <= 1
    assert found.has_floor
    assert found.small_data_ends == SIZES[small - 1]
    assert found.table["region"].tolist() == (
        [Region.SMALL_DATA] * small
        + [Region.POWER_LAW] * (power - small)
        + [Region.FLOOR] * (len(SIZES) - power)
    )
    assert abs(math.log2(found.floor_begins / begins)) <= 1


@pytest.mark.parametrize("beta", [-0.15, -0.35])
def test_a_curve_without_floor_is_given_none(beta: float) -> None:
    found = [regions(error(beta, 0.0, 50.0), 0.03, 5, rng) for rng in range(40)]
    assert not any((f.table["region"] == Region.FLOOR).any() for f in found)
    # 2.5 % of intervals of γ exclude a true 0; of 40 more than 4 have a chance below .4 %
    assert sum(f.has_floor for f in found) <= 4


def test_without_a_floor_its_beginning_is_bounded_from_below_alone() -> None:
    found = regions(error(-0.35, 0.0, 50.0), 0.02, 5, rng=1)
    assert not found.has_floor
    assert (found.floor, found.floor_begins, found.upper) == (0.0, math.inf, math.inf)
    assert SIZES[0] < found.lower < math.inf
    assert "No floor is named" in found.reason


def test_a_floor_not_yet_reached_is_foretold_beyond_the_sizes() -> None:
    found = regions(error(-0.3, 0.04, 50.0), 0.002, 5, rng=2)
    begins = 50.0 * (0.04 / 0.86) ** (1 / -0.3)
    assert begins > SIZES[-1] / 10
    assert found.has_floor
    assert found.lower < begins < found.upper
    labels = found.table["region"]
    assert (labels == Region.FLOOR).sum() == (found.floor_begins <= SIZES).sum()


@pytest.mark.parametrize(("gamma", "where"), [(0.5, "below"), (0.08, "within"), (0.004, "beyond")])
def test_it_is_said_whether_the_floor_begins_below_within_or_beyond_the_sizes(
    gamma: float, where: str
) -> None:
    found = regions(0.3 * (SIZES / SIZES[0]) ** -0.4 + gamma, 0.0, 2, rng=0)
    assert f"power term and floor are equal {where} the sizes" in found.reason


def test_the_interval_covers_where_the_floor_begins() -> None:
    begins = 50.0 * (0.12 / 0.78) ** (1 / -0.4)
    found = [regions(error(-0.4, 0.12, 50.0), 0.02, 5, rng) for rng in range(60)]
    covered = np.mean([f.lower <= begins <= f.upper for f in found])
    # .95 measured, se .03 for 60 sets
    assert covered >= 0.86


def test_half_of_the_error_is_floor_where_it_begins() -> None:
    found = regions(error(-0.5, 0.1, 50.0), 0.0, 2, rng=0)
    share = np.interp(
        math.log(found.floor_begins),
        np.log(SIZES[3:]),
        found.table["floor_share"].to_numpy()[3:],
    )
    # linear interpolation of a logistic within one octave
    assert share == pytest.approx(0.5, abs=0.01)


def test_regions_need_a_form_with_floor() -> None:
    with pytest.raises(FitError, match="form='M2'"):
        regions(error(-0.5, 0.1, 50.0), 0.01, 5, rng=0, form="M1")


def test_the_result_is_printable_and_strict_json() -> None:
    found = regions(error(-0.35, 0.0, 50.0), 0.02, 5, rng=1)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["floor_begins"] == "inf"
    assert "small data" in str(found.summary())
    assert "<table" in found._repr_html_()
