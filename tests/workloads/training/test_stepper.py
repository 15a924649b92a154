"""From equal state, a step in a stack is the step that torch.optim makes of a plain model."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.training import models
from tests.workloads.training.models import DIGITS
from tests.workloads.training.stacks import only, path_of
from workloads.base import Split, Workload
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.training.arithmetic import Arithmetic, new_stepper
from workloads.training.dropout import set_step
from workloads.training.initial import initial_model
from workloads.training.precision import float32_arithmetic
from workloads.training.stepper import Stepper

BEFORE = 4
"""Steps after which the state is taken: velocities are not zero and members have parted."""

ROUNDING = 1e-5
"""Of a tensor's largest value: float32 rounds at 6e-8, a sum of some hundred products at up to
1e-6; a forgotten factor, mask or member is off by far more."""

CELLS = [
    replace(DIGITS, learning_rate=0.1, momentum=0.9),
    replace(DIGITS, learning_rate=0.3, momentum=0.5, weight_decay=0.1, seed=1),
    replace(DIGITS, learning_rate=0.05, momentum=0.99, weight_decay=0.01, seed=2),
    replace(DIGITS, learning_rate=0.2, momentum=0.3, seed=1),
    replace(DIGITS, learning_rate=0.01, momentum=0.9, seed=4),
]

KINDS = [
    (models.Perceptron, 3),
    (models.Perceptron, 33),
    (models.TanhPerceptron, 17),
    (models.GeluPerceptron, 5),
    (models.Convolutions, 4),
    (models.Convolutions, 7),
    (models.Normed, 6),
    (models.Tokens, 3),
    (models.RowsLstm, 4),
    (models.RowsTransformer, 8),
    (models.BatchNormed, 9),
]


OPTIMIZERS = ["nesterov", "adam", "adamw"]

# Without the transformer: the gradient of its keys' bias is 0 but for rounding (a softmax does not
# see it), and Adam makes whole steps of rounding.
EVERY_KIND_AND_OPTIMIZER = [
    *((kind, size, "sgd") for kind, size in KINDS),
    *(
        (kind, size, optimizer)
        for optimizer in OPTIMIZERS
        for kind, size in (
            (models.Perceptron, 3),
            (models.TanhPerceptron, 17),
            (models.Convolutions, 4),
            (models.Normed, 6),
            (models.RowsLstm, 4),
            (models.BatchNormed, 9),
        )
    ),
]


def plain_optimizer(model: nn.Module, cell: Recipe) -> torch.optim.Optimizer:
    """Return torch.optim's own of a cell's rule."""
    rate, decay = cell.learning_rate, cell.weight_decay
    if cell.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if cell.optimizer == "adam" else torch.optim.AdamW
        return kind(model.parameters(), rate, (cell.momentum, 0.999), 1e-8, decay)
    return torch.optim.SGD(
        model.parameters(),
        rate,
        cell.momentum,
        weight_decay=decay,
        nesterov=cell.optimizer == "nesterov",
    )


STATES = {"momentum_buffer": "velocity", "exp_avg": "velocity", "exp_avg_sq": "square"}
"""By torch.optim's name for a tensor, ours."""


def states_of(cell: Recipe) -> dict[str, str]:
    adaptive = cell.optimizer in ("adam", "adamw")
    return {name: ours for name, ours in STATES.items() if name.startswith("exp") == adaptive}


def batch_of(pool: Split, step: int, members: int) -> tuple[Tensor, Tensor]:
    rows = (torch.arange(members * DIGITS.batch_size) * 7 + step * 100) % len(pool)
    return pool.inputs[rows], pool.targets[rows]


def parameters_of(state: dict[str, Tensor], what: str) -> list[Tensor]:
    """Return (n, …) values or velocities in the order of the model's parameters."""
    return [tensor for key, tensor in state.items() if what in key.split()]


