# ruff: noqa: D102  (tests are named as sentences)
"""The suite for a `SelfTrained`, whose loop must follow what the study asks of it."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from typing_extensions import override

from workloads.axis import AxisValue
from workloads.optimizer import Optimizer
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.schedules import LARGEST_BATCH_DIVISOR, BatchSizeSchedule
from workloads.self_trained import SelfTrained
from workloads.testing.conformance import (
    Conformance,
    generators_kept,
    generators_moved,
    in_fresh_process,
    require,
)
from workloads.training.own_loop import run_own_loop
from workloads.training.trajectory import steps_of_epochs

__all__ = ["SelfTrainedConformance"]

REFUSALS = (ValueError, NotImplementedError)
"""What a loop raises for a recipe that it cannot follow. Others are taken for its mistakes."""

DOUBLED = "increase:2@0.5"
"""The batch-size schedule that is tried."""

SETTINGS = ("learning_rate", "steps", "momentum", "optimizer")
"""Attributes of a suite that say how its short runs are trained."""


class SelfTrainedConformance(Conformance):
    """Subclass as `Test…` and set `workload`; every method is one test."""

    workload: ClassVar[type[SelfTrained]]
    """The class under test."""

    @override
    def trained(self, recipe: Recipe) -> TrainingResult:
        return run_own_loop(self.workload(), recipe, "cpu")

    def test_sets_have_examples(self) -> None:
        for name, size in vars(self.workload().sizes(self._defaults())).items():
            require(
                type(size) is int and size >= 1,
                f"sizes gives {size!r} for {name}; allowed: an integer from 1.",
            )

    def test_costs_are_counted_at_every_size(self) -> None:
        for size in self._sizes():
            cost = self.workload().cost(size, self._defaults())
            require(
                cost.parameter_count >= 1 and cost.forward_flops_per_example >= 1,
                f"cost gives {cost} at size {size}; both must be from 1.",
            )

    def test_a_fresh_process_trains_the_same(self) -> None:
        here = _digest(self.workload, *self._call())
        there = in_fresh_process(_digest, self.workload, *self._call())
        for what, value in here.items():
            require(
                there[what] == value,
                f"{what} differs between processes ({value} and {there[what]}). Draw randomness "
                "from workloads.streams, never from global state or the order of a set.",
            )

    def test_the_fingerprint_has_16_hex_digits(self) -> None:
        digits = self.workload().data_fingerprint(self._defaults())
        require(
            len(digits) == 16 and set(digits) <= set("0123456789abcdef"),
            f"data_fingerprint gives {digits!r}; it must have 16 digits of 0-9, a-f.",
        )

    def test_axes_change_the_result(self) -> None:
        before = replace(self.trained(self._recipe()), wall_seconds=0.0)
        for axis in self.workload.axes:
            other = {**self._defaults(), axis.name: self._other_value(axis)}
            recipe = replace(self._recipe(), axes=tuple(other.items()))
            require(
                replace(self.trained(recipe), wall_seconds=0.0) != before,
                f"Axis {axis.name!r} changes nothing between {axis.default!r} and "
                f"{other[axis.name]!r}.",
            )

    def test_the_loop_follows_its_recipe(self) -> None:
        recipe = self._recipe()
        before = self.trained(recipe)
        others: dict[str, Any] = {
            "seed": 1,
            "learning_rate": recipe.learning_rate / 4,
            "batch_size": max(1, recipe.batch_size // 2),
            "train_examples": max(recipe.batch_size, recipe.train_examples // 2),
            "model_size": self._sizes()[0],
        }
        for name, value in others.items():
            if value != getattr(recipe, name):
                after = self.trained(replace(recipe, **{name: value}))
                self._require_followed(name, value, recipe, before, after)

    def test_the_loop_follows_or_refuses_update_rules_and_schedules(self) -> None:
        recipe, growing = self._recipe(), self._growing()
        rate: tuple[str, Any] = ("learning_rate_schedule", "cosine")
        batch: tuple[str, Any] = ("batch_size_schedule", DOUBLED)
        for own, others in ((recipe, [*_other_rules(recipe), rate]), (growing, [batch])):
            before = self.trained(own)
            for name, value in others:
                with contextlib.suppress(*REFUSALS):
                    after = self.trained(replace(own, **{name: value}))
                    self._require_followed(name, value, own, before, after)

    def test_training_lowers_the_training_loss(self) -> None:
        result = self.trained(self._recipe())
        first = result.curve[0].train_loss if result.curve else None
        if first is None:
            raise AssertionError("The first look has no finite training loss.")
        said = f"up to its first look, at step {result.curve[0].step}, it was"
        self._require_lower_loss(result, first, said)

    def test_it_does_better_than_chance(self) -> None:
        result, chance = self.trained(self._recipe()), self.workload.chance_error
        require(
            result.train_error < chance,
            f"The training error is {result.train_error:g} after {result.steps} steps, and "
            f"chance_error {chance:g}. Set learning_rate or steps, or declare the error of the "
            "best constant guess.",
        )

    def test_global_generators_stay_as_they_are(self) -> None:
        generators_kept("train", lambda: self.trained(self._recipe()))
        with generators_moved():
            moved = replace(self.trained(self._recipe()), wall_seconds=0.0)
        require(
            moved == replace(self.trained(self._recipe()), wall_seconds=0.0),
            "The result depends on the state of a global random generator.",
        )

    def _growing(self) -> Recipe:
        """Return a recipe whose batch, were it doubled half-way, would stay within its bound."""
        recipe = self._recipe()
        examples = recipe.train_examples
        batch = max(1, examples // (2 * LARGEST_BATCH_DIVISOR))
        steps = steps_of_epochs(
            train_examples=examples,
            batch_size=batch,
            schedule=BatchSizeSchedule.parse(DOUBLED),
            epochs=2,
        )
        return replace(recipe, batch_size=batch, steps=steps)

    def _require_followed(
        self, name: str, value: Any, recipe: Recipe, before: TrainingResult, after: TrainingResult
    ) -> None:
        require(
            after.train_loss != before.train_loss,
            f"{name} {value} gives the same training loss as {getattr(recipe, name)}, "
            f"{after.train_loss}: the loop does not follow its recipe. A rule or a schedule that "
            "it cannot follow it must refuse by a ValueError.",
        )

    def _call(self) -> tuple[dict[str, AxisValue], dict[str, Any]]:
        settings = {name: getattr(self, name) for name in SETTINGS}
        return self._defaults(), {**settings, "sizes": self._sizes()[-1:]}


def _other_rules(recipe: Recipe) -> list[tuple[str, Any]]:
    """Return what else the update rule may be, by name and value, where it must differ."""
    own = Optimizer(recipe.optimizer)
    others = [each for each in Optimizer if each.is_adaptive != own.is_adaptive]
    if recipe.momentum and not own.is_adaptive:  # without it the two are one
        others.append(Optimizer.SGD if own is Optimizer.NESTEROV else Optimizer.NESTEROV)
    return [
        ("momentum", 0.0 if recipe.momentum else 0.5),
        ("weight_decay", 0.1),
        *(("optimizer", other) for other in others),
    ]


def _digest(
    kind: type[SelfTrained], axes: Mapping[str, AxisValue], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return what a workload says of its data, and hashes of one cell's result."""
    suite = type("_Suite", (SelfTrainedConformance,), {"workload": kind, **settings})()
    result = replace(suite.trained(suite._recipe()), wall_seconds=0.0)
    return {
        "data_fingerprint": kind().data_fingerprint(axes),
        "the result of one cell": hashlib.sha256(repr(result).encode()).hexdigest()[:16],
    }
