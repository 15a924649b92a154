"""Each rule alone, and the order of the rules."""

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.verdict import (
    Evidence,
    Judgement,
    Verdict,
    holm,
    judge_factor,
    judge_interval,
    judge_jointly,
    t_interval,
)

GOOD = Evidence(
    exponent=1.0,
    standard_error=0.03,
    degrees_of_freedom=4,
    levels=4,
    octaves=3.0,
    variance_inflation=1.0,
    seeds=5,
    groups=64,
    flat=0,
    plateau=0,
    censored=0,
    censored_above=0,
    interior_levels=4,
    estimated_levels=4,
)
# t_4 quantiles from printed tables: 2.132 (90 % two-sided), 2.776 (95 %)
T90, T95 = 2.132, 2.776


def verdict(**changes: float) -> Verdict:
    return judge_factor(replace(GOOD, **changes), margin=0.15).verdict


def test_an_exponent_near_one_with_a_small_error_is_supported() -> None:
    assert verdict() is Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": 2}, "2 levels"),
        ({"octaves": 1.9}, "1.90 octaves"),
        ({"variance_inflation": 10.1}, "variance inflation is 10.1"),
        ({"variance_inflation": math.inf}, "variance inflation is inf"),
        ({"variance_inflation": math.nan}, "variance inflation is nan"),
        ({"seeds": 4}, "4 complete seeds"),
        ({"flat": 20, "plateau": 13}, "20 flat and 13 plateau of 64"),
        ({"estimated_levels": 2}, "2 levels of the factor with an optimum that a parabola"),
        ({"failure": "one seed has no spread"}, "one seed has no spread"),
    ],
)
def test_a_design_that_cannot_tell_is_unidentified(changes: dict[str, float], said: str) -> None:
    judgement = judge_factor(replace(GOOD, **changes), margin=0.15)
    assert judgement.verdict is Verdict.UNIDENTIFIED
    assert said in judgement.reason
    assert judgement.p_value == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 3},
        {"octaves": 2.0},
        {"octaves": math.log2(0.4) - math.log2(0.1) - 1e-15},
        {"variance_inflation": 10.0},
        {"flat": 20, "plateau": 12},
        {"censored": 32},
        {"interior_levels": 3},
        {"estimated_levels": 3},
    ],
)
def test_the_limits_themselves_are_enough(changes: dict[str, float]) -> None:
    assert verdict(**changes) is Verdict.SUPPORTED


@pytest.mark.parametrize("changes", [{"censored": 33}, {"interior_levels": 2}])
def test_hidden_optima_make_a_factor_censored(changes: dict[str, float]) -> None:
    assert verdict(**changes) is Verdict.CENSORED


def test_identification_is_asked_before_censoring_and_censoring_before_intervals() -> None:
    assert verdict(seeds=4, censored=64, exponent=0.0) is Verdict.UNIDENTIFIED
    assert verdict(censored=64, exponent=0.0) is Verdict.CENSORED
    assert verdict(censored=64, failure="no fold") is Verdict.CENSORED
    assert verdict(interior_levels=2, estimated_levels=2) is Verdict.CENSORED
    assert verdict(estimated_levels=2, exponent=0.0) is Verdict.UNIDENTIFIED
    assert verdict(exponent=0.0) is Verdict.REFUTED


def test_refuted_begins_where_the_95_percent_interval_leaves_the_band() -> None:
    edge = 0.85 - T95 * 0.03
    assert verdict(exponent=edge - 0.001) is Verdict.REFUTED
    assert verdict(exponent=edge + 0.001) is Verdict.INCONCLUSIVE
    assert verdict(exponent=2 - edge + 0.001) is Verdict.REFUTED
    assert verdict(exponent=2 - edge - 0.001) is Verdict.INCONCLUSIVE


def test_supported_begins_where_the_90_percent_interval_enters_the_band() -> None:
    edge = 0.85 + T90 * 0.03
    assert verdict(exponent=edge + 0.001) is Verdict.SUPPORTED
    assert verdict(exponent=edge - 0.001) is Verdict.INCONCLUSIVE
    assert verdict(exponent=2 - edge - 0.001) is Verdict.SUPPORTED
    assert verdict(exponent=2 - edge + 0.001) is Verdict.INCONCLUSIVE


