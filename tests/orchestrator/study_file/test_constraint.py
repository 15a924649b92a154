import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import StudyFileError
from orchestrator.study_file.axes import COMMON_AXES
from orchestrator.study_file.constraint import Constraint, ConstraintError
from workloads.axis import Axis, AxisKind

POINT: dict[str, Any] = {
    "dataset_fraction": 0.5,
    "train_examples": 50,
    "batch_size": 3,
    "learning_rate": 0.1,
    "momentum": 0.0,
    "weight_decay": 0.01,
    "seed": 0,
    "steps": 100,
    "schedule": "cosine",
}
AXES = (*COMMON_AXES, Axis(name="schedule", kind=AxisKind.TEXT, meaning=""))


def holds(text: str) -> bool:
    return Constraint.parse(text, AXES).holds(POINT)


@pytest.mark.parametrize(
    "text",
    [
        "batch_size <= train_examples",
        "1 < batch_size <= 3 < steps",
        "not batch_size > 3",
        "not not batch_size == 3",
        "batch_size == 1 or batch_size == 3 and steps == 100",
        "not (batch_size == 3 and steps == 1)",
        "schedule == 'cosine' and schedule != \"constant\"",
        "2 + 3 * 4 == 14 and (2 + 3) * 4 == 20 and 20 / 4 / 5 == 1 and 10 - 4 - 3 == 3",
        "-batch_size + +4 - -1 == 2",
        "1e-1 == .1 and 1. == 1 and 1E2 == 100",
        "batch_size<4and steps>1",
        "learning_rate * weight_decay == 0.001",
        "\n  batch_size <\n  4\n",
    ],
)
def test_conditions_that_hold(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


def test_a_chain_holds_only_where_every_link_does() -> None:
    assert not holds("1 < batch_size < 3")
    assert not holds("4 < batch_size < 9")
    assert holds("1 != batch_size != 1")


def test_text_beside_an_axis_is_one_of_its_values_in_any_wording() -> None:
    point = {"learning_rate_schedule": "step:5@0.3,0.6", "optimizer": "sgd"}
    for text in (
        "learning_rate_schedule == 'step:5@.3,.60'",
        "'step:5@.3,.60' == learning_rate_schedule",
        "'step:5@0.3,0.6' == learning_rate_schedule != 'constant'",
        "optimizer != 'adam' and learning_rate_schedule == learning_rate_schedule",
    ):
        assert Constraint.parse(text).holds(point), text
        assert not Constraint.parse(f"not ({text})").holds(point), text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer != 'Adam'", "column 14: optimizer is 'Adam'; allowed: one of sgd, "),
        ("seed < 3 and 'Adam' == optimizer", "column 14: optimizer is 'Adam'; allowed: one of"),
        ("learning_rate_schedule == 'step:5'", "column 27: learning_rate_schedule is 'step:5': "),
    ],
)
def test_text_that_its_axis_does_not_admit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConstraintError, match=f"^where, {message}"):
        Constraint.parse(text)


def test_names_are_those_that_are_looked_at() -> None:
    constraint = Constraint.parse("batch_size <= train_examples or batch_size < 2")
    assert constraint.names == {"batch_size", "train_examples"}


def test_numbers_that_agree_to_twelve_digits_are_equal_as_in_the_identity_of_a_cell() -> None:
    assert 3 * 0.1 > 0.3  # as floats are
    assert holds("batch_size * learning_rate <= 0.3")
    assert holds("batch_size * learning_rate == 0.3")
    assert not holds("batch_size * learning_rate > 0.3")
    assert not holds("batch_size * learning_rate != 0.3")
    assert not holds("batch_size * learning_rate == 0.300000000001")
    assert Constraint.parse("seed < 10000000000001").holds({"seed": 10**13})


