"""Train cells of one shape in lockstep: the same recipe gives the same bytes, alone or in a stack.

Exactly the same for one arithmetic path, device model, torch build and number of threads, which
are the caller's. Members share their data set, model size and batch; everything else is each
one's own. One with fewer steps, or one that diverges, leaves without touching the others.
"""

import math
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.base import Data, ModelCost, Split, Workload
from workloads.cost import model_cost, training_flops
from workloads.optimizer import Optimizer
from workloads.outcome import Evaluation, Progress, Score, TrainingResult, completed, diverged
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.training.arithmetic import Arithmetic, new_stepper
from workloads.training.evaluation import evaluation_at, look_steps
from workloads.training.initial import initial_model
from workloads.training.precision import float32_arithmetic
from workloads.training.scoring import EVALUATION_CHUNK, measures, scores_of, shared_chunks
from workloads.training.stepper import Stepper
from workloads.training.stock import Stock
from workloads.training.trajectory import Trajectory

__all__ = [
    "CHECK_STEPS",
    "DIVERGENCE_RATIO",
    "Lockstep",
    "evaluated_examples",
    "evaluation_flops",
    "train",
]

CHECK_STEPS = 256
"""Steps between two checks that the losses are finite: a check waits for the device, and a diverged
run wastes at most so many steps. At fixed steps, so that the result does not depend on timing."""

DIVERGENCE_RATIO = 100.0
"""A final training loss above so many times the initial one is a divergence: too high a rate often
ends in dead units, with a huge but finite loss. A spike that recovers is none. Where the initial
loss is not positive, one that has risen by so many times its size, or 1."""

INITIAL_LOSS_EXAMPLES = 256
"""Examples of the shard on which the initial loss is taken: within a few per cent of the whole
shard's, far finer than `DIVERGENCE_RATIO` needs."""

EVALUATION_ELEMENTS = 2**20
"""Numbers in the largest activation of an evaluation (4 MB, a share of the processor's cache):
more members than fit are evaluated one group after another, which changes no result."""

STRETCH_EXAMPLES = 2**18
"""Examples of a stretch of steps at most: their places in the pool are drawn together (2 MB)."""

STRETCH_SECONDS = 0.5
"""A stretch is made shorter when it takes longer than this, so that `pause` is called in time; no
result depends on where stretches end."""


REHEARSED_TOGETHER = 4
"""Steps of a rehearsal between two looks at the clock."""

Count = TypeVar("Count", int, NDArray[np.int64])

FLOAT_BYTES = 4

PARAMETER_COPIES = {
    Optimizer.SGD: 3,
    Optimizer.NESTEROV: 4,
    Optimizer.ADAM: 7,
    Optimizer.ADAMW: 7,
}
"""Tensors of a model's size: its values, what the rule keeps of them, and what a step makes."""

SHARD_BYTES = 16
"""Of one example in a member's shard: its place in the pool, and its target."""