def test_a_supported_exponent_may_exclude_one_itself_and_says_so() -> None:
    judgement = judge_factor(replace(GOOD, exponent=1.05, standard_error=0.01), margin=0.15)
    assert judgement.verdict is Verdict.SUPPORTED
    assert judgement.one_excluded


def test_the_p_value_is_five_percent_where_refutation_begins() -> None:
    judgement = judge_interval(0.85 - T95 * 0.03, 0.03, 4, claimed=1.0, margin=0.15)
    # the printed quantile has four digits
    assert judgement.p_value == pytest.approx(0.05, rel=1e-3)
    assert judge_interval(0.9, 0.03, 4, claimed=1.0, margin=0.15).p_value == 1.0


def test_no_estimate_or_error_gives_infinite_bounds() -> None:
    assert t_interval(math.nan, 0.1, 4, 0.95) == (-math.inf, math.inf)
    assert t_interval(1.0, math.inf, 4, 0.95) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("above", "said"),
    [
        (40, "Add larger batch sizes, each below its shard, or seeds"),
        (0, "Add smaller batch sizes or seeds"),
        (30, "Add larger batch sizes, each below its shard, and smaller batch sizes or seeds"),
    ],
)
def test_a_censored_verdict_says_where_the_grid_is_to_grow(above: int, said: str) -> None:
    evidence = replace(GOOD, censored=40, censored_above=above)
    reason = judge_factor(evidence, margin=0.15).reason
    assert said in reason
    assert f"{above} above the largest batch size, {40 - above} below the smallest" in reason


def test_holm_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(1)
    for p in [*rng.uniform(0, 0.1, (12, 3)), np.array([0.02, 0.02, 1.0]), np.zeros(3)]:
        expected = multipletests(p, method="holm")[1]
        # both multiply and sort the same doubles
        np.testing.assert_allclose(holm(p), expected, rtol=1e-14)


def judged(verdict: Verdict, p: float = 1.0) -> Judgement:
    return Judgement(verdict=verdict, reason="", p_value=p)


SUPPORTED, UNKNOWN, HIDDEN = map(
    judged, (Verdict.SUPPORTED, Verdict.UNIDENTIFIED, Verdict.CENSORED)
)


@pytest.mark.parametrize(
    ("three", "joint"),
    [
        ((SUPPORTED, SUPPORTED, SUPPORTED), Verdict.SUPPORTED),
        ((SUPPORTED, judged(Verdict.REFUTED, 0.01), SUPPORTED), Verdict.REFUTED),
        ((UNKNOWN, judged(Verdict.REFUTED, 0.01), HIDDEN), Verdict.REFUTED),
        # .02 × 3 is above .05: refuted alone, not by Holm
        ((SUPPORTED, judged(Verdict.REFUTED, 0.02), SUPPORTED), Verdict.INCONCLUSIVE),
        ((UNKNOWN, judged(Verdict.REFUTED, 0.02), SUPPORTED), Verdict.UNIDENTIFIED),
        ((HIDDEN, UNKNOWN, SUPPORTED), Verdict.UNIDENTIFIED),
        ((HIDDEN, judged(Verdict.INCONCLUSIVE), SUPPORTED), Verdict.CENSORED),
        ((SUPPORTED, judged(Verdict.INCONCLUSIVE), SUPPORTED), Verdict.INCONCLUSIVE),
    ],
)
def test_the_joint_verdict_is_the_first_rule_that_matches(
    three: tuple[Judgement, ...], joint: Verdict
) -> None:
    names = ("learning_rate", "train_examples", "momentum")
    assert judge_jointly(dict(zip(names, three, strict=True))).verdict is joint


def test_holm_steps_down_so_that_a_second_factor_is_named_too() -> None:
    joint = judge_jointly(
        {
            "a": judged(Verdict.REFUTED, 0.001),
            "b": judged(Verdict.REFUTED, 0.02),
            "c": judged(Verdict.INCONCLUSIVE),
        }
    )
    # .02 × 2 = .04 passes at the second step though .02 × 3 would not
    assert "a (" in joint.reason
    assert "b (" in joint.reason
