"""Workloads with a loop of their own: the suite, and what happens when the loop breaks its word."""

import json
import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from tests.workloads.own_loops import SklearnDigits, Streamed
from workloads.axis import AxisValue, AxisValues
from workloads.base import ModelCost, SetSizes
from workloads.cost import model_cost
from workloads.errors import WorkloadError
from workloads.outcome import Score, TrainingStatus
from workloads.recipe import Recipe
from workloads.self_trained import CellRun, Finals, Look, SelfTrained
from workloads.testing import SelfTrainedConformance
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.own_loop import run_own_loop

RECIPE = Recipe(
    train_examples=64,
    model_size=4,
    batch_size=16,
    learning_rate=0.1,
    momentum=0.5,
    steps=8,
    seed=3,
    axes=(("noise", 0.1),),
    evaluation_schedule="geometric:3",
)
FINE = Score(0.5, 0.25)


class TestSklearnDigits(SelfTrainedConformance):
    workload = SklearnDigits
    sizes = (4, 32)


class TestStreamed(SelfTrainedConformance):
    workload = Streamed
    sizes = (1, 8)
    steps = 120


class _Short(Streamed):
    """A stream that is trained on in a moment."""

    @override
    def sizes(self, axes: AxisValues) -> SetSizes:
        return SetSizes(pool=256, validation=32, test=32)


def _suite(kind: type[SelfTrained], **settings: Any) -> SelfTrainedConformance:
    attributes = {"workload": kind, "sizes": (1, 8), "steps": 20, **settings}
    suite: SelfTrainedConformance = type("Suite", (SelfTrainedConformance,), attributes)()
    return suite


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("momentum", 0.5),
        ("weight_decay", 0.0),
        ("optimizer", "sgd"),
        ("learning_rate_schedule", "constant"),
        ("batch_size_schedule", "constant"),
    ],
)
def test_the_suite_catches_a_loop_that_ignores_a_part_of_its_update_rule(
    name: str, only: Any
) -> None:
    class Deaf(_Short):
        @override
        def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
            return super().train(CellRun(self, replace(run.recipe, **{name: only})))

    with pytest.raises(AssertionError, match=rf"^{name} .* gives the same .* a ValueError\.$"):
        _suite(Deaf).test_the_loop_follows_or_refuses_update_rules_and_schedules()


@pytest.mark.parametrize(("kind", "refused"), [(NotImplementedError, True), (TypeError, False)])
def test_only_what_says_so_is_a_refusal(kind: type[Exception], refused: bool) -> None:
    class Raising(_Short):
        @override
        def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
            if run.recipe.optimizer != "sgd":
                raise kind("optimizer")
            return super().train(run)

    check = _suite(Raising).test_the_loop_follows_or_refuses_update_rules_and_schedules
    if refused:
        check()
    else:
        with pytest.raises(TypeError, match="optimizer"):
            check()


def test_a_loop_without_momentum_is_tried_without() -> None:
    class Plain(_Short):
        @override
        def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
            if run.recipe.momentum:
                raise ValueError("momentum")
            return super().train(run)

    with pytest.raises(ValueError, match="momentum"):
        _suite(Plain).test_training_twice_gives_the_same_result()
    _suite(Plain, momentum=0.0).test_the_loop_follows_or_refuses_update_rules_and_schedules()


GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-workload.md"


class _Line:
    """A model with the methods that the guide's loop asks of one: a threshold of one input."""

    def __init__(self, size: int, seed: int, momentum: float) -> None:
        self._weights = np.random.default_rng(seed).standard_normal(2) / size
        self._momentum, self._velocity = momentum, np.zeros(2)

    def update(self, inputs: Any, rate: float) -> float:
        design = np.stack([inputs, np.ones_like(inputs)], 1)
        off = design @ self._weights - (inputs > 0)
        self._velocity = self._momentum * self._velocity + off @ design / len(off)
        self._weights = self._weights - rate * self._velocity
        return float((off**2).mean())

    def score(self) -> Score:
        inputs = np.linspace(-1, 1, 50)
        outputs = self._weights[0] * inputs + self._weights[1]
        return Score(
            float(((outputs - (inputs > 0)) ** 2).mean()),
            float(((outputs > 0.5) != (inputs > 0)).mean()),
        )


