"""Whenever a run is paused, its state is enough to go on as if nothing had happened."""

import contextlib
import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.workloads.training import models
from tests.workloads.training.models import DIGITS
from tests.workloads.training.stacks import paused_at_every_step, results_of, stack, timeless
from workloads.base import Workload
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic

SHAPE = replace(DIGITS, model_size=4, train_examples=37)
CELLS = [
    replace(SHAPE, steps=3, seed=1, momentum=0.5),
    replace(SHAPE, steps=8, learning_rate=0.3, weight_decay=0.01),
    replace(SHAPE, steps=5, seed=2, axes=(("label_noise", 0.5),)),
    replace(SHAPE, steps=8, evaluation_schedule="geometric:1", momentum=0.0),
    replace(SHAPE, steps=7, learning_rate=1e30, seed=2),
]

EXACT = {"rtol": 0, "atol": 0, "equal_nan": True}

STACKED = [models.Perceptron, models.Convolutions, models.Normed, models.RowsTransformer]


class DroppingBothWays(models.FunctionalDropout):
    """A dropout layer and draws from torch's generator."""

    name = "dropping both ways"

    def model(self, size: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Dropout(0.2), super().model(size))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def run_with_states(
    workload: Workload, cells: list[Recipe], arithmetic: Arithmetic | None = None
) -> tuple[dict[int, TrainingResult], list[dict[str, Any]]]:
    """Return the results of a run, and its state at each pause."""
    lockstep = stack(workload, cells, arithmetic)
    states: list[dict[str, Any]] = []
    results = results_of(lockstep, pause=lambda: states.append(through_a_file(lockstep.state())))
    return results, states


def under_way(state: dict[str, Any]) -> set[int]:
    return {member["place"] for member in state["members"]}


@pytest.mark.parametrize("kind", STACKED)
def test_a_stack_goes_on_from_every_pause_as_if_it_had_not_been_interrupted(
    kind: type[Workload], monkeypatch: pytest.MonkeyPatch
):
    undisturbed = results_of(stack(kind(), CELLS))
    paused_at_every_step(monkeypatch)
    results, states = run_with_states(kind(), CELLS)
    assert results == undisturbed
    assert [state["step"] for state in states] == list(range(1, 8))
    for state in states:
        resumed = stack(kind(), CELLS)
        resumed.load(state, range(len(CELLS)))
        expected = {i: undisturbed[i] for i in under_way(state)}
        assert results_of(resumed) == expected, f"after step {state['step']}"


@pytest.mark.parametrize("kind", STACKED)
def test_a_stack_goes_on_with_some_of_its_members_in_another_order(
    kind: type[Workload], monkeypatch: pytest.MonkeyPatch
):
    undisturbed = results_of(stack(kind(), CELLS))
    paused_at_every_step(monkeypatch)
    _, states = run_with_states(kind(), CELLS)
    places = [3, None, 0, 2, None]  # of the five begun with, in a stack that never had two of them
    cells = [CELLS[2], replace(SHAPE, seed=77), CELLS[3], CELLS[0]]
    for state in states:
        resumed = stack(kind(), cells)
        resumed.load(state, places)
        expected = {places[i]: undisturbed[i] for i in (0, 2, 3) if i in under_way(state)}
        assert sorted(resumed.members) == sorted(expected)
        assert results_of(resumed) == expected, f"after step {state['step']}"


@pytest.mark.parametrize(
    "kind", [models.Perceptron, models.Normed, models.BatchNormed, DroppingBothWays]
)
def test_a_cell_alone_goes_on_from_every_pause(
    kind: type[Workload], monkeypatch: pytest.MonkeyPatch
):
    cell = CELLS[1]
    undisturbed = results_of(stack(kind(), [cell], Arithmetic.ONE_BY_ONE))
    paused_at_every_step(monkeypatch)
    results, states = run_with_states(kind(), [cell], Arithmetic.ONE_BY_ONE)
    assert results == undisturbed
    assert len(states) == cell.steps - 1
    for state in states:
        torch.rand(3)  # the generator of this process stands elsewhere
        resumed = stack(kind(), [cell], Arithmetic.ONE_BY_ONE)
        resumed.load(state, [0])
        assert results_of(resumed) == undisturbed, f"after step {state['step']}"


def interrupted(state: dict[str, Any], pauses: int) -> tuple[dict[int, TrainingResult], Any]:
    """Go on from `state` until so many pauses; return what ended, and the state, or None."""
    lockstep = stack(models.Normed(), CELLS)
    lockstep.load(through_a_file(state), range(len(CELLS)))
    states: list[dict[str, Any]] = []
    results: dict[int, TrainingResult] = {}

    def pause() -> None:
        states.append(lockstep.state())
        if len(states) == pauses:
            raise InterruptedError

    with contextlib.suppress(InterruptedError):
        results.update((place, timeless(result)) for place, result in lockstep.run(pause))
        return results, None
    return results, states[-1]


def test_a_resumed_stack_can_be_interrupted_again(monkeypatch: pytest.MonkeyPatch):
    undisturbed = results_of(stack(models.Normed(), CELLS))
    paused_at_every_step(monkeypatch)
    results: dict[int, TrainingResult] = {}
    state = stack(models.Normed(), CELLS).state()  # of a stack that has not begun
    for _ in range(4):
        ended, state = interrupted(state, pauses=2)
        results |= ended
    assert state is None
    assert results == undisturbed


def test_a_state_does_not_change_when_training_goes_on(monkeypatch: pytest.MonkeyPatch):
    paused_at_every_step(monkeypatch)
    for kind in (models.Perceptron, models.Normed):
        lockstep = stack(kind(), CELLS)
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []

        def note(lockstep=lockstep, pairs=pairs) -> None:
            pairs.append((lockstep.state(), through_a_file(lockstep.state())))

        results_of(lockstep, pause=note)
        for kept, copied in pairs:
            torch.testing.assert_close(kept["losses"], copied["losses"], **EXACT)
            torch.testing.assert_close(kept["tensors"], copied["tensors"], **EXACT)
            assert [m["curve"] for m in kept["members"]] == [m["curve"] for m in copied["members"]]
