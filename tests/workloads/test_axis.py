import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.axis import Axis, AxisError, AxisKind

NUMBER = Axis(name="x", kind=AxisKind.NUMBER, meaning="")
INTEGER = Axis(name="n", kind=AxisKind.INTEGER, meaning="", minimum=1, maximum=9)
SHARE = Axis(
    name="share", kind=AxisKind.NUMBER, meaning="", minimum=0, maximum=1, exclusive_minimum=True
)
CHOICE = Axis(name="kind", kind=AxisKind.TEXT, meaning="", choices=("a", "b"))


def test_numbers_that_differ_by_rounding_or_by_sign_of_zero_are_one_value():
    assert NUMBER.cast(0.1 * 3) == NUMBER.cast(0.3)
    assert type(NUMBER.cast(1)) is float
    assert math.copysign(1, NUMBER.cast(-0.0)) == 1


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300))
def test_casting_twice_is_casting_once(value: float):
    assert NUMBER.cast(NUMBER.cast(value)) == NUMBER.cast(value)


@given(st.integers(1, 9))
def test_a_whole_float_is_an_integer(value: int):
    cast = INTEGER.cast(float(value))
    assert (type(cast), cast) == (int, value)


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (INTEGER, 2.5),
        (INTEGER, True),
        (INTEGER, "3"),
        (INTEGER, 0),
        (INTEGER, 10),
        (NUMBER, math.nan),
        (NUMBER, math.inf),
        (NUMBER, None),
        (SHARE, 0.0),
        (SHARE, 1.0000001),
        (CHOICE, "c"),
        (CHOICE, 1),
    ],
)
def test_a_value_that_the_axis_does_not_admit_is_refused_with_what_it_allows(axis, value):
    with pytest.raises(AxisError) as caught:
        axis.cast(value)
    assert axis.allowed() in str(caught.value)
    assert repr(value) in str(caught.value)


def test_bounds_are_told_in_the_notation_of_intervals():
    assert INTEGER.allowed() == "an integer in [1, 9]"
    assert SHARE.allowed() == "a number in (0, 1]"
    assert NUMBER.allowed() == "a number"
    assert CHOICE.allowed() == "one of a, b"


def test_an_axis_admits_its_own_bounds_and_choices():
    third = Axis(name="share", kind=AxisKind.NUMBER, meaning="", minimum=1 / 3, maximum=2 / 3)
    assert [third.cast(value) for value in (1 / 3, 2 / 3)] == [0.333333333333, 0.666666666667]
    chosen = Axis(name="share", kind=AxisKind.NUMBER, meaning="", choices=(1 / 3, 2 / 3))
    assert chosen.cast(1 / 3) == 0.333333333333
    beyond = replace(third, exclusive_minimum=True)
    with pytest.raises(AxisError):
        beyond.cast(1 / 3)


def test_an_integer_that_no_table_holds_is_refused():
    axis = Axis(name="seed", kind=AxisKind.INTEGER, meaning="", minimum=0)
    assert axis.cast(2**63 - 1) == 2**63 - 1
    assert axis.cast(1e18) == 10**18
    for value in (2**63, 1e20):
        with pytest.raises(AxisError, match=r"an integer in \[0, inf\), of 64 bits"):
            axis.cast(value)