def test_a_division_by_zero_names_the_values_and_the_way_out() -> None:
    with pytest.raises(ConstraintError, match=r"at batch_size=3, momentum=0\.0: .*guard it"):
        holds("batch_size / momentum > 1")
    assert not holds("momentum != 0 and batch_size / momentum > 1")
    assert holds("momentum == 0 or batch_size / momentum > 1")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("batch_size < schedule", 12),
        ("schedule < 'm'", 10),
        ("schedule + 1 < 2", 1),
        ("1 + 'a' == 2", 5),
        ("-schedule == 1", 2),
        ("(1 < 2) == (2 < 3)", 9),
        ("(1 < 2) < 3", 9),
        ("1 and 1 < 2", 1),
        ("1 < 2 or 3", 10),
        ("not 3", 5),
        ("'cosine'", 1),
        ("1 < 2 3", 7),
        ("1 < 2)", 6),
        ("(1 < 2", 7),
        ("and", 1),
        ("batch_size in (1, 2)", 12),
        ("batch_size if 1 < 2 else 3", 12),
        ("1 // 2 == 0", 3),
        ("1 % 2 == 0", 3),
        ("~1 == 0", 1),
        ("[1] == [1]", 1),
        ("{} == {}", 1),
        ("f'{seed}' == 'a'", 1),
        ("seed := 3", 6),
        ("1 <> 2", 4),
        ("1_0 == 10", 2),
        ("0x1F < 3", 2),
        ("1j < 2", 2),
        ("True", 1),
        ("None == None", 1),
        ("seed < ١", 8),
        ("séed < 1", 1),
        ("1 < 1e400", 5),
        ("1 < 2; 1", 6),
        ("1 < 2 # yes", 7),
    ],
)
def test_what_is_outside_the_language_is_refused_at_its_column(text: str, column: int) -> None:
    with pytest.raises(ConstraintError, match=rf"^where, column {column}: .*[aA]llowed"):
        Constraint.parse(text, AXES)


def test_length_and_depth_are_bounded() -> None:
    assert holds("(" * 20 + "1 < 2" + ")" * 20)
    assert holds("1 < 2 or " * 55 + "1<2")
    for text in ("(" * 21 + "1 < 2" + ")" * 21, "not " * 21 + "1 < 2", "-" * 21 + "1 < 2"):
        with pytest.raises(ConstraintError, match="more than 20 levels inside each other"):
            Constraint.parse(text)
    with pytest.raises(ConstraintError, match="where has 501 characters; allowed: at most 500"):
        Constraint.parse(" " * 501)


def test_numbers_too_large_for_a_quotient_are_an_error_and_no_crash() -> None:
    text = "*".join(["seed"] * 40) + " / 3 > 1"
    with pytest.raises(ConstraintError, match="has no value at seed="):
        Constraint.parse(text).holds({"seed": 10**18})


NAMES = ["batch_size", "train_examples", "steps", "seed", "learning_rate"]


def _parenthesized(*parts: str) -> str:
    return "(" + " ".join(parts) + ")"


numbers = st.recursive(
    st.sampled_from(NAMES),
    lambda inner: (
        st.builds(_parenthesized, inner, st.sampled_from("+-*/"), inner)
        | st.builds(" ".join, st.tuples(inner, st.sampled_from("+-*/"), inner))
        | inner.map(lambda part: f"-{part}")
    ),
    max_leaves=5,
)
signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
comparisons = st.builds(lambda a, s, b: f"{a} {s} {b}", numbers, signs, numbers) | st.builds(
    lambda a, s, b, t, c: f"{a} {s} {b} {t} {c}", numbers, signs, numbers, signs, numbers
)
conditions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds(
            lambda a, word, b: f"{a} {word} {b}", inner, st.sampled_from(["and", "or"]), inner
        )
        | inner.map(lambda part: f"not {part}")
        | inner.map(_parenthesized)
    ),
    max_leaves=5,
)


@settings(max_examples=500)
@given(
    text=conditions.filter(lambda text: len(text) <= 500),
    values=st.fixed_dictionaries({name: st.fractions(-3, 3, max_denominator=3) for name in NAMES}),
)
def test_conditions_mean_what_they_mean_in_python(text: str, values: dict[str, Any]) -> None:
    # Python's grammar is the oracle: the language is a subset of it. Exact fractions keep the
    # tolerance of comparisons out of the matter.
    try:
        expected = eval(text, {"__builtins__": {}}, values)
    except ZeroDivisionError:
        with pytest.raises(ConstraintError, match="has no value at"):
            Constraint.parse(text).holds(values)
        return
    assert Constraint.parse(text).holds(values) == expected


@given(text=st.text(alphabet="abetchsizo_ ()<>=!+-*/'\".,0123456789\n[]{}&|^%~é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConstraintError):
        Constraint.parse(text).holds(POINT)


def test_a_refusal_is_an_error_of_the_study_file() -> None:
    assert issubclass(ConstraintError, StudyFileError)
