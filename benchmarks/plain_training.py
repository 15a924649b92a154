"""One cell as a researcher would write it in plain PyTorch: what `throughput` compares with."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workloads.base import Split
from workloads.recipe import Recipe
from workloads.registry import find_workload
from workloads.resident import load_data
from workloads.training.evaluation import evaluation_steps
from workloads.training.initial import initial_model
from workloads.training.sampling import batches, training_shard

__all__ = ["BATCH_SIZE", "MODEL_SIZE", "STEPS", "WORKLOAD", "train_plainly"]

WORKLOAD = "digits"
MODEL_SIZE = 32
BATCH_SIZE = 16
STEPS = 300


@dataclass(frozen=True)
class _Given:
    """What a script of one's own would make from its seed, here as the engine makes it."""

    model: nn.Module
    """Initialized, in training mode."""
    orders: Iterable[Tensor]
    """Rows of `train` for batch after batch."""
    looks: frozenset[int]
    """Steps after which the validation set is looked at."""
    train: Split
    validation: Split
    test: Split


def _given(learning_rate: float, momentum: float, seed: int) -> _Given:
    """Return one cell's model, data and batch order. Nothing else here knows the engine."""
    workload = find_workload(WORKLOAD)
    axes = {axis.name: axis.default for axis in workload.axes}
    data = load_data(workload, axes)
    recipe = Recipe(
        train_examples=len(data.train),
        model_size=MODEL_SIZE,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        momentum=momentum,
        steps=STEPS,
        seed=seed,
        axes=tuple(sorted(axes.items())),
    )
    rows = torch.arange(len(data.train))
    return _Given(
        model=initial_model(workload, recipe),
        orders=(batch for batch, _ in batches(workload, recipe, Split(rows, rows))),
        looks=frozenset(evaluation_steps(recipe.evaluation_schedule, STEPS)),
        train=training_shard(workload, recipe, data.train),
        validation=data.validation,
        test=data.test,
    )


def train_plainly(learning_rate: float, momentum: float, seed: int) -> dict[str, float]:
    """Train one cell on one thread and return its final losses and errors."""
    torch.set_num_threads(1)
    given = _given(learning_rate, momentum, seed)
    model, train = given.model, given.train
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    loss_function = nn.CrossEntropyLoss()
    curve = []
    for step, rows in enumerate(given.orders, start=1):
        optimizer.zero_grad()
        loss = loss_function(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        optimizer.step()
        if step in given.looks:
            curve.append(_evaluate(model, given.validation))
        if step == STEPS:
            break
    result = {"learning_rate": learning_rate, "momentum": momentum, "seed": seed}
    result["best_validation_error"] = min(error for _, error in curve)
    result["validation_loss"], result["validation_error"] = curve[-1]
    result["train_loss"], result["train_error"] = _evaluate(model, train)
    result["test_loss"], result["test_error"] = _evaluate(model, given.test)
    return result


def _evaluate(model: nn.Module, split: Split) -> tuple[float, float]:
    model.eval()
    with torch.no_grad():
        outputs = model(split.inputs)
        loss = nn.functional.cross_entropy(outputs, split.targets)
        error = (outputs.argmax(dim=1) != split.targets).float().mean()
    model.train()
    return loss.item(), error.item()
