"""What one step of one cell costs: stacked, one by one, in plain PyTorch, and at the limit.

    python -m benchmarks.engine                     # about two minutes
    python -m benchmarks.engine --repetitions 3 --shapes "mlp 32/16"

Every row is one shape (width/batch) on one thread, all ways in turn within each repetition:
- plain: a loop of torch.optim.SGD, zero_grad, forward, backward, step, on one cell;
- vmap(grad): torch.func over a stack, with the update written by hand, at its best stack size;
- ours: the path that the engine takes for the shape, at its best stack size;
- limit: the step's arithmetic at the rate of a large matrix product, or its parameters' traffic at
  the bandwidth of a large copy, whichever is longer.
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.reporting import print_table, settings_lines, spread
from workloads.base import Data, Split, Workload
from workloads.cost import model_cost, training_flops
from workloads.digits import Digits
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.initial import initial_model
from workloads.training.lockstep import Lockstep

STACKS = (1, 4, 16, 64, 128, 256)
SECONDS = 0.15
"""How long each way runs in one repetition, at one stack size."""

BYTES_A_PARAMETER = 16
"""Least traffic of an update in float32: weight and velocity, each read and written."""


class Images(Digits):
    """The digits as images, and a small convolutional network."""

    name = "digit_images"

    def data(self, axes: object) -> Data:
        return _reshaped(super().data(axes), (-1, 1, 8, 8))

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, size, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(size, 2 * size, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * size, self.classes),
        )


class Rows(Digits):
    """The digits row by row, and an LSTM that reads them."""

    name = "digit_rows"

    def data(self, axes: object) -> Data:
        return _reshaped(super().data(axes), (-1, 8, 8))

    def model(self, size: int) -> nn.Module:
        return Reader(size, self.classes)


class Reader(nn.Module):
    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, size, batch_first=True)
        self.out = nn.Linear(size, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.lstm(inputs)[0][:, -1])


def _reshaped(data: Data, shape: tuple[int, ...]) -> Data:
    splits = (data.train, data.validation, data.test)
    return Data(*(Split(split.inputs.view(shape), split.targets) for split in splits))


@dataclass(frozen=True)
class Case:
    """One shape."""

    title: str
    workload: Workload
    size: int
    batch: int

    def recipe(self, seed: int = 0) -> Recipe:
        """Return a cell of the shape, long enough for any measurement."""
        axes = {axis.name: axis.default for axis in self.workload.axes}
        return Recipe(
            train_examples=len(load_data(self.workload, axes).train),
            model_size=self.size,
            batch_size=self.batch,
            learning_rate=0.02,
            momentum=0.9,
            steps=10**6,
            seed=seed,
            axes=tuple(sorted(axes.items())),
        )


CASES = [
    *(
        Case(f"mlp {size}/{batch}", Digits(), size, batch)
        for size, batch in ((16, 16), (32, 16), (64, 32), (128, 64), (256, 128), (1024, 256))
    ),
    Case("cnn 4/16", Images(), 4, 16),
    Case("cnn 8/16", Images(), 8, 16),
    Case("lstm 16/16", Rows(), 16, 16),
    Case("lstm 64/16", Rows(), 64, 16),
]


def seconds_a_call(call: Callable[[], object]) -> float:
    """Return the seconds of one call, from as many as fit into `SECONDS`."""
    call()
    calls, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SECONDS or calls < 3:
        call()
        calls += 1
    return elapsed / calls


def plain(case: Case) -> float:
    """Return the seconds of a step of a plain PyTorch loop."""
    recipe = case.recipe()
    model = initial_model(case.workload, recipe)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    pool = load_data(case.workload, dict(recipe.axes)).train
    rows = torch.randperm(len(pool))[: case.batch]

    def step() -> None:
        optimizer.zero_grad()
        outputs = model(pool.inputs[rows])
        loss = nn.functional.cross_entropy(outputs, pool.targets[rows])
        loss.backward()
        optimizer.step()

    return seconds_a_call(step)


def vmap_grad(case: Case, stack: int) -> float:
    """Return a cell's seconds of a step of torch.func's vmap(grad) over a stack."""
    recipe = case.recipe()
    models = [initial_model(case.workload, replace(recipe, seed=i % 4)) for i in range(stack)]
    values, buffers = stack_module_state(models)
    template = copy.deepcopy(models[0]).to("meta")
    velocities = {name: torch.zeros_like(value) for name, value in values.items()}
    pool = load_data(case.workload, dict(recipe.axes)).train
    rows = torch.stack([torch.randperm(len(pool))[: case.batch] for _ in range(stack)])
    rates = torch.full((stack,), 0.02)

    def loss(own: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(template, (own, fixed), (x,)), y)

    gradients_of = vmap(grad(loss))

    def step() -> None:
        with torch.no_grad():
            own = {name: value.detach() for name, value in values.items()}
            gradients = gradients_of(own, buffers, pool.inputs[rows], pool.targets[rows])
            for name, value in own.items():
                velocity = velocities[name].mul_(0.9).add_(gradients[name])
                value.addcmul_(velocity, rates.view(-1, *[1] * (value.dim() - 1)), value=-1.0)

    return seconds_a_call(step) / stack


def ours(case: Case, arithmetic: Arithmetic, stack: int) -> float:
    """Return a cell's seconds of a step in the engine, batches and bookkeeping included."""
    recipes = [case.recipe(seed=i % 4) for i in range(stack)]
    return Lockstep(case.workload, recipes, arithmetic, "cpu").rehearse(SECONDS) / stack


