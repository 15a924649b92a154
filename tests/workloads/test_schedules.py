"""The words of schedules: what each means by hand, and that no other word is one."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.schedules import (
    BatchSizeSchedule,
    LearningRateSchedule,
    batch_size_wording,
    learning_rate_wording,
)


def factors(text: str, *shares: float) -> list[float]:
    return LearningRateSchedule.parse(text).factors(np.array(shares)).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", {0.0: 1, 0.5: 1, 1.0: 1}),
        ("cosine", {0.0: 1, 1 / 3: 0.75, 0.5: 0.5, 1.0: 0}),
        ("linear", {0.0: 1, 0.25: 0.75, 1.0: 0}),
        ("inverse:9", {0.0: 1, 1 / 3: 0.25, 1.0: 0.1}),
        ("step:5@0.3,0.6,0.8", {0.0: 1, 0.29: 1, 0.3: 0.2, 0.7: 0.04, 0.8: 0.008, 1.0: 0.008}),
        ("warmup:0.2", {0.0: 0, 0.05: 0.25, 0.2: 1, 0.9: 1}),
        ("warmup:0.2+cosine", {0.1: 0.5, 0.2: 1, 0.6: 0.5, 1.0: 0}),
        ("warmup:0.2+step:2@0.5", {0.1: 0.5, 0.4: 1, 0.5: 0.5}),
    ],
)
def test_a_word_means_what_a_reader_guesses(text: str, expected: dict[float, float]):
    assert factors(text, *expected) == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" cosine ", "cosine"),
        ("step:5.0@.3, .60,0.8", "step:5@0.3,0.6,0.8"),
        ("warmup: 5e-2 + cosine", "warmup:0.05+cosine"),
        ("warmup:0.05+constant", "warmup:0.05"),
        ("inverse:9.0", "inverse:9"),
    ],
)
def test_two_wordings_of_one_schedule_are_kept_as_one(written: str, kept: str):
    assert learning_rate_wording(written) == kept == learning_rate_wording(kept)


def test_two_wordings_of_one_growth_are_kept_as_one():
    assert batch_size_wording("increase:5.0@.3,.6") == "increase:5@0.3,0.6"
    assert batch_size_wording("constant") == "constant"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no schedule"),
        ("cosinus", "'cosinus' is no schedule"),
        ("cosine:2", "is no schedule"),
        ("warmup", "is no schedule"),
        ("warmup:0.1+", "'' is no schedule"),
        ("warmup:0.1+warmup:0.2", "is no schedule"),
        ("warmup:1", "its share 1 is not between 0 and 1"),
        ("warmup:0", "its share 0 is not between 0 and 1"),
        ("warmup:0.5+step:5@0.3", "before the warm-up has ended"),
        ("inverse:0", "its k is not above 0"),
        ("inverse:x", "'x' is no number"),
        ("inverse:-1", "'-1' is no number"),
        ("inverse:1e999", "is not finite"),
        ("inverse:1_0", "'1_0' is no number"),
        ("step:5", "no shares of training"),
        ("step:5@", "'' is no number"),
        ("step:1@0.5", "its factor 1 is not in"),
        ("step:1001@0.5", "its factor 1001 is not in"),
        ("step:5@0.6,0.3", "its shares do not rise"),
        ("step:5@0.3,0.3", "its shares do not rise"),
        ("step:5@1.5", "its share 1.5 is not between 0 and 1"),
        ("step:2@" + ",".join(f"{i / 30:g}" for i in range(1, 22)), "it has 21 milestones"),
        ("increase:5@0.5", "is no schedule"),
    ],
)
def test_other_words_are_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        learning_rate_wording(text)


@pytest.mark.parametrize("text", ["step:5@0.5", "increase", "increase:5", "increase:0.5@0.5", "x"])
def test_other_growths_are_refused(text: str):
    with pytest.raises(ValueError, match=r"is no|names no|is not"):
        batch_size_wording(text)


@given(st.text(alphabet="cosinewarmupste:+@,.0123456789 ", max_size=25))
def test_any_text_is_a_schedule_with_one_wording_or_refused(text: str):
    try:
        wording = learning_rate_wording(text)
    except ValueError:
        return
    assert learning_rate_wording(wording) == wording
    assert all(0 <= factor <= 1 for factor in factors(text, 0.0, 0.1, 0.5, 0.99, 1.0))


def test_a_batch_grows_to_a_tenth_of_the_shard_and_the_rest_is_taken_from_the_rate():
    # The arms of Smith et al. 2018, §5.1: 128 of 50,000, three times by 5, at most 5,120 there and
    # 5,000 here; the last factor of 5 is 16,000/5,000 too large for the batch.
    schedule = BatchSizeSchedule.parse("increase:5@0.3,0.6,0.8")
    assert schedule.phases(128, 50_000) == ((128, 1.0), (640, 1.0), (3200, 1.0), (5000, 0.3125))


def test_a_batch_beyond_a_tenth_of_the_shard_stays_as_it_is():
    schedule = BatchSizeSchedule.parse("increase:2@0.5")
    assert schedule.phases(40, 100) == ((40, 1.0), (40, 0.5))


@given(
    batch=st.integers(1, 200),
    examples=st.integers(200, 10**6),
    factor=st.integers(110, 1000).map(lambda k: k / 100),
)
def test_rate_over_batch_falls_by_the_factor_whatever_the_bound_and_rounding_do(
    batch: int, examples: int, factor: float
):
    schedule = BatchSizeSchedule.parse(f"increase:{factor}@0.2,0.4,0.6")
    phases = schedule.phases(batch, examples)
    for j, (own, rate) in enumerate(phases):
        assert rate / own == pytest.approx(1 / (batch * factor**j), rel=1e-9)
        assert batch <= own <= max(batch, examples // 10)
        assert 0 < rate <= 1
    assert sorted(own for own, _ in phases) == [own for own, _ in phases]
