import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.study_file.axes import COMMON_AXES, AxisSpecError, axis_values, seed_values
from workloads.axis import Axis, AxisKind

AXES = {axis.name: axis for axis in COMMON_AXES}
FRACTION, BATCH, RATE, MOMENTUM, DECAY = (
    AXES[name]
    for name in ("dataset_fraction", "batch_size", "learning_rate", "momentum", "weight_decay")
)
TEXT = Axis(name="schedule", kind=AxisKind.TEXT, meaning="", choices=("constant", "cosine"))


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (8, (8,)),
        (8.0, (8,)),
        ([8, 2, 4], (8, 2, 4)),
        ({"values": [3, 1]}, (3, 1)),
        ({"log2": [1, 8]}, (1, 2, 4, 8)),
        ({"log2": [3, 24]}, (3, 6, 12, 24)),
        ({"log": [1, 1000], "points": 4}, (1, 10, 100, 1000)),
    ],
)
def test_every_form_gives_its_values_in_order(spec: object, values: tuple[int, ...]) -> None:
    result = axis_values(BATCH, spec)
    assert result == values
    assert all(type(value) is int for value in result)


def test_values_on_a_number_axis_are_floats_of_twelve_digits() -> None:
    assert axis_values(RATE, [0.1 * 3, 1]) == (0.3, 1.0)
    assert all(type(value) is float for value in axis_values(RATE, [1, 2]))


def test_log2_of_fractions_ends_exactly_at_its_upper_end() -> None:
    assert axis_values(FRACTION, {"log2": [0.0625, 1.0]}) == (0.0625, 0.125, 0.25, 0.5, 1.0)
    assert axis_values(RATE, {"log2": [0.1, 0.8]}) == (0.1, 0.2, 0.4, 0.8)


def test_log2_reaches_an_end_that_was_written_with_twelve_digits() -> None:
    assert axis_values(FRACTION, {"log2": [1 / 3, 2 / 3]}) == (0.333333333333, 0.666666666667)


def test_log2_spans_every_float_without_overflow() -> None:
    values = axis_values(RATE, {"log2": [2.0**-1000, 2.0**1000]})
    assert len(values) == 2001
    with pytest.raises(AxisSpecError, match="misses"):
        axis_values(RATE, {"log2": [1, 1.7e308]})


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.01, 1e6), points=st.integers(2, 50))
def test_log_gives_equal_ratios_and_both_ends(low: float, factor: float, points: int) -> None:
    values = axis_values(RATE, {"log": [low, low * factor], "points": points})
    # NumPy's own geometric spacing, through another formula; 12 digits are kept, and the
    # ends are themselves rounded to 12 before the points are placed.
    np.testing.assert_allclose(
        np.array(values, dtype=float), np.geomspace(low, low * factor, points), rtol=1e-11
    )
    assert values[0] == RATE.cast(low)
    assert values[-1] == RATE.cast(low * factor)


def test_log_on_an_integer_axis_refuses_to_round_and_offers_the_list() -> None:
    with pytest.raises(AxisSpecError, match=r"gives 3\.16228.*like \[1, 3, 10, 32, 100\]"):
        axis_values(BATCH, {"log": [1, 100], "points": 5})


def test_text_axes_have_lists_but_no_ranges() -> None:
    assert axis_values(TEXT, ["cosine", "constant"]) == ("cosine", "constant")
    with pytest.raises(AxisSpecError, match=r"holds text, which has no ranges.*one of constant"):
        axis_values(TEXT, {"log2": [1, 2]})
    with pytest.raises(AxisSpecError, match="schedule is 'linear'; allowed: one of constant, cos"):
        axis_values(TEXT, "linear")
    with pytest.raises(AxisSpecError, match=r"schedule is False.*Quote it if text is meant"):
        axis_values(TEXT, False)


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (FRACTION, 0),
        (FRACTION, 1.0000001),
        (BATCH, 0),
        (RATE, 0),
        (RATE, float("nan")),
        (MOMENTUM, 1),
        (MOMENTUM, -0.1),
        (DECAY, -0.1),
        (DECAY, math.inf),
        (AXES["seed"], -1),
        (BATCH, True),
        (BATCH, "8"),
        (BATCH, None),
        (BATCH, {}),
    ],
)
def test_values_outside_the_common_axes_are_refused(axis: Axis, value: object) -> None:
    with pytest.raises(AxisSpecError, match=rf"{axis.name} is .*; allowed: "):
        axis_values(axis, [value])


@pytest.mark.parametrize("value", [1e-300, 1.0])
def test_the_bounds_of_a_fraction_admit_what_lies_inside(value: float) -> None:
    assert axis_values(FRACTION, value) == (value,)


def test_values_that_only_differ_beyond_twelve_digits_are_one_value_twice() -> None:
    with pytest.raises(AxisSpecError, match=r"lists 0\.3 twice \(as 0\.3 and 0\.30000000000000004"):
        axis_values(RATE, [0.3, 0.1 * 3])


def test_an_error_in_a_list_knows_which_item_it_is() -> None:
    with pytest.raises(AxisSpecError) as caught:
        axis_values(BATCH, {"values": [1, 2, 0]})
    assert caught.value.path == ("values", 2)


def test_more_values_than_a_grid_can_train_are_refused() -> None:
    with pytest.raises(AxisSpecError, match="lists 10001 values; allowed: 1 to 10000"):
        axis_values(RATE, list(range(1, 10_002)))


def test_seeds_are_a_count_or_a_list() -> None:
    assert seed_values(3) == (0, 1, 2)
    assert seed_values([7, 5]) == (7, 5)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["values", "log", "log2", "points", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(axis=st.sampled_from([*COMMON_AXES, TEXT]), spec=json_like)
def test_any_spec_gives_admissible_values_or_one_kind_of_error(axis: Axis, spec: object) -> None:
    try:
        values = axis_values(axis, spec)
    except AxisSpecError:
        return
    assert len(values) == len(set(values)) >= 1
    assert all(axis.cast(value) == value for value in values)