def best_of(measure: Callable[[int], float], stacks: tuple[int, ...]) -> tuple[float, int]:
    """Return the least seconds a cell over stack sizes, and the size; stops when it gets worse."""
    best, size = measure(stacks[0]), stacks[0]
    for stack in stacks[1:]:
        seconds = measure(stack)
        if seconds > 1.5 * best:
            break
        if seconds < best:
            best, size = seconds, stack
    return best, size


def matmul_rate() -> float:
    """Return the FLOP/s of a product of two 512 × 512 matrices."""
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    return 2 * 512**3 / seconds_a_call(lambda: left @ right)


def bandwidth() -> float:
    """Return the bytes/s, read and written, of a copy of 64 MB."""
    source = torch.randn(2**24)
    target = torch.empty_like(source)
    return 2 * 4 * 2**24 / seconds_a_call(lambda: target.copy_(source))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--shapes", default="", help="only shapes whose title contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates, bandwidths, rows = [], [], []
    for _ in range(options.repetitions):
        rates.append(matmul_rate())
        bandwidths.append(bandwidth())
    for case in CASES:
        if options.shapes in case.title:
            rows.append(_row(case, options.repetitions, median(rates), median(bandwidths)))
    for line in settings_lines():
        print(line)
    print(
        f"one thread, {options.repetitions} repetitions: median [min, max]; matmul "
        f"{spread([rate / 1e9 for rate in rates])} GFLOP/s, copy "
        f"{spread([rate / 1e9 for rate in bandwidths])} GB/s"
    )
    print("microseconds of one step of one cell; K: cells in the stack")
    print_table(
        [
            "width/batch",
            "path",
            "plain",
            "vmap(grad)",
            "K",
            "ours",
            "K",
            "plain / ours",
            "vmap / ours",
            "limit",
            "limit / ours",
        ],
        rows,
    )


def _row(case: Case, repetitions: int, rate: float, bytes_a_second: float) -> list[str]:
    recipe = case.recipe()
    choice = choose_arithmetic(case.workload, case.size, recipe.axes, case.batch)
    stacks = (1,) if choice.arithmetic is Arithmetic.ONE_BY_ONE else STACKS
    plains, vmaps, owns, sizes, vmap_sizes = [], [], [], [], []
    for _ in range(repetitions):
        plains.append(1e6 * plain(case))
        if isinstance(case.workload, Rows):  # aten::lstm has no batching rule
            vmaps, vmap_sizes = [], []
        else:
            seconds, size = best_of(partial(vmap_grad, case), STACKS)
            vmaps.append(1e6 * seconds)
            vmap_sizes.append(size)
        seconds, size = best_of(partial(ours, case, choice.arithmetic), stacks)
        owns.append(1e6 * seconds)
        sizes.append(size)
    cost = model_cost(case.workload, case.size, dict(recipe.axes))
    limit = 1e6 * max(
        training_flops(cost, case.batch) / rate,
        BYTES_A_PARAMETER * cost.parameter_count / bytes_a_second,
    )
    by_plain = [one / own for one, own in zip(plains, owns, strict=True)]
    by_vmap = [one / own for one, own in zip(vmaps, owns, strict=True)] if vmaps else []
    return [
        case.title,
        choice.arithmetic.value,
        spread(plains),
        spread(vmaps) if vmaps else "-",
        str(median(vmap_sizes)) if vmaps else "-",
        spread(owns),
        f"{median(sizes):g}",
        spread(by_plain),
        spread(by_vmap) if vmaps else "-",
        f"{limit:.1f}",
        f"{limit / median(owns):.2f}",
    ]


if __name__ == "__main__":
    main()
