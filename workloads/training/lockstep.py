"""Train cells of one shape in lockstep: the same recipe gives the same bytes, alone or in a stack.

Exactly the same for one arithmetic path, device model, torch build and number of threads, which
are the caller's. Members share their data set, model size and batch; everything else is each
one's own. One with fewer steps, or one that diverges, leaves without touching the others.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workloads.base import Data, Split, Workload
from workloads.cost import model_cost, training_flops
from workloads.outcome import Evaluation, Progress, Score, TrainingResult, completed, diverged
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.streams import forked_torch_generator, stream
from workloads.training.arithmetic import Arithmetic, new_stepper
from workloads.training.dropout import own_dropouts
from workloads.training.evaluation import evaluation_steps
from workloads.training.precision import float32_arithmetic
from workloads.training.sampling import BatchOrder, effective_batch, shard_rows
from workloads.training.stepper import Stepper, whole_lanes

__all__ = ["CHECK_STEPS", "DIVERGENCE_RATIO", "Lockstep", "evaluate", "initial_model", "train"]

CHECK_STEPS = 256
"""Steps between two checks that the losses are finite: a check waits for the device, and a diverged
run wastes at most so many steps. At fixed steps, so that the result does not depend on timing."""

DIVERGENCE_RATIO = 100.0
"""A final training loss above so many times the initial one is a divergence: too high a rate often
ends in dead units, with a huge but finite loss. A spike that recovers is none."""

INITIAL_LOSS_EXAMPLES = 256
"""Examples of the shard on which the initial loss is taken: within a few per cent of the whole
shard's, far finer than `DIVERGENCE_RATIO` needs."""

EVALUATION_CHUNK = 1024
"""Examples of one member evaluated at once: bounds memory; fixed, because sums round by it."""

EVALUATION_ELEMENTS = 2**20
"""Numbers in the largest activation of an evaluation (4 MB, a share of the processor's cache):
more members than fit are evaluated one group after another, which changes no result."""

GATHERED_ELEMENTS = 2**18
"""Numbers of inputs put into batch order at once (1 MB): one gather serves many small steps."""

STRETCH_EXAMPLES = 2**18
"""Examples of a stretch of steps at most: their places in the pool are drawn together (2 MB)."""

STRETCH_SECONDS = 0.5
"""A stretch is made shorter when it takes longer than this, so that `pause` is called in time; no
result depends on where stretches end."""


