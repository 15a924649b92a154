# ruff: noqa: D102  (tests are named as sentences)
"""The suite for a `Workload`, whose cells the trainer trains."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from workloads.axis import AxisValue
from workloads.base import Data, Split, Workload
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.streams import forked_torch_generator, stream
from workloads.testing.conformance import (
    SAMPLE,
    Conformance,
    generators_kept,
    generators_moved,
    in_fresh_process,
    require,
)
from workloads.training.arithmetic import choose_arithmetic
from workloads.training.initial import initial_model
from workloads.training.lockstep import Lockstep, train
from workloads.training.sampling import training_shard
from workloads.training.scoring import evaluate, mixing_fault

__all__ = ["WorkloadConformance"]

TRAINED_ON = ("data", "training_targets", "training_inputs")
"""What an axis may change."""

STACKED_STEPS = 20
"""Updates of the cells that are trained alone and in a stack."""

TOGETHER = 64
"""Examples whose outputs are computed together and in parts: enough to stand beside one."""

MOVE = 0.1
"""Spread of what is added to parameters that may begin at 0; that of the weights of 100 inputs."""

STANDARD_ERRORS = 4.0
"""Allowed distance of the declared chance error from the measured: a false alarm in 16,000."""


class WorkloadConformance(Conformance):
    """Subclass as `Test…` and set `workload`; every method is one test."""

    workload: ClassVar[type[Workload]]
    """The class under test."""
    inputs_may_repeat: ClassVar[bool] = False
    """Whether one input may stand in two sets, as when inputs are few by design."""

    @override
    def trained(self, recipe: Recipe) -> TrainingResult:
        return train(self.workload(), recipe, device="cpu")

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        """Yield outputs that ignore the input, of the shape of `outputs`; override beside classes.

        By default one for each class, taking the last dimension as the classes; of a single number
        an example, which decides between two by a threshold, 1 and -1.
        """
        if outputs.dim() == 1 or outputs.shape[-1] == 1:
            yield from (torch.ones_like(outputs), -torch.ones_like(outputs))
            return
        for index in range(outputs.shape[-1]):
            guess = torch.zeros_like(outputs)
            guess[..., index] = 1.0
            yield guess

    def test_sets_agree_in_shape_and_type(self) -> None:
        for axes, data in self._each_data():
            for split in _splits(data):
                require(len(split) > 0, f"A set is empty{_at(axes)}.")
                for tensor, of_pool in (
                    (split.inputs, data.train.inputs),
                    (split.targets, data.train.targets),
                ):
                    require(
                        tensor.device.type == "cpu", f"data are on {tensor.device}, not the CPU."
                    )
                    require(
                        (tensor.dtype, tensor.shape[1:]) == (of_pool.dtype, of_pool.shape[1:]),
                        f"A set holds {tensor.dtype} {tuple(tensor.shape[1:])}, "
                        f"the pool {of_pool.dtype} {tuple(of_pool.shape[1:])}{_at(axes)}.",
                    )
                    require(
                        not tensor.is_floating_point() or bool(tensor.isfinite().all()),
                        f"Data hold values that are not finite{_at(axes)}.",
                    )

    def test_no_input_is_in_two_sets(self) -> None:
        if self.inputs_may_repeat:
            return
        names = ("pool", "validation set", "test set")
        for axes, data in self._each_data():
            sets = [_row_hashes(split.inputs) for split in _splits(data)]
            for first, second in ((0, 1), (0, 2), (1, 2)):
                shared = len(sets[first] & sets[second])
                require(
                    not shared,
                    f"{shared} inputs are both in the {names[first]} and the {names[second]}"
                    f"{_at(axes)}. Where that is by design, set inputs_may_repeat = True.",
                )

    def test_a_fresh_process_sees_the_same(self) -> None:
        axes = self._defaults()
        here = _digest(self.workload, axes, self._sizes()[-1])
        there = in_fresh_process(_digest, self.workload, axes, self._sizes()[-1])
        for what, value in here.items():
            require(
                there[what] == value,
                f"{what} differ between processes. Draw randomness from what the method is given "
                "or from a fixed seed, never from global state or the order of a set.",
            )

    def test_axes_change_what_is_trained_on(self) -> None:
        defaults = self._defaults()
        before = _digest(self.workload, defaults, self._sizes()[-1])
        for axis in self.workload.axes:
            other = {**defaults, axis.name: self._other_value(axis)}
            after = _digest(self.workload, other, self._sizes()[-1])
            require(
                any(before[what] != after[what] for what in TRAINED_ON),
                f"Axis {axis.name!r} changes nothing between {axis.default!r} and "
                f"{other[axis.name]!r}: none of {', '.join(TRAINED_ON)}.",
            )
            require(
                before["data"] == after["data"]
                or before["data_fingerprint"] != after["data_fingerprint"],
                f"Axis {axis.name!r} changes the data, but not their data_fingerprint.",
            )
            require(
                _digest(self.workload, defaults, self._sizes()[-1]) == before,
                f"Asking for {axis.name!r} = {other[axis.name]!r} changed the data at the default.",
            )

    def test_training_targets_do_not_change_the_pool(self) -> None:
        axes = self._defaults() | {a.name: self._other_value(a) for a in self.workload.axes}
        pool = self._data(axes).train
        kept = pool.targets.clone()
        first = self.workload().training_targets(pool.targets, axes, stream("conformance"))
        require(torch.equal(pool.targets, kept), "training_targets changes its argument.")
        second = self.workload().training_targets(pool.targets, axes, stream("conformance"))
        require(
            (first.dtype, first.shape) == (kept.dtype, kept.shape),
            f"training_targets returns {first.dtype} {tuple(first.shape)}, "
            f"given {kept.dtype} {tuple(kept.shape)}.",
        )
        require(
            torch.equal(first, second),
            "training_targets differs for the same stream: all its randomness must come from it.",
        )

    def test_training_inputs_are_each_examples_own(self) -> None:
        axes = self._defaults() | {a.name: self._other_value(a) for a in self.workload.axes}
        inputs = self._data(axes).train.inputs[:SAMPLE]
        kept = inputs.clone()
        changed = _training_inputs(self.workload, axes, inputs)
        require(torch.equal(inputs, kept), "training_inputs changes its argument.")
        require(
            (changed.dtype, changed.shape) == (kept.dtype, kept.shape),
            f"training_inputs returns {changed.dtype} {tuple(changed.shape)}, "
            f"given {kept.dtype} {tuple(kept.shape)}.",
        )
        first = len(inputs) // 2
        half = _training_inputs(self.workload, axes, inputs[first:], first)
        require(
            torch.equal(half, changed[first:]),
            "What training_inputs makes of an example depends on the others, or on draws that are "
            "not its own: draw with `draw` alone, and compute row by row.",
        )

    def test_a_shard_lies_in_every_larger_one_of_its_seed(self) -> None:
        axes = self._defaults() | {a.name: self._other_value(a) for a in self.workload.axes}
        pool = self._data(axes).train
        recipe = replace(self._recipe(), axes=tuple(axes.items()))
        sizes = [len(pool), len(pool) // 2, max(1, len(pool) // 64)]
        whole, *parts = (
            training_shard(self.workload(), replace(recipe, train_examples=size), pool)
            for size in sizes
        )
        for part in parts:
            same = torch.equal(part.inputs, whole.inputs[: len(part)]) and torch.equal(
                part.targets, whole.targets[: len(part)]
            )
            require(
                same,
                f"The shard of {len(part)} examples is not the head of the shard of {len(whole)}, "
                "with the same targets: what training_targets makes of an example must be the same "
                "in every call for one seed.",
            )

    def test_a_cell_is_the_same_alone_and_in_a_stack(self) -> None:
        recipe = replace(self._recipe(), steps=min(self.steps, STACKED_STEPS))
        arithmetic = choose_arithmetic(
            self.workload(), recipe.model_size, recipe.axes, recipe.batch_size
        ).arithmetic
        if not arithmetic.stacks:
            return  # its cells are trained one by one, also where many are to be trained
        recipes = [
            recipe,
            replace(recipe, seed=1, learning_rate=recipe.learning_rate / 2),
            replace(recipe, seed=2, momentum=0.0, steps=max(1, recipe.steps // 2)),
        ]
        together = dict(Lockstep(self.workload(), recipes, arithmetic, "cpu").run())
        for place, own in enumerate(recipes):
            alone = train(self.workload(), own, device="cpu", arithmetic=arithmetic)
            require(
                replace(alone, wall_seconds=0.0) == replace(together[place], wall_seconds=0.0),
                f"Cell {place} of a stack of {len(recipes)} came out differently than alone "
                f"({arithmetic}). Give equal targets and models for equal seeds, compute losses "
                "example by example, or set stackable = False.",
            )

    def test_models_of_every_size_build_and_give_one_value_an_example(self) -> None:
        data = self._data(self._defaults())
        for size in self._sizes():
            model = self._model(size)
            outputs, targets = self._outputs(model, data.train)
            for what, values in self._measured(outputs, targets).items():
                require(
                    values.shape == (len(targets),),
                    f"{what} has shape {tuple(values.shape)} for {len(targets)} examples; "
                    f"it must be ({len(targets)},), one value an example.",
                )
                require(bool(values.float().isfinite().all()), f"{what} is not finite.")
            error = self.workload().error(outputs, targets).float()
            require(
                bool(((error >= 0) & (error <= 1)).all()),
                f"error lies in [{error.min():g}, {error.max():g}]; it must lie in [0, 1].",
            )

    def test_the_loss_of_an_example_does_not_depend_on_the_others(self) -> None:
        outputs, targets = self._outputs(
            self._model(self._sizes()[-1]), self._data(self._defaults()).train
        )
        place = len(targets) // 2
        own = slice(place, place + 1)
        together = self._measured(outputs, targets)
        alone = self._measured(outputs[own], targets[own])
        require(
            set(alone) == set(together),
            f"Of one example {', '.join(alone)} are measured, of many {', '.join(together)}.",
        )
        for what, values in together.items():
            # Rounding of one float32 sum may depend on how many rows are computed at once.
            require(
                torch.allclose(alone[what].float(), values[own].float(), rtol=1e-4, atol=1e-6),
                f"The {what} of an example is {alone[what].tolist()} alone, "
                f"{values[own].tolist()} among others.",
            )

    def test_the_outputs_of_an_example_do_not_depend_on_the_others(self) -> None:
        validation = self._data(self._defaults()).validation
        some = Split(validation.inputs[:TOGETHER], validation.targets[:TOGETHER])
        model = _moved(self._model(self._sizes()[-1])).eval()
        places, half = range(len(some)), len(some) // 2
        parts = (places[:half], places[half:], places[::-1], places[:1], places[half : half + 1])
        with torch.no_grad():
            outputs = model(some.inputs)
            fault = mixing_fault(self.workload(), model, some, outputs, filter(len, parts))
        require(fault is None, f"{fault}")

    def test_an_evaluation_is_the_same_every_time(self) -> None:
        inputs = self._data(self._defaults()).validation.inputs[:SAMPLE]
        model = self._model(self._sizes()[-1]).eval()
        with torch.no_grad():
            first, second = model(inputs), model(inputs)
        require(
            torch.equal(first, second),
            "A model in evaluation gives other outputs for the same inputs: functional.dropout "
            "needs training=self.training, and nothing else may be drawn or counted.",
        )

    def test_every_parameter_receives_a_gradient(self) -> None:
        model = self._model(self._sizes()[-1])
        outputs, targets = self._outputs(model, self._data(self._defaults()).train)
        self.workload().loss(outputs, targets).mean().backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                require(
                    parameter.grad is not None and bool(parameter.grad.count_nonzero()),
                    f"No gradient reaches parameter {name!r}: it is never trained.",
                )

    def test_initialization_follows_the_forked_generator(self) -> None:
        size = self._sizes()[-1]
        first = _parameters(self._model(size, seed=0))
        with generators_moved():
            again = _parameters(self._model(size, seed=0))
        other = _parameters(self._model(size, seed=1))
        for name, value in first.items():
            require(
                torch.equal(value, again[name]),
                f"Parameter {name!r} differs for the same seed: draw from torch's generator only.",
            )
        random_ones = [
            name for name, value in first.items() if bool((value != value.flatten()[0]).any())
        ]
        require(
            not random_ones or any(not torch.equal(first[n], other[n]) for n in random_ones),
            "The initialization is the same for every seed: the model must not seed a generator.",
        )

    def test_chance_error_is_that_of_the_best_constant_guess(self) -> None:
        for axes, data in self._each_data():
            validation = data.validation
            with torch.no_grad():
                one = self._model(self._sizes()[0]).eval()(validation.inputs[:1])
            outputs = one.expand(len(validation), *one.shape[1:])
            best = min(
                self.workload().error(guess, validation.targets).double().mean().item()
                for guess in self.constant_guesses(outputs)
            )
            declared = self.workload.chance_error
            # The best of many guesses is below chance by sampling, hence the floor of 1 %.
            allowed = 0.01 + STANDARD_ERRORS * (declared * (1 - declared) / len(validation)) ** 0.5
            require(
                abs(best - declared) <= allowed,
                f"chance_error is declared as {declared:g}, but the best constant guess has "
                f"{best:.4g} on the validation set{_at(axes)} (allowed: ± {allowed:.2g}).",
            )

    def test_training_lowers_the_training_loss(self) -> None:
        workload, recipe = self.workload(), self._recipe()
        shard = training_shard(workload, recipe, self._data(self._defaults()).train)
        initial = evaluate(workload, initial_model(workload, recipe), shard).loss
        self._require_lower_loss(self.trained(recipe), initial, "it was")

    def test_global_generators_stay_as_they_are(self) -> None:
        workload, axes = self.workload(), self._defaults()
        pool = self._data(axes).train
        targets = pool.targets
        outputs, some_targets = self._outputs(self._model(self._sizes()[0]), pool)
        for what, action in (
            ("data", lambda: self.workload().data(axes)),
            ("training_targets", lambda: workload.training_targets(targets, axes, stream("c"))),
            (
                "training_inputs",
                lambda: _training_inputs(self.workload, axes, pool.inputs[:SAMPLE]),
            ),
            ("model", lambda: self._model(self._sizes()[0])),
            ("loss", lambda: workload.loss(outputs, some_targets)),
            ("error", lambda: workload.error(outputs, some_targets)),
            ("metrics", lambda: workload.metrics(outputs, some_targets)),
            ("train", lambda: train(workload, self._recipe(), device="cpu")),
        ):
            generators_kept(what, action)

    def _data(self, axes: Mapping[str, AxisValue]) -> Data:
        return self.workload().data(axes)

    def _each_data(self) -> Iterator[tuple[dict[str, AxisValue], Data]]:
        """Yield the axes and the data at their defaults, and where one of them changes the data."""
        defaults = self._defaults()
        data = self._data(defaults)
        yield defaults, data
        for axis in self.workload.axes:
            axes = {**defaults, axis.name: self._other_value(axis)}
            others = self._data(axes)
            if not _equal(others, data):
                yield axes, others

    def _measured(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return loss, error and metrics of examples, by the names that messages have for them."""
        workload = self.workload()
        metrics = workload.metrics(outputs, targets)
        return {
            "loss": workload.loss(outputs, targets),
            "error": workload.error(outputs, targets),
            **{f"metrics[{name!r}]": values for name, values in metrics.items()},
        }

    def _model(self, size: AxisValue, seed: int = 0) -> nn.Module:
        with forked_torch_generator("conformance", seed):
            return self.workload().model(size)

    def _outputs(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        with forked_torch_generator("conformance", "dropout"):
            return model(split.inputs[:SAMPLE]), split.targets[:SAMPLE]


def _splits(data: Data) -> tuple[Split, Split, Split]:
    return data.train, data.validation, data.test


def _equal(one: Data, other: Data) -> bool:
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(_splits(one), _splits(other), strict=True)
    )


