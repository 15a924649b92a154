"""Two workloads with training loops of their own: another library's model, and a stream."""

import hashlib
import itertools
from collections.abc import Generator, Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from workloads.axis import Axis, AxisKind, AxisValue, AxisValues
from workloads.base import ModelCost, SetSizes
from workloads.outcome import Score
from workloads.recipe import Recipe
from workloads.schedules import CONSTANT
from workloads.self_trained import CellRun, Finals, Look, SelfTrained
from workloads.streams import permutation, stream, stream_key

Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]


@lru_cache(maxsize=1)
def _digits() -> tuple[Arrays, Arrays, Arrays]:
    inputs, labels = load_digits(return_X_y=True)
    order = permutation(len(labels), "sklearn_digits", "split")
    pool, validation, test = np.split(order, [1000, 1400])
    return tuple((inputs[rows] / 16, labels[rows]) for rows in (pool, validation, test))


class SklearnDigits(SelfTrained):
    """Handwritten digits by scikit-learn's own perceptron: nothing of it is torch."""

    name = "sklearn_digits"
    version = 1
    model_size = Axis(name="model_size", kind=AxisKind.INTEGER, meaning="Hidden units.", minimum=2)
    chance_error = 0.9

    @override
    def sizes(self, axes: AxisValues) -> SetSizes:
        pool, validation, test = (len(labels) for _, labels in _digits())
        return SetSizes(pool=pool, validation=validation, test=test)

    @override
    def data_fingerprint(self, axes: AxisValues) -> str:
        digest = hashlib.sha256()
        for inputs, labels in _digits():
            digest.update(inputs.tobytes() + labels.tobytes())
        return digest.hexdigest()[:16]

    @override
    def cost(self, size: AxisValue, axes: AxisValues) -> ModelCost:
        weights = 64 * int(size) + 10 * int(size)
        return ModelCost(weights + int(size) + 10, 2 * weights)

    @override
    def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
        recipe = run.recipe
        _require(recipe, optimizer="sgd", learning_rate_schedule=CONSTANT)
        # Its alpha spares the biases, is divided by the batch and counts as loss.
        _require(recipe, batch_size_schedule=CONSTANT, weight_decay=0)
        (inputs, labels), validation, test = _digits()
        model = MLPClassifier(
            (recipe.model_size,),
            solver="sgd",
            batch_size=recipe.batch_size,
            learning_rate_init=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterovs_momentum=False,
            alpha=0,
            random_state=stream_key(self.name, recipe.seed) % 2**32,
        )
        losses = []
        for batch in run.batches():
            rows = batch.examples
            model.partial_fit(inputs[rows], labels[rows], classes=np.arange(10))
            losses.append(model.loss_)
            if batch.step + 1 in run.looks:
                yield Look(train_loss=float(np.mean(losses)), validation=_score(model, *validation))
                losses.clear()
            else:
                yield None
        train = _score(model, inputs[run.shard], labels[run.shard])
        return Finals(train=train, test=_score(model, *test))


def _require(recipe: Recipe, **allowed: object) -> None:
    """Raise `ValueError` where a loop cannot follow the recipe."""
    for name, value in allowed.items():
        found = getattr(recipe, name)
        if found != value:
            raise ValueError(f"{name} is {found!r}; allowed: {value!r}.")


def _score(model: MLPClassifier, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> Score:
    chances = model.predict_proba(inputs)
    error = (chances.argmax(1) != labels).mean()
    return Score(float(log_loss(labels, chances, labels=np.arange(10))), float(error))


FEATURES = 8


class _Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Examples of a threshold of a random direction: drawn as they are read, one after another."""

    def __init__(self, what: str, length: int, noise: float) -> None:
        self._what, self._length, self._noise = what, length, noise

    @override
    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        direction = stream("streamed", "direction").standard_normal(FEATURES)
        draws = stream("streamed", self._what)
        for _ in range(self._length):
            x = draws.standard_normal(FEATURES)
            y = float(x @ direction + self._noise * draws.standard_normal() > 0)
            yield torch.tensor(x, dtype=torch.float32), torch.tensor(y)


class Streamed(SelfTrained):
    """A stream that is never whole in memory; a shard is its beginning."""

    name = "streamed"
    version = 1
    model_size = Axis(name="model_size", kind=AxisKind.INTEGER, meaning="Hidden units.", minimum=1)
    axes = (
        Axis(
            name="noise", kind=AxisKind.NUMBER, meaning="Of the threshold.", default=0.1, minimum=0
        ),
    )
    chance_error = 0.5

    @override
    def sizes(self, axes: AxisValues) -> SetSizes:
        return SetSizes(pool=4096, validation=512, test=512)

    @override
    def data_fingerprint(self, axes: AxisValues) -> str:
        first = next(iter(_Stream("pool", 1, float(axes["noise"]))))
        facts = repr((self.version, dict(axes), first))
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    @override
    def cost(self, size: AxisValue, axes: AxisValues) -> ModelCost:
        weights = (FEATURES + 1) * int(size)
        return ModelCost(weights + int(size) + 1, 2 * weights)

    @override
    def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
        recipe, noise = run.recipe, float(dict(run.recipe.axes)["noise"])
        _require(recipe, optimizer="sgd", batch_size_schedule=CONSTANT)
        sizes = self.sizes(dict(recipe.axes))
        batch_size = min(recipe.batch_size, recipe.train_examples)
        shard = DataLoader(
            _Stream("pool", recipe.train_examples, noise), batch_size, drop_last=True
        )
        model = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, int(recipe.model_size)),
            torch.nn.Tanh(),
            torch.nn.Linear(int(recipe.model_size), 1),
        )
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        (group,) = optimizer.param_groups
        losses: list[float] = []
        passes = itertools.chain.from_iterable(itertools.repeat(shard))
        for batch, (inputs, targets) in zip(run.batches(), passes, strict=False):
            group["lr"] = batch.learning_rate  # its examples are the stream's next
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(inputs).squeeze(1), targets
            )
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if batch.step + 1 in run.looks:
                validation = _stream_score(model, _Stream("validation", sizes.validation, noise))
                yield Look(train_loss=float(np.mean(losses)), validation=validation)
                losses.clear()
        return Finals(
            train=_stream_score(model, _Stream("pool", recipe.train_examples, noise)),
            test=_stream_score(model, _Stream("test", sizes.test, noise)),
        )


@torch.no_grad()
def _stream_score(model: torch.nn.Module, examples: _Stream) -> Score:
    sums = torch.zeros(2, dtype=torch.float64)
    number = 0
    for inputs, targets in DataLoader(examples, 128):
        outputs = model(inputs).squeeze(1)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs, targets, reduction="sum"
        )
        sums += torch.stack([losses, ((outputs > 0) != (targets > 0.5)).sum()])
        number += len(targets)
    loss, error = (sums / number).tolist()
    return Score(loss, error)