def test_the_loop_of_the_guide_follows_its_recipe_or_refuses_it() -> None:
    (code,) = re.findall(r"```python\n(from[^`]*class Mine.*?)```", GUIDE.read_text(), re.DOTALL)
    # What the reader is to fill in.
    code, scores = re.subn(r"Score\((loss=\.\.\., error=)?\.\.\.\)", "model.score()", code)
    assert scores == 3
    names: dict[str, Any] = {
        "new_model": _Line,
        "read": lambda examples: np.sin(examples.astype(float)),
        "mean": np.mean,
    }
    exec(compile(code, str(GUIDE), "exec"), names)
    suite = _suite(names["Mine"])
    suite.test_class_fulfils_the_contract()
    suite.test_the_loop_follows_its_recipe()
    suite.test_the_loop_follows_or_refuses_update_rules_and_schedules()


def test_batches_are_epochs_of_the_shard() -> None:
    run = CellRun(SklearnDigits(), RECIPE)
    batches = list(run.batches())
    assert [batch.step for batch in batches] == list(range(8))
    assert {batch.learning_rate for batch in batches} == {0.1}
    first, second = (
        np.concatenate([batch.examples for batch in some]) for some in (batches[:4], batches[4:])
    )
    assert sorted(first) == sorted(second) == sorted(run.shard)
    assert list(first) != list(second)


def test_what_a_loop_does_to_its_shard_reaches_neither_its_batches_nor_other_cells() -> None:
    before = CellRun(SklearnDigits(), RECIPE)
    shard, batches = before.shard.copy(), [each.examples.tolist() for each in before.batches()]
    run = CellRun(SklearnDigits(), RECIPE)
    run.shard.sort()
    assert [each.examples.tolist() for each in run.batches()] == batches
    assert CellRun(SklearnDigits(), RECIPE).shard.tolist() == shard.tolist()


def test_shards_of_one_seed_are_nested() -> None:
    small, large = (
        CellRun(SklearnDigits(), Recipe(**{**vars(RECIPE), "train_examples": n})).shard
        for n in (64, 640)
    )
    assert list(large[:64]) == list(small)


def test_it_is_never_stacked() -> None:
    choice = choose_arithmetic(Streamed(), 4, (), 16)
    assert choice.arithmetic is Arithmetic.OWN_LOOP
    assert not choice.arithmetic.stacks


class _Scripted(Streamed):
    """Yields what it is told to."""

    said: tuple[Any, ...] = ()
    returned: Any = Finals(train=FINE, test=FINE)

    @override
    def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
        yield from self.said
        return self.returned


def _looks(*losses: float) -> tuple[Look, ...]:
    return tuple(Look(train_loss=loss, validation=FINE) for loss in losses)


def test_what_the_loop_says_is_the_result() -> None:
    class Good(_Scripted):
        said = (None, *_looks(0.9, 0.8), None, *_looks(0.7))
        returned = Finals(train=Score(0.4, 0.1), test=Score(0.6, 0.3, {"top5": 0.2}))

    pauses: list[None] = []
    result = run_own_loop(Good(), RECIPE, "cpu", lambda: pauses.append(None))
    assert result.status is TrainingStatus.COMPLETED
    assert [look.step for look in result.curve] == [4, 6, 8]
    assert [look.train_loss for look in result.curve] == [0.9, 0.8, 0.7]
    assert (result.train_error, result.validation_error, result.test_error) == (0.1, 0.25, 0.3)
    assert (result.steps, result.examples_seen, result.epochs) == (8, 128, 2.0)
    assert result.workload_metrics == {"test_top5": 0.2}
    assert len(pauses) == 5


