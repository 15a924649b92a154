from typing import Any

import pytest

from orchestrator.errors import StudyFileError
from orchestrator.study_file.budget import Budget, BudgetError, BudgetKind


def steps(
    wording: dict[str, Any], train_examples: int = 100, batch_size: int = 8, rate: float = 0.1
) -> int:
    return Budget.from_dict(wording).steps(
        train_examples=train_examples, batch_size=batch_size, learning_rate=rate
    )


@pytest.mark.parametrize(
    ("wording", "train_examples", "batch_size", "expected"),
    [
        ({"steps": 7}, 100, 8, 7),
        ({"epochs": 3}, 100, 8, 36),  # 12 whole batches an epoch, the 4 left over dropped
        ({"epochs": 0.5}, 100, 8, 6),
        ({"epochs": 3}, 5, 8, 3),  # a shard smaller than the batch is one batch
        ({"epochs": 1.1}, 10, 1, 11),
        ({"examples": 100}, 100, 8, 13),
        ({"examples": 96}, 100, 8, 12),
        ({"examples": 10}, 5, 8, 2),  # the batch is the shard of 5
        ({"examples": 1}, 100, 8, 1),
    ],
)
def test_a_budget_resolves_to_steps(
    wording: dict[str, Any], train_examples: int, batch_size: int, expected: int
) -> None:
    assert steps(wording, train_examples, batch_size) == expected


@pytest.mark.parametrize(("rate", "expected"), [(0.1, 30), (0.2, 15), (0.25, 12), (4.0, 1)])
def test_a_cumulative_learning_rate_takes_fewer_steps_at_higher_rates(
    rate: float, expected: int
) -> None:
    assert steps({"cumulative_learning_rate": 3.0}, rate=rate) == expected


@pytest.mark.parametrize(
    ("rate", "momentum", "expected"), [(0.1, 0.0, 30), (0.1, 0.5, 15), (0.2, 0.5, 8), (0.1, 0.9, 3)]
)
def test_a_cumulative_effective_rate_counts_momentum_as_a_rate(
    rate: float, momentum: float, expected: int
) -> None:
    budget = Budget.from_dict({"cumulative_effective_learning_rate": 3.0})
    assert (
        budget.steps(train_examples=100, batch_size=8, learning_rate=rate, momentum=momentum)
        == expected
    )


def test_epochs_of_growing_batches_have_their_own_steps() -> None:
    budget = Budget.from_dict({"epochs": 10})
    steps_of = {
        schedule: budget.steps(
            train_examples=1000, batch_size=4, learning_rate=0.1, batch_size_schedule=schedule
        )
        for schedule in ("constant", "increase:5@0.3", "increase:5@0.3,0.6,0.8")
    }
    # By hand: 250 updates of 4 in an epoch, 50 of 20, and 10 of 100, a tenth of the shard.
    assert steps_of == {
        "constant": 2500,
        "increase:5@0.3": 3 * 250 + 7 * 50,
        "increase:5@0.3,0.6,0.8": 3 * 250 + 3 * 50 + 4 * 10,
    }


@pytest.mark.parametrize(
    ("wording", "schedules", "words"),
    [
        (
            {"steps": 100},
            ("constant", "increase:5@0.5"),
            r"steps=100 .* \{epochs: n\} with a whole",
        ),
        (
            {"epochs": 2.5},
            ("constant", "increase:5@0.5"),
            r"epochs=2.5 .* \{epochs: n\} with a whole",
        ),
        (
            {"epochs": 2},
            ("constant", "increase:5@0.3,0.4"),
            r"0.3, 0.4 of 2 epochs are the epochs 1, 1",
        ),
        (
            {"cumulative_learning_rate": 3},
            ("cosine", "constant"),
            r"cumulative_learning_rate=3 with learning_rate_schedule 'cosine'.*allowed: steps, ep",
        ),
    ],
)
def test_a_budget_that_does_not_go_with_a_schedule_is_refused(
    wording: dict[str, Any], schedules: tuple[str, str], words: str
) -> None:
    rates, batches = schedules
    with pytest.raises(BudgetError, match=words):
        Budget.from_dict(wording).steps(
            train_examples=1000,
            batch_size=4,
            learning_rate=0.1,
            learning_rate_schedule=rates,
            batch_size_schedule=batches,
        )


def test_rounding_of_a_quotient_does_not_lose_a_step() -> None:
    assert 0.3 / 0.1 < 3  # as floats are
    assert steps({"cumulative_learning_rate": 0.3}, rate=0.1) == 3


@pytest.mark.parametrize(
    ("wording", "words"),
    [
        ({"cumulative_learning_rate": 0.01}, "cumulative_learning_rate=0.01 is 0.1 steps"),
        ({"epochs": 0.01}, "epochs=0.01 is 0.12 steps for 100 examples, batch 8"),
        ({"epochs": 1e12}, "is 1.2e"),
        ({"cumulative_learning_rate": 1e308}, "is inf steps"),
    ],
)
def test_a_budget_of_no_steps_or_of_too_many_is_refused(
    wording: dict[str, Any], words: str
) -> None:
    with pytest.raises(BudgetError, match=r"allowed: 1 to 1e\+12\. Change the amount") as caught:
        steps(wording)
    assert words in str(caught.value)
    assert isinstance(caught.value, StudyFileError)


@pytest.mark.parametrize(
    ("wording", "words"),
    [
        ({"epochs": 40}, "epochs=40"),
        ({"epochs": 0.1 * 3}, "epochs=0.3"),
        ({"steps": 1_000_000_000_000}, "steps=1000000000000"),
        ({"cumulative_learning_rate": 2.5}, "cumulative_learning_rate=2.5"),
    ],
)
def test_the_wording_is_what_the_store_keeps(wording: dict[str, Any], words: str) -> None:
    assert Budget.from_dict(wording).wording == words


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_a_budget_survives_its_dict(kind: BudgetKind) -> None:
    budget = Budget(kind=kind, amount=3)
    assert Budget.from_dict(budget.to_dict()) == budget


@pytest.mark.parametrize(
    "wording",
    [
        None,
        3,
        [],
        {},
        {"steps": 1, "epochs": 1},
        {"hours": 1},
        {1: 1},
        {"steps": None},
        {"steps": 2.5},
        {"steps": True},
        {"epochs": float("nan")},
        {"examples": "3"},
    ],
)
def test_other_budgets_are_refused_with_what_is_allowed(wording: object) -> None:
    with pytest.raises(BudgetError, match="allowed: "):
        Budget.from_dict(wording)
