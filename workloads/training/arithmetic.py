"""Which arithmetic path a shape takes: fixed by the shape, never by how many cells are packed.

- `STACKED_LAYERS`: an `nn.Sequential` of linear, convolution and a few other layers.
- `STACKED_MODULES`: any other module of supported layers, through torch.func.
- `ONE_BY_ONE`: what cannot be stacked, and what is so large that stacking gains nothing.
- `OWN_LOOP`: what trains its cells itself.
- `DATA_PARALLEL`: what several processes train together, because one device does not hold it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import torch
from torch import Tensor, nn

from workloads.axis import AxisValue
from workloads.base import BaseWorkload, Split, Workload
from workloads.cost import model_cost
from workloads.errors import WorkloadError
from workloads.optimizer import Optimizer
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.self_trained import SelfTrained
from workloads.streams import forked_torch_generator
from workloads.training.data_parallel import DataParallel, require_divisible
from workloads.training.dropout import step_buffers
from workloads.training.initial import initial_model
from workloads.training.layer_stack import LayerStack, layer_stack_fault
from workloads.training.module_stack import ModuleStack, module_fault
from workloads.training.one_by_one import OneByOne
from workloads.training.precision import float32_arithmetic
from workloads.training.scoring import FIRST_EXAMPLES, require_measures
from workloads.training.stepper import Hyperparameters, Stepper, require_trainable

__all__ = ["Arithmetic", "Choice", "choose_arithmetic", "new_stepper"]

TOO_LARGE = "the model is so large that stacking gains nothing"

TRIED_OUT_PARAMETERS = 10**8
"""Of the largest model that is built to plan it (0.4 GB): the machine may hold no larger one."""

TRIAL_MEMBERS = 5
TRIAL_STEPS = 2
TRIAL_EXAMPLES = 77
"""Evaluated after the trial's steps: a number that no vector length divides."""

TRIAL_TOLERANCE = 1e-4
"""Largest difference, relative to the largest value of a tensor, between a stacked and a plain
model after the trial's steps: float32 rounds at 6e-8, and a wrong mask or layer is off by 1."""


class Arithmetic(StrEnum):
    """How a cell's steps are computed; recorded in its row."""

    ONE_BY_ONE = "one by one"
    STACKED_LAYERS = "stacked layers"
    STACKED_MODULES = "stacked modules"
    OWN_LOOP = "own loop"
    DATA_PARALLEL = "data parallel"

    @property
    def stacks(self) -> bool:
        """Whether several cells train at once."""
        return self in (Arithmetic.STACKED_LAYERS, Arithmetic.STACKED_MODULES)


FLOPS_PER_OPERATION = {Arithmetic.STACKED_LAYERS: 2**21, Arithmetic.STACKED_MODULES: 2**16}
"""On a CPU, forward FLOPs of a batch per operation above which a path gains nothing, because each
operation computes for longer than it takes to start. Measured at 6e10 FLOP/s against one by one:
layers 1.8 times as fast at 2²⁰, 1.1 at 2²²; modules, which start more and smaller operations, 3 at
2¹⁵ (attention) and 1.1 (LSTM), then 1.3 and 0.7 at 2¹⁷."""


@dataclass(frozen=True)
class Choice:
    """The path of one shape, and why it is not a faster one."""

    arithmetic: Arithmetic
    reason: str = ""
    """In words; empty where nothing keeps the shape from the fastest path."""


def new_stepper(
    arithmetic: Arithmetic,
    workload: Workload,
    models: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    example: Tensor,
) -> Stepper:
    """Return `models` (on the device of `example`, one input) ready for their first step."""
    if arithmetic in (Arithmetic.ONE_BY_ONE, Arithmetic.DATA_PARALLEL):
        if len(models) != 1:
            raise ValueError(f"{len(models)} cells cannot be stacked {arithmetic}.")
        single = OneByOne if arithmetic == Arithmetic.ONE_BY_ONE else DataParallel
        return single(workload, models[0], recipes[0], example.device)
    if arithmetic == Arithmetic.OWN_LOOP:
        raise ValueError(f"Cells of workload {workload.name!r} are not trained by steps.")
    hyperparameters = Hyperparameters.of(recipes, example.device)
    kind = LayerStack if arithmetic == Arithmetic.STACKED_LAYERS else ModuleStack
    return kind(workload, models, hyperparameters, example)