@dataclass
class _Member:
    """What the engine knows of one cell under way, beside its tensors."""

    place: int
    """Position among the recipes that were given."""
    recipe: Recipe
    trajectory: Trajectory
    looks: frozenset[int]
    seconds: float = 0.0
    """Its share of the time so far."""
    initial_loss: float = math.nan
    looked: int = 0
    """Step of the last look."""
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    """(step, train loss, validation loss, validation error) of each look."""

    def next_pause(self, step: int) -> int:
        """Return the first step after `step` at which this member is looked at or checked."""
        check = (step // CHECK_STEPS + 1) * CHECK_STEPS
        return min(check, *(look for look in self.looks if look > step))

    def pauses_at(self, step: int) -> bool:
        return step in self.looks or step % CHECK_STEPS == 0


class Lockstep:
    """Cells of one shape under way together."""

    def __init__(
        self,
        workload: Workload,
        recipes: Sequence[Recipe],
        arithmetic: Arithmetic,
        device: torch.device | str,
    ) -> None:
        """Prepare `recipes` for `run`; nothing global is changed.

        Raises `ValueError` when a recipe does not fit the data or the others, and whatever the
        workload raises.
        """
        self._workload, self._arithmetic = workload, arithmetic
        self._device = torch.device(device)
        self._data = _shared_data(workload, recipes, self._device)
        _require_one_shape(recipes)
        order = sorted(range(len(recipes)), key=lambda place: -recipes[place].steps)
        self._members = [_member(place, recipes[place]) for place in order]
        self._trajectory = self._members[0].trajectory
        self._batch = self._trajectory.phases[0].batch
        self._stock = Stock(workload, [m.recipe for m in self._members], self._data.train)
        with float32_arithmetic():
            self._stepper = self._new_stepper()
        self._step = 0
        self._losses = torch.zeros(len(recipes), dtype=torch.float64, device=self._device)
        self._clock = time.perf_counter()
        self._stretch = 1

    @property
    def members(self) -> list[int]:
        """Positions, among the recipes given, of the cells that are still under way."""
        return [member.place for member in self._members]

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._step

    @property
    def bytes_a_member(self) -> int:
        """Estimated memory of one member: its model, activations, and shard."""
        recipe = self._members[0].recipe
        cost = model_cost(self._workload, recipe.model_size, dict(recipe.axes))
        largest = max(phase.batch for phase in self._trajectory.phases)
        activations = largest * self._stepper.elements_per_example * cost.forward_operations
        copies = PARAMETER_COPIES[Optimizer(recipe.optimizer)]
        own = FLOAT_BYTES * (copies * cost.parameter_count + 2 * activations)
        return own + SHARD_BYTES * recipe.train_examples

    def rehearse(self, seconds: float) -> float:
        """Make updates for about so many seconds and return what one took, undisturbed.

        For a measurement: the cells are as good as lost.
        """
        self._descend(self._step + 1, lambda: None)  # whatever only a first step costs
        self._synchronize()
        began, least = time.perf_counter(), math.inf
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            self._descend(self._step + REHEARSED_TOGETHER, lambda: None)
            self._synchronize()
            least = min(least, (time.perf_counter() - start) / REHEARSED_TOGETHER)
        return least

    def run(self, pause: Callable[[], None] = lambda: None) -> Iterator[tuple[int, TrainingResult]]:
        """Yield (position among the recipes, result) as cells end; diverging is one way to end.

        `pause` is called between stretches of steps, when `state` may be asked for: after a look,
        never before it, since who goes on from a state goes on with the next step.
        """
        self._clock = time.perf_counter()
        if self._step == 0:
            self._take_initial_losses()
        while self._members:
            end = min(member.next_pause(self._step) for member in self._members)
            self._descend(end, pause)
            yield from self._look()
            if self._members:
                pause()

    def state(self) -> dict[str, Any]:
        """Return what another process needs to go on: tensors and plain values."""
        return {
            "step": self._step,
            "losses": self._losses.cpu().clone(),
            "tensors": self._stepper.state(),
            "members": [
                {
                    "place": member.place,
                    "seconds": member.seconds,
                    "initial_loss": member.initial_loss,
                    "looked": member.looked,
                    "curve": list(member.curve),
                }
                for member in self._members
            ],
        }

    def load(self, state: Mapping[str, Any], places: Sequence[int | None]) -> None:
        """Go on from what `state` returned, here or in another process.

        `places`: for each recipe that the saved stack was begun with, its position among the
        recipes of this one; None for one that is not wanted any more. Recipes of this stack that
        the saved one had ended or never had are left out.
        """
        saved = [(i, places[known["place"]]) for i, known in enumerate(state["members"])]
        kept = [(i, place) for i, place in saved if place is not None]
        index = {member.place: i for i, member in enumerate(self._members)}
        self._keep(torch.tensor([index[place] for _, place in kept], dtype=torch.int64))
        rows = torch.tensor([i for i, _ in kept], dtype=torch.int64)
        for member, (i, _) in zip(self._members, kept, strict=True):
            known = state["members"][i]
            member.seconds, member.initial_loss = known["seconds"], known["initial_loss"]
            member.looked = known["looked"]
            member.curve = [tuple(look) for look in known["curve"]]
        self._step = state["step"]
        self._losses = state["losses"][rows].to(self._device)
        self._stepper.load({name: tensor[rows] for name, tensor in state["tensors"].items()})

    def _new_stepper(self) -> Stepper:
        models: dict[int, nn.Module] = {}
        copies = []
        for member in self._members:
            seed = member.recipe.seed
            fresh = seed not in models or not self._arithmetic.stacks
            if fresh:
                models[seed] = initial_model(self._workload, member.recipe).to(self._device)
            copies.append(models[seed])
        return new_stepper(
            self._arithmetic,
            self._workload,
            copies,
            [member.recipe for member in self._members],
            self._data.train.inputs[0],
        )

    def _descend(self, end: int, pause: Callable[[], None]) -> None:
        """Make the updates up to step `end`, pausing between stretches."""
        while self._step < end:
            batch = self._trajectory.phase_at(self._step).batch
            most = max(1, STRETCH_EXAMPLES // (len(self._members) * batch))
            until = int(min(end, self._trajectory.phase_end(self._step)))
            steps = min(self._stretch, most, until - self._step)
            rates = self._rates(steps)
            with float32_arithmetic(), self._stepper.running():
                for inputs, targets in self._stock.batches(self._step, steps):
                    if rates is not None:
                        self._stepper.set_learning_rates(next(rates))
                    losses = self._stepper.step(self._step, inputs, targets)
                    self._losses += losses if batch == self._batch else losses * self._share(batch)
                    self._step += 1
            seconds = self._charge_time()
            if seconds < STRETCH_SECONDS / 2 and steps == self._stretch:
                self._stretch *= 2  # one that was cut short says nothing of a longer one
            elif seconds > STRETCH_SECONDS:
                self._stretch = max(1, self._stretch // 2)
            if self._step < end:  # else the members that are due have not been looked at
                pause()

    def _share(self, batch: int) -> float:
        """Return how much a batch's loss counts, in batches of the first phase."""
        return batch / self._batch

    def _rates(self, steps: int) -> Iterator[Tensor] | None:
        """Return the (n,) learning rates of the next steps; None where none of them changes."""
        if all(member.trajectory.constant_rate for member in self._members):
            return None
        factors: dict[Trajectory, NDArray[np.float64]] = {}
        for member in self._members:
            if member.trajectory not in factors:
                factors[member.trajectory] = member.trajectory.rate_factors(self._step, steps)
        rates = [m.recipe.learning_rate * factors[m.trajectory] for m in self._members]
        by_step: Tensor = torch.from_numpy(np.stack(rates, axis=1))
        return iter(by_step.unbind())

    def _look(self) -> Iterator[tuple[int, TrainingResult]]:
        """Check and evaluate the members whose step it is; yield those that end."""
        step = self._step
        due = [i for i, member in enumerate(self._members) if member.pauses_at(step)]
        sums = self._losses.tolist()
        lost = {i for i in due if not math.isfinite(sums[i])}
        lookers = [i for i in due if i not in lost and step in self._members[i].looks]
        validation = self._scores(lookers, self._data.validation)
        for i, score in zip(lookers, validation, strict=True):
            member = self._members[i]
            trajectory = member.trajectory
            seen = trajectory.examples_before(step) - trajectory.examples_before(member.looked)
            mean = sums[i] / (seen / self._batch)
            member.curve.append((step, mean, score.loss, score.error))
            member.looked = step
            if not score.is_finite():
                lost.add(i)
        if lookers:
            self._losses[torch.tensor(lookers, device=self._device)] = 0.0
        enders = [i for i in lookers if i not in lost and self._members[i].recipe.steps == step]
        finals = self._final_scores(enders)
        measured = self._measured(enders)
        self._charge_time()
        results = {i: self._diverged(self._members[i]) for i in lost}
        for i, (train_score, test_score) in zip(enders, finals, strict=True):
            score = measured.get(i) or validation[lookers.index(i)]
            results[i] = self._ended(self._members[i], train_score, score, test_score)
        if results:
            ended = [(self._members[i].place, results[i]) for i in sorted(results)]
            self._keep(_kept(len(self._members), results.keys()))
            yield from ended

    def _ended(
        self, member: _Member, train_score: Score, validation: Score, test_score: Score
    ) -> TrainingResult:
        if has_diverged(member.initial_loss, train_score, test_score):
            return self._diverged(member)
        return completed(
            self._progress(member),
            self._curve(member),
            train=train_score,
            validation=validation,
            test=test_score,
        )

    def _diverged(self, member: _Member) -> TrainingResult:
        chance = self._workload.chance_error
        return diverged(self._progress(member), self._curve(member), chance_error=chance)

    def _progress(self, member: _Member) -> Progress:
        recipe = member.recipe
        cost = model_cost(self._workload, recipe.model_size, dict(recipe.axes))
        examples_seen = member.trajectory.examples_before(self._step)
        return Progress(
            parameter_count=cost.parameter_count,
            steps=self._step,
            epochs=examples_seen / recipe.train_examples,
            examples_seen=examples_seen,
            training_flops=training_flops(cost, examples_seen),
            wall_seconds=member.seconds,
            validation_examples=len(self._data.validation),
            test_examples=len(self._data.test),
        )

    def _curve(self, member: _Member) -> list[Evaluation]:
        return [
            evaluation_at(member.recipe, step, train_loss, Score(loss, error))
            for step, train_loss, loss, error in member.curve
        ]

    def _take_initial_losses(self) -> None:
        for members, rows in self._stock.shards(range(len(self._members)), INITIAL_LOSS_EXAMPLES):
            for i, score in zip(members, self._scores_of_shards(members, rows), strict=True):
                self._members[i].initial_loss = score.loss

    def _final_scores(self, members: Sequence[int]) -> list[tuple[Score, Score]]:
        """Return the scores on the whole shard and on the test set of members at their end."""
        train_scores: dict[int, Score] = {}
        for some, rows in self._stock.shards(members):
            scores = self._scores_of_shards(some, rows)
            train_scores |= dict(zip(some, scores, strict=True))
        test_scores = self._scores(members, self._data.test, with_metrics=True)
        return [(train_scores[i], test) for i, test in zip(members, test_scores, strict=True)]

    def _measured(self, members: Sequence[int]) -> dict[int, Score]:
        """Return the validation scores, with the workload's metrics, of members at their end.

        Empty where it has none: the looks' own scores then do.
        """
        if not measures(self._workload):
            return {}
        scores = self._scores(members, self._data.validation, with_metrics=True)
        return dict(zip(members, scores, strict=True))

    def _scores(
        self, members: Sequence[int], split: Split, *, with_metrics: bool = False
    ) -> list[Score]:
        """Return the scores of `members`, ascending, on one set."""
        scores: list[Score] = []
        for some in self._groups(members, min(len(split), EVALUATION_CHUNK)):
            chunks = shared_chunks(split)
            scores += scores_of(
                self._workload, self._stepper, some, chunks, with_metrics=with_metrics
            )
        return scores

    def _scores_of_shards(self, members: Sequence[int], examples: int) -> list[Score]:
        """Return the scores of `members`, ascending, each on the head of its own shard."""
        scores: list[Score] = []
        for some in self._groups(members, min(examples, EVALUATION_CHUNK)):
            chunks = self._stock.shard_chunks(some, examples)
            scores += scores_of(self._workload, self._stepper, some, chunks)
        return scores

    def _groups(self, members: Sequence[int], examples: int) -> Iterator[slice]:
        """Yield slices that cover `members`, each small enough to be evaluated at once."""
        most = max(1, EVALUATION_ELEMENTS // (examples * self._stepper.elements_per_example))
        for stretch in _stretches(members):
            for start in range(stretch.start, stretch.stop, most):
                yield slice(start, min(start + most, stretch.stop))

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _keep(self, members: Tensor | slice) -> None:
        places = torch.arange(len(self._members))[members].tolist()
        self._members = [self._members[i] for i in places]
        self._stock.keep(places)
        self._losses = self._losses[members]
        self._stepper.keep(members)

    def _charge_time(self) -> float:
        """Charge the members for the time since the last call, and return it."""
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        for member in self._members:
            member.seconds += seconds / len(self._members)
        return seconds


def train(
    workload: Workload,
    recipe: Recipe,
    *,
    device: torch.device | str,
    arithmetic: Arithmetic = Arithmetic.ONE_BY_ONE,
) -> TrainingResult:
    """Train one cell on `device` and return its outcome; a diverged run is one too.

    Changes no global state. Raises `ValueError` when the recipe does not fit the data, and
    whatever the workload raises.
    """
    ((_, result),) = Lockstep(workload, [recipe], arithmetic, device).run()
    return result


def has_diverged(initial_loss: float, train_score: Score, test_score: Score) -> bool:
    """Return whether a run that reached its last step counts as diverged all the same."""
    finite = train_score.is_finite() and test_score.is_finite()
    if initial_loss > 0:
        highest = DIVERGENCE_RATIO * initial_loss
    else:  # a loss without a floor at 0, such as of a density; it has a scale of 1 at least
        highest = initial_loss + DIVERGENCE_RATIO * max(1.0, -initial_loss)
    return not finite or train_score.loss > highest


def evaluation_flops(
    cost: ModelCost,
    recipe: Recipe,
    *,
    validation_examples: int,
    test_examples: int,
    with_metrics: bool = False,
) -> float:
    """Return the operations of all evaluations of one cell: known before it trains.

    Looks at the validation set, the initial loss, and the scores on shard and test set at the end.
    `with_metrics`: the workload has metrics, for which the validation set is seen once more.
    """
    looks = len(look_steps(recipe.evaluation_schedule, Trajectory.of(recipe))) + with_metrics
    examples = evaluated_examples(looks, recipe.train_examples, validation_examples, test_examples)
    return float(cost.forward_flops_per_example * int(examples))


def evaluated_examples(
    looks: Count, train_examples: Count, validation_examples: Count, test_examples: Count
) -> Count:
    """Return the examples of all evaluations of a cell, or of each of many cells.

    `looks`: at the whole validation set.
    """
    initial: Count = np.minimum(INITIAL_LOSS_EXAMPLES, train_examples)
    return looks * validation_examples + initial + train_examples + test_examples


def _shared_data(workload: Workload, recipes: Sequence[Recipe], device: torch.device) -> Data:
    sets = [load_data(workload, dict(axes), device) for axes in {r.axes: 0 for r in recipes}]
    if any(data is not sets[0] for data in sets):
        raise ValueError(
            f"Cells of workload {workload.name!r} that train on different data cannot be stacked."
        )
    return sets[0]


def _require_one_shape(recipes: Sequence[Recipe]) -> None:
    shapes = {(r.model_size, Trajectory.of(r).batches, r.optimizer) for r in recipes}
    if len(shapes) > 1:
        listed = [
            f"model_size {size}, batch {_in_words(batches)}, {optimizer}"
            for size, batches, optimizer in sorted(shapes)
        ]
        raise ValueError(f"Cells of several shapes cannot be stacked: {'; '.join(listed)}.")


def _in_words(batches: Sequence[tuple[int, int]]) -> str:
    """Return (first step, batch) pairs as in '4, 20 from step 750'."""
    return ", ".join(f"{batch} from step {step}" if step else str(batch) for step, batch in batches)


def _member(place: int, recipe: Recipe) -> _Member:
    trajectory = Trajectory.of(recipe)
    looks = look_steps(recipe.evaluation_schedule, trajectory)
    return _Member(place=place, recipe=recipe, trajectory=trajectory, looks=frozenset(looks))


def _stretches(members: Sequence[int]) -> list[slice]:
    """Return slices that cover `members`, ascending numbers, one for each gapless stretch."""
    stretches: list[slice] = []
    for i in members:
        if stretches and stretches[-1].stop == i:
            stretches[-1] = slice(stretches[-1].start, i + 1)
        else:
            stretches.append(slice(i, i + 1))
    return stretches


def _kept(members: int, leaving: Container[int]) -> Tensor | slice:
    """Return what stays: a slice, which copies nothing, where those at the end leave."""
    kept = [i for i in range(members) if i not in leaving]
    if kept == list(range(len(kept))):
        return slice(len(kept))
    return torch.tensor(kept, dtype=torch.int64)