@dataclass
class _Member:
    """What the engine knows of one cell under way, beside its tensors."""

    place: int
    """Position among the recipes that were given."""
    recipe: Recipe
    looks: frozenset[int]
    seconds: float = 0.0
    """Its share of the time so far."""
    initial_loss: float = math.nan
    looked: int = 0
    """Step of the last look."""
    curve: list[tuple[int, float | None, float | None, float | None]] = field(default_factory=list)
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
        self._batch = effective_batch(recipes[0])
        self._stock = _Stock(workload, [m.recipe for m in self._members], self._data.train)
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

    def run(
        self, pause: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[int, TrainingResult]]:
        """Yield (position among the recipes, result) as cells end; diverging is one way to end.

        `pause` is called between stretches of steps, when `state` may be asked for.
        """
        self._clock = time.perf_counter()
        if self._step == 0:
            self._take_initial_losses()
        while self._members:
            end = min(member.next_pause(self._step) for member in self._members)
            self._descend(end, pause)
            yield from self._look()

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

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned for the same recipes in another process."""
        places = [known["place"] for known in state["members"]]
        index = {member.place: i for i, member in enumerate(self._members)}
        self._keep(torch.tensor([index[place] for place in places], dtype=torch.int64))
        for member, known in zip(self._members, state["members"], strict=True):
            member.seconds, member.initial_loss = known["seconds"], known["initial_loss"]
            member.looked = known["looked"]
            member.curve = [tuple(look) for look in known["curve"]]
        self._step = state["step"]
        self._losses = state["losses"].to(self._device)
        self._stepper.load(state["tensors"])

    def drop(self, places: set[int]) -> None:
        """Leave these cells, by position among the recipes, out of what is still to do."""
        kept = [i for i, member in enumerate(self._members) if member.place not in places]
        self._keep(torch.tensor(kept, dtype=torch.int64))

    def _new_stepper(self) -> Stepper:
        models: dict[int, nn.Module] = {}
        copies = []
        for member in self._members:
            seed = member.recipe.seed
            fresh = seed not in models or self._arithmetic is Arithmetic.ONE_BY_ONE
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
        """Make the updates up to step `end`, pausing after each stretch."""
        most = max(1, STRETCH_EXAMPLES // (len(self._members) * self._batch))
        while self._step < end:
            steps = min(self._stretch, most, end - self._step)
            with float32_arithmetic(), self._stepper.running():
                for inputs, targets in self._stock.batches(self._step, steps):
                    self._losses += self._stepper.step(self._step, inputs, targets)
                    self._step += 1
            seconds = self._charge_time()
            if seconds < STRETCH_SECONDS / 2:
                self._stretch *= 2
            elif seconds > STRETCH_SECONDS:
                self._stretch = max(1, self._stretch // 2)
            pause()

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
            mean = sums[i] / (step - member.looked)
            member.curve.append((step, mean, _finite(score.loss), _finite(score.error)))
            member.looked = step
            if not score.is_finite():
                lost.add(i)
        if lookers:
            self._losses[torch.tensor(lookers, device=self._device)] = 0.0
        enders = [i for i in lookers if i not in lost and self._members[i].recipe.steps == step]
        finals = self._final_scores(enders)
        self._charge_time()
        results = {i: self._diverged(self._members[i]) for i in lost}
        for i, (train_score, test_score) in zip(enders, finals, strict=True):
            score = validation[lookers.index(i)]
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
        examples_seen = self._step * self._batch
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
            Evaluation(
                step=step,
                epoch=step * self._batch / member.recipe.train_examples,
                examples_seen=step * self._batch,
                train_loss=train_loss,
                validation_loss=validation_loss,
                validation_error=validation_error,
            )
            for step, train_loss, validation_loss, validation_error in member.curve
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
        test_scores = self._scores(members, self._data.test)
        return [(train_scores[i], test) for i, test in zip(members, test_scores, strict=True)]

    def _scores(self, members: Sequence[int], split: Split) -> list[Score]:
        """Return the scores of `members`, ascending, on one set."""
        scores: list[Score] = []
        for some in self._groups(members, min(len(split), EVALUATION_CHUNK)):
            scores += _scores(self._workload, self._stepper, some, _shared_chunks(split))
        return scores

    def _scores_of_shards(self, members: Sequence[int], examples: int) -> list[Score]:
        """Return the scores of `members`, ascending, each on the head of its own shard."""
        scores: list[Score] = []
        for some in self._groups(members, min(examples, EVALUATION_CHUNK)):
            chunks = self._stock.shard_chunks(some, examples)
            scores += _scores(self._workload, self._stepper, some, chunks)
        return scores

    def _groups(self, members: Sequence[int], examples: int) -> Iterator[slice]:
        """Yield slices that cover `members`, each small enough to be evaluated at once."""
        most = max(1, EVALUATION_ELEMENTS // (examples * self._stepper.elements_per_example))
        for first, last in _runs(members):
            for start in range(first, last, most):
                yield slice(start, min(start + most, last))

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


class _Stock:
    """The members' shards and batches, as places in the pool; nothing of it is copied per member.

    Members of one seed and shard see the same batches, which are drawn once.
    """

    def __init__(self, workload: Workload, recipes: Sequence[Recipe], pool: Split) -> None:
        self._pool = pool
        self._device = pool.inputs.device
        self._examples = [recipe.train_examples for recipe in recipes]
        self._batch = effective_batch(recipes[0])
        self._example_elements = max(1, pool.inputs[0].numel())
        orders: dict[tuple[int, int], int] = {}
        noises: dict[tuple[Any, ...], int] = {}
        self._orders: list[BatchOrder] = []
        self._rows: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        targets: list[Tensor] = []
        starts = [0]
        order_of, start_of = [], []
        for recipe in recipes:
            key = recipe.seed, recipe.train_examples
            if key not in orders:
                orders[key] = len(self._orders)
                self._orders.append(BatchOrder(workload, recipe))
                self._rows.append(shard_rows(workload, recipe, len(pool)))
            noise = (*key, recipe.axes)
            if noise not in noises:
                noises[noise] = len(targets)
                rows = torch.from_numpy(self._rows[orders[key]])
                seen = workload.training_targets(
                    pool.targets.cpu(),
                    dict(recipe.axes),
                    stream(workload.name, recipe.seed, "training_targets"),
                )
                targets.append(seen.cpu().index_select(0, rows))
                starts.append(starts[-1] + len(rows))
            order_of.append(orders[key])
            start_of.append(starts[noises[noise]])
        self._targets = torch.cat(targets).to(self._device)
        self._order_of, self._start_of = np.array(order_of), np.array(start_of)

    def batches(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) of `steps` steps from `first`: each (n · B, …), by member."""
        used = np.unique(self._order_of)
        member = np.searchsorted(used, self._order_of)
        positions = np.stack([self._orders[o].positions(first, steps) for o in used], axis=1)
        rows = np.stack([self._rows[o][positions[:, u]] for u, o in enumerate(used)], axis=1)
        rows = rows[:, member].reshape(-1)
        targets = (positions[:, member] + self._start_of[:, None]).reshape(-1)
        step = len(self._order_of) * self._batch
        at_once = step * max(1, GATHERED_ELEMENTS // (step * self._example_elements))
        for start in range(0, len(rows), at_once):
            stretch = slice(start, start + at_once)
            yield from zip(
                torch.split(self._gathered(self._pool.inputs, rows[stretch]), step),
                torch.split(self._gathered(self._targets, targets[stretch]), step),
                strict=True,
            )

    def shards(
        self, members: Sequence[int], most: int | None = None
    ) -> Iterator[tuple[list[int], int]]:
        """Yield members of one size of shard together, with that size (at most `most`)."""
        sizes: dict[int, list[int]] = {}
        for i in members:
            size = self._examples[i] if most is None else min(most, self._examples[i])
            sizes.setdefault(size, []).append(i)
        for size, some in sizes.items():
            yield some, size

    def shard_chunks(self, members: slice, examples: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (k, c, …) inputs and targets of the heads of k members' shards."""
        for first in range(0, examples, EVALUATION_CHUNK):
            places = np.arange(first, min(first + EVALUATION_CHUNK, examples))
            rows = np.stack([self._rows[o][places] for o in self._order_of[members]])
            inputs = self._gathered(self._pool.inputs, rows)
            targets = self._gathered(self._targets, places + self._start_of[members][:, None])
            yield inputs.unflatten(0, rows.shape), targets.unflatten(0, rows.shape)

    def keep(self, members: Sequence[int]) -> None:
        self._examples = [self._examples[i] for i in members]
        self._order_of, self._start_of = self._order_of[members], self._start_of[members]

    def _gathered(self, source: Tensor, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        return source.index_select(0, torch.from_numpy(rows.ravel()).to(self._device))


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


def initial_model(workload: Workload, recipe: Recipe) -> nn.Module:
    """Return the cell's model as it is before the first step, on the CPU, in training mode.

    The same for all cells of one seed and size. Its dropout layers draw from the cell's stream.
    """
    with forked_torch_generator(
        workload.name, recipe.seed, "initialization", str(recipe.model_size)
    ):
        model = workload.model(recipe.model_size).train()
    return own_dropouts(model, workload.name, recipe.seed)


def evaluate(workload: Workload, model: nn.Module, split: Split) -> Score:
    """Return the mean loss and error of a plain model over `split`, as the engine takes them.

    The model is in training mode afterwards.
    """

    def outputs(members: slice, inputs: Tensor) -> Tensor:
        model.eval()
        result: Tensor = model(inputs[0])
        model.train()
        return result

    with torch.no_grad():
        (score,) = _sums(workload, outputs, slice(0, 1), _shared_chunks(split))
    return score


def has_diverged(initial_loss: float, train_score: Score, test_score: Score) -> bool:
    """Return whether a run that reached its last step counts as diverged all the same."""
    finite = train_score.is_finite() and test_score.is_finite()
    return not finite or train_score.loss > DIVERGENCE_RATIO * initial_loss


_Chunks = Iterator[tuple[Tensor, Tensor]]


def _shared_chunks(split: Split) -> _Chunks:
    """Yield (1, c, …) inputs and targets that all members are evaluated on."""
    for inputs, targets in zip(
        torch.split(split.inputs, EVALUATION_CHUNK),
        torch.split(split.targets, EVALUATION_CHUNK),
        strict=True,
    ):
        yield inputs[None], targets[None]


def _scores(
    workload: Workload, stepper: Stepper, members: slice, chunks: _Chunks
) -> list[Score]:
    """Return the mean loss and error of some members of a stack over chunks of examples."""
    with float32_arithmetic(), stepper.running(), torch.no_grad():
        return _sums(workload, stepper.outputs, members, chunks)


def _sums(
    workload: Workload,
    outputs_of: Callable[[slice, Tensor], Tensor],
    members: slice,
    chunks: _Chunks,
) -> list[Score]:
    n = members.stop - members.start
    totals, examples = None, 0
    for inputs, targets in chunks:
        size = inputs.shape[1]
        examples += size
        outputs = outputs_of(members, inputs.expand(n, *inputs.shape[1:]))
        rows = whole_lanes(outputs)
        wanted = whole_lanes(targets.expand(n, *targets.shape[1:]).flatten(0, 1))
        sums = torch.stack(
            [
                values[: n * size].view(n, size).sum(1, dtype=torch.float64)
                for values in (workload.loss(rows, wanted), workload.error(rows, wanted))
            ]
        )
        totals = sums if totals is None else totals + sums
    if totals is None:
        raise ValueError("A set without examples cannot be evaluated.")
    return [Score(loss, error) for loss, error in (totals / examples).T.tolist()]


def _shared_data(workload: Workload, recipes: Sequence[Recipe], device: torch.device) -> Data:
    sets = [load_data(workload, dict(axes), device) for axes in {r.axes: 0 for r in recipes}]
    if any(data is not sets[0] for data in sets):
        raise ValueError(
            f"Cells of workload {workload.name!r} that train on different data cannot be stacked."
        )
    return sets[0]


def _require_one_shape(recipes: Sequence[Recipe]) -> None:
    shapes = {(recipe.model_size, effective_batch(recipe)) for recipe in recipes}
    if len(shapes) > 1:
        raise ValueError(
            f"Cells of several shapes (model_size, batch) cannot be stacked: {sorted(shapes)}."
        )


def _member(place: int, recipe: Recipe) -> _Member:
    looks = evaluation_steps(recipe.evaluation_schedule, recipe.steps)
    return _Member(place=place, recipe=recipe, looks=frozenset(looks))


def _runs(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of the stretches of consecutive numbers in `members`, ascending."""
    first = previous = None
    for i in members:
        if first is None:
            first = i
        elif i != previous + 1:
            yield first, previous + 1
            first = i
        previous = i
    if first is not None:
        yield first, previous + 1


def _kept(members: int, leaving: "Mapping[int, Any] | Sequence[int] | Any") -> Tensor | slice:
    """Return what stays: a slice, which copies nothing, where those at the end leave."""
    gone = set(leaving)
    kept = [i for i in range(members) if i not in gone]
    if kept == list(range(len(kept))):
        return slice(len(kept))
    return torch.tensor(kept, dtype=torch.int64)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
