# ruff: noqa: D102, NPY002  (tests are named as sentences; NumPy's global state is what is watched)
"""What both conformance suites check, and what they check it with."""

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import pickle
import random
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from workloads.axis import Axis, AxisError, AxisKind, AxisValue
from workloads.base import BaseWorkload
from workloads.optimizer import Optimizer
from workloads.outcome import TrainingResult, TrainingStatus
from workloads.recipe import Recipe
from workloads.registry import contract_faults
from workloads.resident import set_sizes
from workloads.streams import forked_torch_generator

__all__ = [
    "SAMPLE",
    "Conformance",
    "generators_kept",
    "generators_moved",
    "in_fresh_process",
    "require",
]

SAMPLE = 256
"""Examples on which models are tried."""


class Conformance(ABC):
    """What every workload is held to; a suite adds `trained` and tests of its own."""

    workload: ClassVar[type[Any]]
    """The class under test."""
    sizes: ClassVar[tuple[AxisValue, ...]] = ()
    """Model sizes to try; the last is typical. Empty: the smallest, and 16 times that."""
    other_values: ClassVar[Mapping[str, AxisValue]] = {}
    """For an axis, a second value to try; where absent, one is made from its default or bounds."""
    learning_rate: ClassVar[float] = 0.1
    """Rate at which `steps` steps lower the training loss."""
    steps: ClassVar[int] = 60
    """Updates of the short training runs."""
    momentum: ClassVar[float] = 0.5
    """Of these runs; 0 where a loop has none."""
    optimizer: ClassVar[str] = Optimizer.SGD
    """Of these runs: a word of `workloads.optimizer`."""

    @abstractmethod
    def trained(self, recipe: Recipe) -> TrainingResult:
        """Return the result of one cell, trained here."""

    def test_class_fulfils_the_contract(self) -> None:
        faults = contract_faults(self.workload)
        require(not faults, "; ".join(faults))

    def test_instances_can_be_pickled(self) -> None:
        try:
            copy = pickle.loads(pickle.dumps(self.workload()))
        except Exception as error:
            raise AssertionError(
                f"An instance cannot be sent to a worker: {type(error).__name__}: {error}. "
                "Keep no files, locks or lambdas in it, and define its class in a module."
            ) from error
        require(type(copy) is self.workload, "Pickling gives an instance of another class.")

    def test_training_twice_gives_the_same_result(self) -> None:
        first, _, second = (
            replace(self.trained(replace(self._recipe(), seed=seed)), wall_seconds=0.0)
            for seed in (0, 1, 0)
        )
        require(first == second, "The same recipe gave two results in one process.")

    def _defaults(self) -> dict[str, AxisValue]:
        return {a.name: a.cast(a.default) for a in sorted(self.workload.axes, key=lambda a: a.name)}

    def _sizes(self) -> tuple[AxisValue, ...]:
        axis = self.workload.model_size
        if self.sizes:
            return self.sizes
        if axis.choices:
            return tuple(axis.choices[:2])
        if not np.isfinite(axis.minimum) or axis.kind is AxisKind.TEXT or axis.minimum <= 0:
            raise AssertionError(f"model_size allows {axis.allowed()}: set `sizes` in the test.")
        return axis.cast(axis.minimum), axis.cast(min(16 * axis.minimum, axis.maximum))

    def _other_value(self, axis: Axis) -> AxisValue:
        if axis.name in self.other_values:
            return axis.cast(self.other_values[axis.name])
        candidates: list[Any] = [*axis.choices]
        if axis.kind is not AxisKind.TEXT:
            default: Any = axis.default
            candidates += [default * 2, default / 2, default + 1, axis.minimum, axis.maximum]
        for candidate in candidates:
            with contextlib.suppress(AxisError):
                if axis.cast(candidate) != axis.cast(axis.default):
                    return axis.cast(candidate)
        raise AssertionError(f"No second value of axis {axis.name!r} is known: set other_values.")

    def _recipe(self) -> Recipe:
        pool = set_sizes(self.workload(), self._defaults()).pool
        return Recipe(
            train_examples=min(SAMPLE, pool),
            model_size=self._sizes()[-1],
            batch_size=min(32, pool),
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            optimizer=self.optimizer,
            steps=self.steps,
            seed=0,
            axes=tuple(self._defaults().items()),
            evaluation_schedule="geometric:3",
        )

    def _require_lower_loss(self, result: TrainingResult, initial: float, said: str) -> None:
        recipe = self._recipe()
        require(
            result.status is TrainingStatus.COMPLETED
            and result.train_loss is not None
            and result.train_loss < initial,
            f"After {recipe.steps} steps at rate {recipe.learning_rate:g} the training loss is "
            f"{result.train_loss} ({result.status}); {said} {initial:g}. Where the rate does not "
            "suit the task, set learning_rate or steps.",
        )


def require(condition: bool, message: str) -> None:
    """Fail with `message`; unlike `assert`, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


def generators_kept(what: str, action: Callable[[], object]) -> None:
    """Fail unless `action` leaves the global random generators as they are."""
    with generators_moved():
        before = _generator_states()
        action()
        unchanged = _generator_states() == before
    require(
        unchanged, f"{what} uses or seeds a global random generator (of random, NumPy or torch)."
    )


@contextlib.contextmanager
def generators_moved() -> Iterator[None]:
    """Run the block with all global generators in a state that nobody else sets, then restore."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(4711)
    np.random.seed(4711)
    try:
        with forked_torch_generator("conformance", "moved"):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def in_fresh_process(
    digest: Callable[..., dict[str, str]], kind: type[BaseWorkload], *arguments: Any
) -> dict[str, str]:
    """Return `digest(kind, *arguments)` as a process finds it that knows nothing of this one."""
    call = [
        digest.__module__,
        digest.__name__,
        kind.__module__,
        inspect.getfile(kind),
        kind.__qualname__,
        list(arguments),
    ]
    script = "import sys; from workloads.testing.conformance import answer; answer(sys.argv[1])"
    process = subprocess.run(
        [sys.executable, "-c", script, json.dumps(call)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=False,
    )
    require(process.returncode == 0, f"In a fresh process:\n{process.stderr}")
    found: dict[str, str] = json.loads(process.stdout.splitlines()[-1])
    return found


def answer(call: str) -> None:
    """Write the digest that the parent process asks for: the body of the fresh process."""
    home, function, module_name, file, qualified_name, arguments = json.loads(call)
    if importlib.util.find_spec(module_name.partition(".")[0]) is not None:
        module = importlib.import_module(module_name)
    else:  # a test file, which pytest imports by its path
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    kind: Any = module
    for part in qualified_name.split("."):
        kind = getattr(kind, part)
    digest = getattr(importlib.import_module(home), function)
    sys.stdout.write(json.dumps(digest(kind, *arguments)) + "\n")


def _generator_states() -> tuple[Any, ...]:
    return (
        random.getstate(),
        pickle.dumps(np.random.get_state()),
        torch.get_rng_state().numpy().tobytes(),
    )