def own_parameters(
    stepper: Stepper, arithmetic: Arithmetic, model: nn.Module, member: int, what: str
) -> list[Tensor]:
    """Return one member's values or velocities, each in the shape of the model's parameter."""
    state, shapes = stepper.state(), [p.shape for p in model.parameters()]
    if arithmetic is not Arithmetic.ONE_BY_ONE:
        stacked = parameters_of(state, what)
        return [only(one[member], shape) for one, shape in zip(stacked, shapes, strict=True)]
    flat, start, own = state["values" if what == "value" else what][0], 0, []
    for shape in shapes:
        own.append(flat[start : start + shape.numel()].view(shape))
        start += -(-shape.numel() // 16) * 16  # parameters begin at multiples of 64 bytes
    return own


def started(
    workload: Workload, cells: list[Recipe], arithmetic: Arithmetic, pool: Split
) -> Stepper:
    copies = [initial_model(workload, cell) for cell in cells]
    stepper = new_stepper(arithmetic, workload, copies, cells, pool.inputs[0])
    with float32_arithmetic(), stepper.running():
        for step in range(BEFORE):
            stepper.step(step, *batch_of(pool, step, len(cells)))
    return stepper


def assert_close(one: Tensor, other: Tensor) -> None:
    assert (one - other).abs().max() <= ROUNDING * other.abs().max()


@pytest.mark.parametrize(
    ("kind", "size", "optimizer"), EVERY_KIND_AND_OPTIMIZER, ids=lambda x: getattr(x, "name", x)
)
def test_from_equal_state_a_step_is_that_of_torch_optim(
    kind: type[Workload], size: int, optimizer: str
):
    workload = kind()
    arithmetic = path_of(workload, replace(DIGITS, model_size=size, optimizer=optimizer))
    assert arithmetic is path_of(workload, replace(DIGITS, model_size=size))
    stacked = arithmetic is not Arithmetic.ONE_BY_ONE
    cells = [
        replace(cell, model_size=size, optimizer=optimizer)
        for cell in (CELLS if stacked else CELLS[1:2])
    ]
    pool = load_data(workload, dict(DIGITS.axes)).train
    stepper = started(workload, cells, arithmetic, pool)
    inputs, targets = batch_of(pool, BEFORE, len(cells))

    plain, optimizers = [], []
    for member, cell in enumerate(cells):
        model = initial_model(workload, cell)
        own_optimizer = plain_optimizer(model, cell)
        values = own_parameters(stepper, arithmetic, model, member, "value")
        for own, value in zip(model.parameters(), values, strict=True):
            own.data.copy_(value)
            own_optimizer.state[own]["step"] = torch.tensor(float(BEFORE))
        for theirs, ours in states_of(cell).items():
            kept = own_parameters(stepper, arithmetic, model, member, ours)
            for own, tensor in zip(model.parameters(), kept, strict=True):
                assert tensor.any()
                own_optimizer.state[own][theirs] = tensor.clone()
        for name, buffer in model.named_buffers():
            if f"buffer {name}" in stepper.state():
                buffer.copy_(stepper.state()[f"buffer {name}"][0])
        plain.append(model)
        optimizers.append(own_optimizer)

    with float32_arithmetic(), stepper.running():
        losses = stepper.step(BEFORE, inputs, targets)

    for member, (model, optimizer) in enumerate(zip(plain, optimizers, strict=True)):
        own_batch = slice(member * DIGITS.batch_size, (member + 1) * DIGITS.batch_size)
        set_step(model, BEFORE)
        loss = workload.loss(model(inputs[own_batch]), targets[own_batch]).mean()
        loss.backward()
        optimizer.step()
        assert losses[member].item() == pytest.approx(loss.item(), rel=ROUNDING)
        values = own_parameters(stepper, arithmetic, model, member, "value")
        for own, value in zip(model.parameters(), values, strict=True):
            assert_close(value, own.detach())
        for theirs, ours in states_of(cells[member]).items():
            kept = own_parameters(stepper, arithmetic, model, member, ours)
            for own, tensor in zip(model.parameters(), kept, strict=True):
                assert_close(tensor, optimizer.state[own][theirs])

    some = pool.inputs[500:577]
    with float32_arithmetic(), stepper.running(), torch.no_grad():
        for member, model in enumerate(plain):
            seen = stepper.outputs(slice(member, member + 1), some[None])
            assert_close(seen, model.eval()(some))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("kind", "size"), [(models.Perceptron, 3), (models.Convolutions, 4), (models.Tokens, 3)]
)
def test_every_member_keeps_its_place_in_memory_when_others_leave(
    kind: type[Workload], size: int, optimizer: str
):
    # A matrix product may round by its address, so that members must stay at multiples of 64 bytes.
    workload = kind()
    cells = [replace(cell, model_size=size, optimizer=optimizer) for cell in CELLS]
    pool = load_data(workload, dict(DIGITS.axes)).train
    stepper = started(workload, cells, path_of(workload, cells[0]), pool)
    before = stepper.state()
    stepper.keep(torch.tensor([4, 0, 3]))
    after = stepper.state()
    assert all(torch.equal(after[key], before[key][[4, 0, 3]]) for key in before)
    parameters = stepper._parameters
    for parameter in parameters.values() if isinstance(parameters, dict) else parameters:
        for member in (*parameter.value, *parameter.velocity, *parameter.gradient):
            assert member.data_ptr() % 64 == 0