def _at(axes: Mapping[str, AxisValue]) -> str:
    values = ", ".join(f"{name} = {value!r}" for name, value in axes.items())
    return f", at {values}" if axes else ""


def _moved(model: nn.Module) -> nn.Module:
    """Return the model, its parameters moved by `MOVE`: some begin at 0, and hide what follows."""
    draws = stream("conformance", "moved")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.as_tensor(draws.standard_normal(parameter.shape)), alpha=MOVE)
    return model


def _row_hashes(inputs: Tensor) -> set[bytes]:
    rows = inputs.detach().numpy()
    return {hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows}


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def _digest(kind: type[Workload], axes: Mapping[str, AxisValue], size: AxisValue) -> dict[str, str]:
    """Return hashes of everything that a workload gives for `axes` and `size`."""
    workload = kind()
    data = workload.data(axes)
    targets = workload.training_targets(data.train.targets, axes, stream("conformance"))
    inputs = _training_inputs(kind, axes, data.train.inputs[:SAMPLE])
    with forked_torch_generator("conformance"):
        parameters = _parameters(workload.model(size))
    values = b"".join(parameters[name].numpy().tobytes() for name in sorted(parameters))
    return {
        "data": data.fingerprint(),
        "data_fingerprint": workload.data_fingerprint(axes),
        "training_targets": hashlib.sha256(targets.numpy().tobytes()).hexdigest(),
        "training_inputs": hashlib.sha256(inputs.numpy().tobytes()).hexdigest(),
        "parameters": hashlib.sha256(values).hexdigest(),
    }


def _training_inputs(
    kind: type[Workload], axes: Mapping[str, AxisValue], inputs: Tensor, first: int = 0
) -> Tensor:
    """Return inputs as training sees them, which are those from `first` on of a sample."""

    def draw(number: int) -> NDArray[np.uint64]:
        words = stream("conformance", "inputs").bit_generator.random_raw(SAMPLE * number)
        return words.reshape(SAMPLE, number)[first : first + len(inputs)]

    return kind().training_inputs(inputs, axes, draw)