def test_numbers_of_other_libraries_become_pythons() -> None:
    class Foreign(_Scripted):
        said = tuple(
            Look(
                train_loss=torch.tensor(loss), validation=Score(np.float32(0.5), torch.tensor(0.25))
            )
            for loss in (0.75, 0.5, 0.25)
        )
        returned = Finals(
            train=Score(np.float64(0.5), np.float32(0.25)),
            test=Score(torch.tensor(0.5), 0, {"brier": np.float32(0.125)}),
        )

    result = run_own_loop(Foreign(), RECIPE, "cpu")
    assert [look.train_loss for look in result.curve] == [0.75, 0.5, 0.25]
    numbers = (result.train_loss, result.validation_error, result.test_error, result.test_loss)
    assert numbers == (0.5, 0.25, 0.0, 0.5)
    assert {type(number) for number in numbers} == {float}
    assert json.dumps(result.workload_metrics) == '{"test_brier": 0.125}'


class _Costing(Streamed):
    said = ModelCost(parameter_count=7, forward_flops_per_example=3, forward_operations=1)

    @override
    def cost(self, size: AxisValue, axes: AxisValues) -> ModelCost:
        return self.said


def test_a_cost_is_whole() -> None:
    class Halved(_Costing):
        said = replace(_Costing.said, parameter_count=16 / 2)

    class Broken(_Costing):
        said = replace(_Costing.said, parameter_count=7 / 2)

    cost = model_cost(Halved(), 4, {})
    assert (cost.parameter_count, type(cost.parameter_count)) == (8, int)
    with pytest.raises(WorkloadError, match=r"gives parameter_count = 3.5; allowed: a whole numb"):
        model_cost(Broken(), 4, {})


@pytest.mark.parametrize(
    ("said", "returned"),
    [
        (_looks(0.9, float("nan"), 0.7), Finals(train=FINE, test=FINE)),
        (
            (*_looks(0.9), Look(train_loss=0.8, validation=Score(float("inf"), 0.5))),
            Finals(train=FINE, test=FINE),
        ),
        (_looks(0.9, 0.8, 0.7), Finals(train=Score(float("nan"), 0.5), test=FINE)),
    ],
)
def test_what_is_not_finite_diverged(said: tuple[Look, ...], returned: Finals) -> None:
    class Blown(_Scripted):
        pass

    Blown.said, Blown.returned = said, returned
    result = run_own_loop(Blown(), RECIPE, "cpu")
    assert result.status is TrainingStatus.DIVERGED
    assert result.test_error == Blown.chance_error
    assert result.steps == result.curve[-1].step


@pytest.mark.parametrize(
    ("said", "returned", "message"),
    [
        (_looks(0.9, 0.8), Finals(train=FINE, test=FINE), "ended after 2 looks of 3"),
        (_looks(0.9, 0.8, 0.7, 0.6), Finals(train=FINE, test=FINE), "more than 3 looks"),
        (_looks(0.9, 0.8, 0.7), None, "returned None; it must return Finals"),
        (({"loss": 1},), None, "it must yield a Look, or None"),
        (_looks("low"), None, "gives train_loss = 'low'; it must be a number"),
        (
            _looks(0.9, 0.8, 0.7),
            Finals(train=FINE, test=Score(1.0, 0.5, {"brier": None})),
            "gives brier = None; it must be a number",
        ),
        (
            (Look(train_loss=0.9, validation=Score(1.0, 1.5)),),
            None,
            "an error of 1.5; it must lie in",
        ),
        (
            _looks(0.9, 0.8, 0.7),
            Finals(train=FINE, test=Score(1.0, 0.5, {"loss": 1.0})),
            "metrics has the name 'loss'",
        ),
    ],
)
def test_a_loop_that_breaks_its_word_is_told(said: Any, returned: Any, message: str) -> None:
    class Broken(_Scripted):
        pass

    Broken.said, Broken.returned = said, returned
    with pytest.raises(WorkloadError, match=message):
        run_own_loop(Broken(), RECIPE, "cpu")


def test_a_loop_must_be_a_generator() -> None:
    class Plain(Streamed):
        def train(self, run: CellRun) -> Any:
            return Finals(train=FINE, test=FINE)

    with pytest.raises(WorkloadError, match="it must be a generator"):
        run_own_loop(Plain(), RECIPE, "cpu")


def test_what_the_loop_raises_travels() -> None:
    with pytest.raises(ValueError, match="allowed: 'sgd'"):
        run_own_loop(
            SklearnDigits(), Recipe(**{**vars(RECIPE), "optimizer": "adam", "axes": ()}), "cpu"
        )
