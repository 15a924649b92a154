"""Train one cell: the same recipe gives the same bytes, in whatever process and after whatever.

Exactly the same for one device model, torch build and number of threads, which are the caller's.
A run is made of parts that another engine can share: the shard and its batches (`sampling`), the
update (`heavy_ball`), the initial model, the evaluation and the judgement of divergence.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from workloads.base import Data, Split, Workload
from workloads.cost import model_cost, training_flops
from workloads.evaluation import evaluation_steps
from workloads.heavy_ball import HeavyBall
from workloads.outcome import Evaluation, Progress, Score, TrainingResult, completed, diverged
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.sampling import batches, training_shard
from workloads.streams import forked_torch_generator

__all__ = [
    "ARITHMETIC",
    "TRAINING_VERSION",
    "Evaluation",
    "TrainingResult",
    "evaluate",
    "float32_arithmetic",
    "has_diverged",
    "initial_model",
    "load_data",
    "segments",
    "train",
]

TRAINING_VERSION = 1
"""Raised when the same recipe would give another result; part of a cell's identity."""

ARITHMETIC = "sequential"
"""Name of this arithmetic path: one cell at a time, as the workload's model computes it."""

CHECK_STEPS = 256
"""Steps between two checks that the losses are finite: a check waits for the device, and a diverged
run wastes at most so many steps. At fixed steps, so that the result does not depend on timing."""

DIVERGENCE_RATIO = 100.0
"""A final training loss above so many times the initial one is a divergence: too high a rate often
ends in dead units, with a huge but finite loss. A spike that recovers is none."""

INITIAL_LOSS_EXAMPLES = 1024
"""Examples of the shard on which the initial loss is taken: within a few per cent of the whole
shard's, far finer than `DIVERGENCE_RATIO` needs."""

EVALUATION_CHUNK = 1024
"""Examples evaluated at once: bounds memory; fixed, because sums round by it."""


def train(workload: Workload, recipe: Recipe, *, device: torch.device | str) -> TrainingResult:
    """Train one cell on `device` and return its outcome; a diverged run is one too.

    Changes no global state. Raises `ValueError` when the recipe does not fit the data, and
    whatever the workload raises.
    """
    device = torch.device(device)
    axes = dict(recipe.axes)
    data = load_data(workload, axes, device)
    cost = model_cost(workload, recipe.model_size, axes)
    started = time.perf_counter()
    with (
        float32_arithmetic(),
        forked_torch_generator(workload.name, recipe.seed, "dropout", device=device),
    ):
        shard = training_shard(workload, recipe, data.train)
        model = initial_model(workload, recipe).to(device)
        run = _run(workload, recipe, model, shard, data)
    examples_seen = run.steps * min(recipe.batch_size, len(shard))
    progress = Progress(
        parameter_count=cost.parameter_count,
        steps=run.steps,
        epochs=examples_seen / len(shard),
        examples_seen=examples_seen,
        training_flops=training_flops(cost, examples_seen),
        wall_seconds=time.perf_counter() - started,
        validation_examples=len(data.validation),
        test_examples=len(data.test),
    )
    if run.final is None:
        return diverged(progress, run.curve, chance_error=workload.chance_error)
    return completed(
        progress,
        run.curve,
        train=run.final.train,
        validation=run.final.validation,
        test=run.final.test,
    )


def initial_model(workload: Workload, recipe: Recipe) -> nn.Module:
    """Return the cell's model as it is before the first step, on the CPU, in training mode.

    The same for all cells of one seed and size.
    """
    with forked_torch_generator(
        workload.name, recipe.seed, "initialization", str(recipe.model_size)
    ):
        return workload.model(recipe.model_size).train()


def evaluate(workload: Workload, model: nn.Module, split: Split) -> Score:
    """Return the mean loss and error over `split`; the model is in training mode afterwards."""
    model.eval()
    totals = torch.zeros(2, dtype=torch.float64, device=split.inputs.device)
    chunks = zip(
        torch.split(split.inputs, EVALUATION_CHUNK),
        torch.split(split.targets, EVALUATION_CHUNK),
        strict=True,
    )
    with torch.no_grad():
        for inputs, targets in chunks:
            outputs = model(inputs)
            totals[0] += workload.loss(outputs, targets).sum(dtype=torch.float64)
            totals[1] += workload.error(outputs, targets).sum(dtype=torch.float64)
    model.train()
    loss, error = (totals / len(split)).tolist()
    return Score(loss, error)


def segments(recipe: Recipe) -> Iterator[tuple[int, bool]]:
    """Yield (step, look): the steps at which training pauses, and whether for a look or a check."""
    looks = set(evaluation_steps(recipe.evaluation_schedule, recipe.steps))
    for step in sorted(looks.union(range(CHECK_STEPS, recipe.steps, CHECK_STEPS))):
        yield step, step in looks


def has_diverged(initial_loss: float, train: Score, test: Score) -> bool:
    """Return whether a run that reached its last step counts as diverged all the same."""
    finite = train.is_finite() and test.is_finite()
    return not finite or train.loss > DIVERGENCE_RATIO * initial_loss


@contextmanager
def float32_arithmetic() -> Iterator[None]:
    """Run the block in full float32, with deterministic convolutions, then restore the settings.

    By default cuDNN multiplies float32 convolutions in TF32 (10 bits) and picks its algorithm anew
    in each process.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@dataclass(frozen=True)
class _Final:
    train: Score
    validation: Score
    test: Score


@dataclass(frozen=True)
class _Run:
    steps: int
    curve: tuple[Evaluation, ...]
    final: _Final | None
    """None: diverged."""


def _run(workload: Workload, recipe: Recipe, model: nn.Module, shard: Split, data: Data) -> _Run:
    head = Split(shard.inputs[:INITIAL_LOSS_EXAMPLES], shard.targets[:INITIAL_LOSS_EXAMPLES])
    ball = HeavyBall(model, recipe.learning_rate, recipe.momentum, recipe.weight_decay)
    initial_loss = evaluate(workload, model, head).loss
    stock = batches(workload, recipe, shard)
    curve: list[Evaluation] = []
    step = steps_looked = 0
    losses = 0.0
    for end, look in segments(recipe):
        losses += _descend(workload, model, ball, islice(stock, end - step))
        step = end
        if not math.isfinite(losses):
            return _Run(step, tuple(curve), None)
        if not look:
            continue
        validation = evaluate(workload, model, data.validation)
        seen = step * min(recipe.batch_size, len(shard))
        curve.append(
            Evaluation(
                step=step,
                epoch=seen / len(shard),
                examples_seen=seen,
                train_loss=losses / (step - steps_looked),
                validation_loss=_finite(validation.loss),
                validation_error=_finite(validation.error),
            )
        )
        if not validation.is_finite():
            return _Run(step, tuple(curve), None)
        losses, steps_looked = 0.0, step
    final = _Final(
        evaluate(workload, model, shard), validation, evaluate(workload, model, data.test)
    )
    if has_diverged(initial_loss, final.train, final.test):
        return _Run(step, tuple(curve), None)
    return _Run(step, tuple(curve), final)


def _descend(
    workload: Workload,
    model: nn.Module,
    ball: HeavyBall,
    some_batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Make one update per batch; return the sum of the batches' losses."""
    losses = []
    for inputs, targets in some_batches:
        ball.decay()
        loss = workload.loss(model(inputs), targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        ball.move()
        losses.append(loss.detach())
    return torch.stack(losses).sum(dtype=torch.float64).item()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
