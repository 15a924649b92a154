"""How long a cell trains: steps, epochs, examples, or the summed learning rate.

What to use when: `epochs` for learning curves (every shard seen equally often), `steps` for equal
compute, `examples` for equal compute across batch sizes, `cumulative_learning_rate` (T = c/ε) to
compare learning rates at equal training time of the gradient flow, as batch laws need, and
`cumulative_effective_learning_rate` (T = c(1−m)/ε) where momentum is to count as a rate ε/(1−m).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import StudyFileError
from orchestrator.study_file.axes import shown
from workloads.axis import Axis, AxisError, AxisKind
from workloads.schedules import CONSTANT, BatchSizeSchedule
from workloads.training.trajectory import steps_of_epochs

__all__ = ["Budget", "BudgetError", "BudgetKind"]

MOST_STEPS = 10**12
"""Steps of one cell: beyond it a budget is a slip of the pen, a year at 30,000 steps a second."""


class BudgetError(StudyFileError):
    """A budget that no cell can train; whoever knows the line adds it."""


class BudgetKind(StrEnum):
    """What a budget counts."""

    STEPS = "steps"
    EPOCHS = "epochs"
    EXAMPLES = "examples"
    CUMULATIVE_LEARNING_RATE = "cumulative_learning_rate"
    CUMULATIVE_EFFECTIVE_LEARNING_RATE = "cumulative_effective_learning_rate"

    @property
    def sums_rates(self) -> bool:
        """Whether the steps are those in which a constant rate sums to the amount."""
        return self in (
            BudgetKind.CUMULATIVE_LEARNING_RATE,
            BudgetKind.CUMULATIVE_EFFECTIVE_LEARNING_RATE,
        )


_AMOUNTS = {
    kind: Axis(name=kind.value, kind=number, meaning="", minimum=minimum, exclusive_minimum=open_)
    for kind, number, minimum, open_ in (
        (BudgetKind.STEPS, AxisKind.INTEGER, 1, False),
        (BudgetKind.EPOCHS, AxisKind.NUMBER, 0, True),
        (BudgetKind.EXAMPLES, AxisKind.INTEGER, 1, False),
        (BudgetKind.CUMULATIVE_LEARNING_RATE, AxisKind.NUMBER, 0, True),
        (BudgetKind.CUMULATIVE_EFFECTIVE_LEARNING_RATE, AxisKind.NUMBER, 0, True),
    )
}

ALLOWED = "one of {" + ": n}, {".join(BudgetKind) + ": n}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long every cell of a grid trains. Raises `BudgetError` on an amount out of bounds."""

    kind: BudgetKind
    """What is counted."""
    amount: float
    """How many: an integer for steps and examples, a positive number for the others."""

    def __post_init__(self) -> None:
        try:
            amount = _AMOUNTS[self.kind].cast(self.amount)
        except AxisError as error:
            raise BudgetError(f"budget: {error} Change it.") from error
        object.__setattr__(self, "amount", amount)

    @classmethod
    def from_dict(cls, values: object) -> "Budget":
        """Return the budget that a study file words as one pair, like `{epochs: 40}`."""
        if not isinstance(values, Mapping) or len(values) != 1:
            raise BudgetError(f"budget is {shown(values)}; allowed: exactly {ALLOWED}. Write one.")
        ((kind, amount),) = values.items()
        if kind not in tuple(BudgetKind):
            raise BudgetError(f"budget counts {kind!r}; allowed: {ALLOWED}. Rename it.")
        if amount is None or isinstance(amount, dict | list | tuple):
            raise BudgetError(
                f"budget: {kind} is {shown(amount)}; "
                f"allowed: {_AMOUNTS[BudgetKind(kind)].allowed()}. Write a number."
            )
        return cls(kind=BudgetKind(kind), amount=amount)

    def to_dict(self) -> dict[str, float]:
        """Return the budget as a study file words it; `from_dict` inverts it."""
        return {self.kind.value: self.amount}

    @property
    def wording(self) -> str:
        """The budget in words, as the column `budget` keeps it: 'epochs=40'."""
        amount = self.amount
        return f"{self.kind}={amount if isinstance(amount, int) else format(amount, '.12g')}"

    def steps(
        self,
        *,
        train_examples: int,
        batch_size: int,
        learning_rate: float,
        momentum: float = 0.0,
        learning_rate_schedule: str = CONSTANT,
        batch_size_schedule: str = CONSTANT,
    ) -> int:
        """Return the number of updates T of one cell.

        N = `train_examples`, B = min(`batch_size`, N), ε = `learning_rate`, m = `momentum`. An
        epoch has max(1, ⌊N/B⌋) steps (the last partial batch is dropped), e epochs round(e × that);
        n examples take ⌈n/B⌉ steps; a cumulative learning rate c takes round(c/ε), a cumulative
        effective one round(c(1−m)/ε). Where the batch grows, the epochs of every phase have their
        own steps. Raises `BudgetError` where that is 0 steps, or more than 10¹², and where a
        schedule does not go with the kind of budget.
        """
        batch = min(batch_size, train_examples)
        growth = BatchSizeSchedule.parse(batch_size_schedule)
        exact: float
        if not growth.is_constant:
            exact = self._growing_steps(train_examples, batch, growth)
        else:
            exact = self._constant_steps(train_examples, batch, learning_rate, momentum)
        if self.kind.sums_rates and learning_rate_schedule != CONSTANT:
            raise BudgetError(
                f"budget {self.wording} with learning_rate_schedule {learning_rate_schedule!r}: "
                "its steps are those in which a constant rate sums to the amount; allowed: steps, "
                "epochs or examples. Count another, or keep the rate constant."
            )
        if not 0.5 < exact <= MOST_STEPS:
            raise BudgetError(
                f"budget {self.wording} is {exact:g} steps for {train_examples} examples, batch "
                f"{batch_size} and learning rate {learning_rate:g}; allowed: 1 to {MOST_STEPS:g}. "
                f"Change the amount of {self.kind}."
            )
        return round(exact)

    def _constant_steps(
        self, train_examples: int, batch: int, learning_rate: float, momentum: float
    ) -> float:
        match self.kind:
            case BudgetKind.EPOCHS:
                return self.amount * (train_examples // batch)
            case BudgetKind.EXAMPLES:
                return -(-self.amount // batch)
            case BudgetKind.CUMULATIVE_LEARNING_RATE:
                return self.amount / learning_rate
            case BudgetKind.CUMULATIVE_EFFECTIVE_LEARNING_RATE:
                return self.amount * (1 - momentum) / learning_rate
        return self.amount

    def _growing_steps(self, train_examples: int, batch: int, growth: BatchSizeSchedule) -> int:
        if self.kind is not BudgetKind.EPOCHS or self.amount != int(self.amount):
            raise BudgetError(
                f"budget {self.wording} with batch_size_schedule {growth.wording!r}; allowed: "
                "{epochs: n} with a whole n, since the batch changes between epochs. Write one."
            )
        try:
            return steps_of_epochs(
                train_examples=train_examples,
                batch_size=batch,
                schedule=growth,
                epochs=int(self.amount),
            )
        except ValueError as error:
            raise BudgetError(
                f"budget {self.wording} with batch_size_schedule {growth.wording!r}: {error}; "
                "allowed: milestones that are different epochs, between the first and the last. "
                "Raise epochs, or move the milestones."
            ) from error