@lru_cache(maxsize=4096)
def choose_arithmetic(
    workload: BaseWorkload,
    size: AxisValue,
    axes: tuple[tuple[str, AxisValue], ...],
    batch_size: int,
    device_type: str = "cpu",
    optimizer: str = Optimizer.SGD,
    later_batches: tuple[int, ...] = (),
    workers: int = 1,
) -> Choice:
    """Return the path of cells of one model size, batch size and optimizer on 'cpu' or 'cuda'.

    `workers`: how many train a cell together. Raises `WorkloadError` for a model that several
    cannot.

    A stacked path is tried out on a few steps, on the CPU: a member must come out the same to the
    last bit in every place of every stack, and equal to the plain model but for rounding. So at
    every batch size of cells whose batch grows (`later_batches`); whether stacking pays is judged
    by the first, at which most steps are made.
    """
    if workers > 1:
        return _together(workload, size, workers)
    if isinstance(workload, SelfTrained):
        return Choice(Arithmetic.OWN_LOOP, "the workload trains its cells itself")
    assert isinstance(workload, Workload)
    cost = model_cost(workload, size, dict(axes))
    if cost.parameter_count <= TRIED_OUT_PARAMETERS:
        _try_out(workload, size, axes)
    if not workload.stackable:
        return Choice(Arithmetic.ONE_BY_ONE, "the workload says that its cells are not stackable")
    work = cost.forward_flops_per_example * batch_size / cost.forward_operations
    pays = {
        path: device_type != "cpu" or work <= most for path, most in FLOPS_PER_OPERATION.items()
    }
    if not any(pays.values()):
        return Choice(Arithmetic.ONE_BY_ONE, TOO_LARGE)
    pool = load_data(workload, dict(axes)).train
    trials = [
        _Trial(workload, size, axes, batch, pool, optimizer)
        for batch in dict.fromkeys((batch_size, *later_batches))
    ]
    (model,) = trials[0].models(1)

    def fault_of(arithmetic: Arithmetic) -> str | None:
        faults = (trial.fault(arithmetic) for trial in trials)
        return next((fault for fault in faults if fault is not None), None)

    reason = layer_stack_fault(model, pool.inputs[0])
    if reason is None:
        reason = fault_of(Arithmetic.STACKED_LAYERS)
    if reason is None:
        return Choice(Arithmetic.STACKED_LAYERS)
    fault = module_fault(model)
    if fault is None and not pays[Arithmetic.STACKED_MODULES]:
        fault = TOO_LARGE
    fault = fault or fault_of(Arithmetic.STACKED_MODULES)
    if fault is None:
        return Choice(Arithmetic.STACKED_MODULES, reason)
    return Choice(Arithmetic.ONE_BY_ONE, fault)


def _try_out(workload: Workload, size: AxisValue, axes: tuple[tuple[str, AxisValue], ...]) -> None:
    """Raise `WorkloadError` where a model of that size cannot be trained on the data.

    What is wrong with a workload would else be told of each of its cells, after they are trained.
    """
    data = load_data(workload, dict(axes))
    try:
        with forked_torch_generator(workload.name, "arithmetic"), float32_arithmetic():
            model = workload.model(size)
            require_trainable(model)
            require_measures(workload, model, data.validation)
    except WorkloadError:
        raise
    except Exception as error:
        said = [*str(error).strip().splitlines(), ""][0]
        raise WorkloadError(
            f"A model of size {size} cannot be tried out on {FIRST_EXAMPLES} examples of the "
            f"validation set: {type(error).__name__}: {said} Mend its `data`, `model`, `loss`, "
            "`error` or `metrics`; workloads.testing.WorkloadConformance shows the place."
        ) from error


