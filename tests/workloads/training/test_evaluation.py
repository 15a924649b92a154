import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.training.evaluation import evaluation_steps


def test_looks_stand_at_powers_of_root_two_below_the_last_step():
    # By hand: 1000 / √2^k for k = 5 … 0, rounded up.
    assert evaluation_steps("geometric:6", 1000) == (177, 250, 354, 500, 708, 1000)


def test_a_run_of_one_step_is_looked_at_once():
    assert evaluation_steps("geometric:12", 1) == (1,)


def test_looks_that_round_to_one_step_are_one_look():
    assert evaluation_steps("geometric:12", 5) == (1, 2, 3, 4, 5)


@given(looks=st.integers(1, 100), steps=st.integers(1, 10**9))
@settings(deadline=None)
def test_looks_ascend_within_the_run_and_end_at_its_last_step(looks: int, steps: int):
    at = evaluation_steps(f"geometric:{looks}", steps)
    assert at[-1] == steps
    assert at[0] >= 1
    assert len(at) <= looks
    assert all(earlier < later for earlier, later in pairwise(at))


@given(steps=st.integers(5_000, 10**9))
@settings(deadline=None)
def test_looks_stand_at_the_same_shares_of_a_long_run_whatever_its_length(steps: int):
    at = evaluation_steps("geometric:12", steps)
    assert len(at) == 12
    for k, step in enumerate(reversed(at)):
        # Rounding up adds less than one step.
        assert 0 <= step - steps / math.sqrt(2) ** k < 1 + 1e-6


@pytest.mark.parametrize(
    "schedule", ["", "geometric", "geometric:0", "geometric:-1", "geometric:2.5", "linear:3"]
)
def test_an_unknown_schedule_is_refused_with_what_is_allowed(schedule: str):
    with pytest.raises(ValueError, match=r"allowed: 'geometric:n'"):
        evaluation_steps(schedule, 100)


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        evaluation_steps("geometric:12", 0)