def _together(workload: BaseWorkload, size: AxisValue, workers: int) -> Choice:
    if not isinstance(workload, Workload):
        raise WorkloadError(
            f"Workload {workload.name!r} trains its cells by a loop of its own, which {workers} "
            "workers cannot share. Give its cells one worker under 'resources'."
        )
    with forked_torch_generator(workload.name, "arithmetic"):
        require_divisible(workload.model(size))
    return Choice(Arithmetic.DATA_PARALLEL, f"{workers} workers train each together")


class _Trial:
    """A few steps of a few members, stacked in several ways."""

    def __init__(
        self,
        workload: Workload,
        size: AxisValue,
        axes: tuple[tuple[str, AxisValue], ...],
        batch_size: int,
        pool: Split,
        optimizer: str,
    ) -> None:
        self._workload, self._pool = workload, pool
        self._batch = min(batch_size, len(pool))
        recipe = Recipe(
            train_examples=len(pool),
            model_size=size,
            batch_size=self._batch,
            learning_rate=0.01,
            momentum=0.5,
            optimizer=optimizer,
            steps=TRIAL_STEPS,
            seed=0,
            axes=axes,
        )
        self._recipes = [
            replace(recipe, seed=i % 2, learning_rate=0.01 * (i + 1)) for i in range(TRIAL_MEMBERS)
        ]

    def models(self, number: int, first: int = 0) -> list[nn.Module]:
        """Return new initial models of some members."""
        some = self._recipes[first : first + number]
        return [initial_model(self._workload, recipe) for recipe in some]

    def fault(self, arithmetic: Arithmetic) -> str | None:
        """Return what is wrong with a stacked path for this shape, or None."""
        places = range(TRIAL_MEMBERS)
        try:
            together, states = self._after_steps(arithmetic, 0, TRIAL_MEMBERS)
            alone = [self._after_steps(arithmetic, i, 1) for i in places]
        except WorkloadError:
            raise  # of every path
        except Exception as error:  # a model may raise anything where its layers are replaced
            said = [*str(error).strip().splitlines(), ""][0]
            if "randomness" in said:  # of vmap, which users do not see
                return f"{arithmetic}: it draws from torch's generator, as nn.Dropout does not here"
            return f"{arithmetic}: {type(error).__name__}: {said}"
        plain, plain_state = self._after_steps(Arithmetic.ONE_BY_ONE, 3, 1)
        (model,) = self.models(1, 3)
        for name, buffer in model.named_buffers():
            kept = plain_state[f"buffer {name}"][0]
            if name not in step_buffers(model) and not buffer.equal(kept):
                return f"{arithmetic}: its steps change the buffer {name!r}"
        for i, (own, state) in zip(places, alone, strict=True):
            equal = torch.equal(own, together[i : i + 1])
            # The velocities too: small steps hide a gradient's last bit from the outputs.
            if not equal or any(not torch.equal(state[k][0], states[k][i]) for k in state):
                return f"{arithmetic}: at this shape it rounds by the place in the stack"
        largest = (plain - alone[3][0]).abs().max()
        if not largest <= TRIAL_TOLERANCE * plain.abs().max():
            return f"{arithmetic}: the stacked model is not the plain one (off by {largest:.3g})"
        return None

    def _after_steps(
        self, arithmetic: Arithmetic, first: int, number: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the (number, m) losses and outputs of members, and their state, after the steps.

        The steps are the trial's.
        """
        members = range(first, first + number)
        pool = self._pool
        stepper = new_stepper(
            arithmetic,
            self._workload,
            self.models(number, first),
            [self._recipes[i] for i in members],
            pool.inputs[0],
        )
        seen = []
        with float32_arithmetic(), stepper.running():
            for step in range(TRIAL_STEPS):
                rows = torch.cat([self._rows(i, step) for i in members])
                seen.append(
                    stepper.step(step, pool.inputs[rows], pool.targets[rows]).view(number, 1)
                )
            rows = torch.stack([torch.arange(TRIAL_EXAMPLES) % len(pool)] * number)
            outputs = stepper.outputs(slice(0, number), pool.inputs[rows])
        return torch.cat([*seen, outputs.reshape(number, -1)], 1), stepper.state()

    def _rows(self, member: int, step: int) -> Tensor:
        start = (member * TRIAL_STEPS + step) * self._batch
        return torch.arange(start, start + self._batch) % len(self._pool)
