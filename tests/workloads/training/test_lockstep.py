import math
import random
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from analysis import columns
from tests.workloads.samples import Signs
from workloads.base import Data, Split
from workloads.errors import WorkloadError
from workloads.outcome import Score, TrainingResult
from workloads.recipe import Recipe
from workloads.registry import find_workload
from workloads.resident import load_data
from workloads.training.flat_update import HeavyBall
from workloads.training.initial import initial_model
from workloads.training.lockstep import CHECK_STEPS, DIVERGENCE_RATIO, has_diverged, train
from workloads.training.precision import float32_arithmetic
from workloads.training.sampling import BatchOrder, batches, training_shard
from workloads.training.scoring import evaluate

DIGITS = Recipe(
    train_examples=256,
    model_size=16,
    batch_size=32,
    learning_rate=0.1,
    momentum=0.9,
    steps=120,
    seed=3,
    axes=(("label_noise", 0.0),),
)
SIGNS = replace(DIGITS, train_examples=50, batch_size=8, axes=(("shift", 0.0),), steps=40)


def digits(**changes: object) -> TrainingResult:
    return train(find_workload("digits"), replace(DIGITS, **changes), device="cpu")


def timeless(result: TrainingResult) -> TrainingResult:
    return replace(result, wall_seconds=0.0)


def shard_of(recipe: Recipe) -> Split:
    workload = find_workload("digits")
    return training_shard(workload, recipe, load_data(workload, dict(recipe.axes)).train)


def trained_by_torch(recipe: Recipe) -> tuple[nn.Module, list[float]]:
    """Return the digits model that torch.optim.SGD makes of `recipe`, and its batches' losses."""
    workload = find_workload("digits")
    model = initial_model(workload, recipe)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    stock = batches(workload, recipe, shard_of(recipe))
    batch_losses = []
    for _ in range(recipe.steps):
        inputs, targets = next(stock)
        optimizer.zero_grad()
        loss = workload.loss(model(inputs), targets).mean()
        loss.backward()
        optimizer.step()
        batch_losses.append(loss.item())
    return model, batch_losses


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_takes_the_same_steps_as_torch_optim_sgd(momentum: float):
    recipe = replace(DIGITS, momentum=momentum, steps=100)
    workload, shard = find_workload("digits"), shard_of(recipe)
    model, batch_losses = trained_by_torch(recipe)

    result = train(workload, recipe, device="cpu")

    # Exactly: the same operations in the same order, so that the scores agree to the last bit.
    assert result.train_loss == evaluate(workload, model, shard).loss
    assert result.test_loss == evaluate(workload, model, load_data(workload, {}).test).loss
    last, before = result.curve[-1], result.curve[-2]
    # The trainer sums in float64 as here; the order of the sum may differ.
    assert last.train_loss == pytest.approx(np.mean(batch_losses[before.step :]), rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_decay_as_with_torch_optim_sgd(momentum: float):
    recipe = replace(DIGITS, momentum=momentum, weight_decay=0.01, steps=100)
    workload, shard = find_workload("digits"), shard_of(recipe)
    model, _ = trained_by_torch(recipe)

    result = train(workload, recipe, device="cpu")

    # The same sums in another order: a step differs by float32 rounding (6e-8), and 100 of them
    # by 1e-8 of the mean loss. Without the decay the loss is 4 % and more lower.
    assert result.train_loss == pytest.approx(evaluate(workload, model, shard).loss, rel=1e-6)
    test = load_data(workload, {}).test
    assert result.test_loss == pytest.approx(evaluate(workload, model, test).loss, rel=1e-6)


def test_weights_without_a_gradient_decay_in_closed_form():
    model = Signs().model(3)
    started = [parameter.detach().clone() for parameter in model.parameters()]
    ball = HeavyBall(model, learning_rate=0.5, momentum=0.0, weight_decay=0.25)
    for step in range(8):
        ball.begin()
        ball.move(step)
    # w ← w − ε λ w, biases too. Eight float32 steps round by 8 × 6e-8 at most.
    for parameter, start in zip(model.parameters(), started, strict=True):
        torch.testing.assert_close(parameter, start * (1 - 0.5 * 0.25) ** 8, rtol=1e-6, atol=0)


def test_the_same_recipe_gives_the_same_result_after_other_cells():
    first = digits()
    digits(seed=4, model_size=7)
    train(Signs(), SIGNS, device="cpu")
    torch.rand(5)
    assert timeless(digits()) == timeless(first)


def test_the_same_recipe_gives_the_same_result_in_a_fresh_process():
    script = (
        "import torch; torch.set_num_threads(1); torch.manual_seed(99)\n"
        "from dataclasses import replace\n"
        "from workloads.registry import find_workload\n"
        "from workloads.recipe import Recipe\n"
        "from workloads.training.lockstep import train\n"
        "from workloads.outcome import Evaluation, TrainingStatus\n"
        f"result = train(find_workload('digits'), {DIGITS!r}, device='cpu')\n"
        "print(replace(result, wall_seconds=0.0))"
    )
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # repr shows floats to the last bit.
    assert there.stdout.strip() == repr(timeless(digits()))


def test_seeds_give_different_shards_initializations_and_results():
    one, other = DIGITS, replace(DIGITS, seed=4)
    assert not torch.equal(shard_of(one).inputs, shard_of(other).inputs)
    assert digits().test_loss != digits(seed=4).test_loss


def test_shards_of_one_seed_are_nested():
    large = shard_of(replace(DIGITS, train_examples=512))
    small = shard_of(replace(DIGITS, train_examples=100))
    assert torch.equal(large.inputs[:100], small.inputs)
    assert torch.equal(large.targets[:100], small.targets)


def test_label_noise_of_an_example_does_not_depend_on_the_shard():
    noisy = replace(DIGITS, axes=(("label_noise", 0.5),))
    large = shard_of(replace(noisy, train_examples=512))
    small = shard_of(replace(noisy, train_examples=100))
    assert torch.equal(large.targets[:100], small.targets)
    assert not torch.equal(small.targets, shard_of(replace(DIGITS, train_examples=100)).targets)


def test_the_initialization_is_shared_by_all_cells_of_a_seed_and_size():
    workload = find_workload("digits")
    first = initial_model(workload, DIGITS).state_dict()
    other = initial_model(
        workload, replace(DIGITS, batch_size=1, learning_rate=9, momentum=0, train_examples=7)
    ).state_dict()
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_an_epoch_shows_each_example_once_in_a_new_order_without_the_partial_batch():
    workload, recipe = Signs(), replace(SIGNS, train_examples=50, batch_size=8)
    shard = training_shard(workload, recipe, load_data(workload, {"shift": 0.0}).train)
    stock = batches(workload, recipe, shard)
    place = {tuple(row): i for i, row in enumerate(shard.inputs.tolist())}
    epochs = []
    for _ in range(3):
        seen = [next(stock) for _ in range(50 // 8)]
        assert all(len(inputs) == 8 for inputs, _ in seen)
        rows = [place[tuple(row)] for inputs, _ in seen for row in inputs.tolist()]
        assert torch.equal(torch.cat([targets for _, targets in seen]), shard.targets[rows])
        assert len(set(rows)) == 48
        epochs.append(rows)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_batches_are_the_same_from_whatever_step_they_are_drawn(monkeypatch):
    workload = find_workload("digits")
    at_once = BatchOrder(workload, DIGITS).positions(0, 100)
    monkeypatch.setattr("workloads.training.sampling.DRAWN_AT_ONCE", 1)
    order = BatchOrder(workload, DIGITS)
    # An epoch has 8 steps: these stretches begin and end within epochs, and go backwards.
    for first, steps in ((93, 7), (0, 1), (5, 20), (40, 8), (7, 1)):
        assert np.array_equal(order.positions(first, steps), at_once[first : first + steps])


@pytest.mark.parametrize("batch_size", [50, 51, 10_000])
def test_a_shard_no_larger_than_the_batch_is_the_batch(batch_size: int):
    result = train(Signs(), replace(SIGNS, batch_size=batch_size, steps=9), device="cpu")
    assert result.examples_seen == 9 * 50
    assert result.epochs == 9


def test_counts_of_a_completed_run_are_those_of_its_recipe():
    result = digits()
    assert result.status == "completed"
    assert result.steps == 120
    assert result.examples_seen == 120 * 32
    assert result.epochs == 120 * 32 / 256
    # 64 → 16 → 10 with biases; a multiply-add is two operations, backward twice the forward.
    assert result.parameter_count == 64 * 16 + 16 + 16 * 10 + 10
    assert result.training_flops == 3 * 2 * (64 * 16 + 16 * 10) * 120 * 32
    assert (result.validation_examples, result.test_examples) == (386, 387)
    assert result.validation_evaluations == len(result.curve) == 12
    assert result.curve[-1].step == 120
    assert result.curve[-1].validation_loss == result.validation_loss
    assert result.generalization_gap == result.test_error - result.train_error


def test_the_best_look_is_the_smallest_error_and_the_first_of_equals():
    result = digits(steps=400)
    errors = [look.validation_error for look in result.curve]
    assert result.best_validation_error == min(errors)
    first = next(look for look in result.curve if look.validation_error == min(errors))
    assert result.best_validation_step == first.step
    assert result.best_validation_loss == min(look.validation_loss for look in result.curve)


@pytest.mark.parametrize(
    ("initial", "final", "diverged"),
    [
        (2.0, 200.0, False),
        (2.0, 200.1, True),
        (-1.0, -3.0, False),  # a log-density that has become likelier
        (-1.0, 98.0, False),
        (-1.0, 99.1, True),
        (-50.0, 4950.0, False),
        (-50.0, 4950.1, True),
        (0.0, 1.0, False),
        (0.0, 100.1, True),
        (-1.0, math.nan, True),
    ],
)
def test_a_loss_has_diverged_when_it_rose_a_hundredfold(initial, final, diverged):
    assert has_diverged(initial, Score(final, 0.1), Score(1.0, 0.1)) is diverged


def test_every_field_of_a_result_but_the_curve_is_a_column_of_the_store():
    names = {value for name, value in vars(columns).items() if name.isupper()}
    assert {field.name for field in fields(TrainingResult)} - names == {"curve"}


def test_more_looks_do_not_change_what_is_trained():
    few, many = digits(evaluation_schedule="geometric:1"), digits()
    assert (few.train_loss, few.test_loss) == (many.train_loss, many.test_loss)
    assert few.validation_evaluations == 1


def test_training_changes_no_global_state():
    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.deterministic,
            torch.is_grad_enabled(),
        )

    before = state()
    digits(axes=(("label_noise", 0.3),))
    assert state() == before


def test_arithmetic_is_full_float32_inside_and_as_it_was_outside_even_after_an_error():
    torch.set_float32_matmul_precision("medium")
    try:
        with float32_arithmetic():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
        with pytest.raises(ZeroDivisionError), float32_arithmetic():
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


class Dropping(Signs):
    """Its model draws random numbers while it trains."""

    name = "dropping"

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), super().model(size))


def test_dropout_follows_the_seed_and_is_off_when_evaluated():
    first = train(Dropping(), SIGNS, device="cpu")
    torch.rand(3)
    assert timeless(train(Dropping(), SIGNS, device="cpu")) == timeless(first)

    model = initial_model(Dropping(), SIGNS)
    data = load_data(Dropping(), dict(SIGNS.axes)).test
    assert evaluate(Dropping(), model, data) == evaluate(Dropping(), model, data)
    assert model.training


class Tampered(Signs):
    """Its training loss is not a number in some batches; evaluation is not affected."""

    name = "tampered"
    bad_call: int = -1

    def __init__(self) -> None:
        self.calls = 0

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = super().loss(outputs, targets)
        if not torch.is_grad_enabled():
            return losses
        self.calls += 1
        return losses * math.nan if self.calls == self.bad_call else losses


def test_a_loss_that_is_not_a_number_is_a_divergence_found_at_the_next_check():
    workload = Tampered()
    workload.bad_call = 300
    result = train(
        workload, replace(SIGNS, steps=2000, evaluation_schedule="geometric:1"), device="cpu"
    )
    assert result.status == "diverged"
    assert result.steps == 2 * CHECK_STEPS
    assert result.examples_seen == 2 * CHECK_STEPS * 8
    assert result.curve == ()


def assert_row_of_a_divergence(result: TrainingResult, chance_error: float) -> None:
    assert result.status == "diverged"
    assert result.train_loss is result.validation_loss is result.test_loss is None
    assert result.best_validation_loss is result.best_validation_step is None
    assert result.generalization_gap is None
    assert result.train_error == result.validation_error == chance_error
    assert result.test_error == result.best_validation_error == chance_error
    for look in result.curve:
        for value in (look.train_loss, look.validation_loss, look.validation_error):
            assert value is None or math.isfinite(value)


def test_a_rate_that_kills_all_units_with_a_finite_loss_is_a_divergence():
    result = digits(learning_rate=1e4, momentum=0.0, steps=300)
    assert_row_of_a_divergence(result, 0.9)
    # The point of the case: it ended with finite losses, and only their size shows it.
    assert result.steps == 300
    assert result.curve[-1].validation_loss > DIVERGENCE_RATIO


def test_a_rate_that_overflows_is_a_divergence_which_ends_the_run_early():
    result = digits(learning_rate=1e30, momentum=0.9, steps=5000)
    assert_row_of_a_divergence(result, 0.9)
    assert result.steps < 5000
    assert result.validation_evaluations == len(result.curve)


class Spiking(Signs):
    """The training loss of its 5th batch is huge, but finite and without a gradient."""

    name = "spiking"
    calls = 0

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = super().loss(outputs, targets)
        self.calls += torch.is_grad_enabled()
        return losses + 1e6 if self.calls == 5 and torch.is_grad_enabled() else losses


def test_a_spike_that_recovers_is_no_divergence():
    result = train(Spiking(), SIGNS, device="cpu")
    assert result.status == "completed"
    assert max(look.train_loss for look in result.curve) > 1e4


class Overflowing(Signs):
    """Its evaluation is infinite, its training is not."""

    name = "overflowing"

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = super().loss(outputs, targets)
        return losses if torch.is_grad_enabled() else losses + math.inf


def test_an_evaluation_that_is_not_finite_is_a_divergence_and_null_on_the_curve():
    result = train(Overflowing(), SIGNS, device="cpu")
    assert_row_of_a_divergence(result, 0.5)
    assert len(result.curve) == 1
    assert result.curve[0].validation_loss is None
    assert result.curve[0].train_loss is not None


class Quadratic(Signs):
    """Loss (w − x)² / 2 with standard normal x: SGD on a quadratic with noisy gradients w − x."""

    name = "quadratic"
    axes = ()
    size = 40_000

    def data(self, axes: object) -> Data:
        noise = torch.from_numpy(np.random.default_rng(0).standard_normal((self.size, 1)))
        pool = Split(noise.float(), noise.float())
        return Data(pool, Split(pool.inputs[:1], pool.targets[:1]), pool)

    def model(self, size: int) -> nn.Module:
        return Constant()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.path.append(outputs[0].item())
        return ((outputs - targets) ** 2 / 2).squeeze(1)

    def error(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(targets))

    def __init__(self) -> None:
        self.path: list[float] = []


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.w.expand_as(inputs)


@pytest.mark.slow
def test_the_stationary_variance_is_that_of_heavy_ball_on_a_noisy_quadratic():
    workload = Quadratic()
    recipe = Recipe(
        train_examples=workload.size,
        model_size=1,
        batch_size=8,
        learning_rate=0.5,
        momentum=0.9,
        steps=60_000,
        seed=0,
        evaluation_schedule="geometric:1",
    )
    train(workload, recipe, device="cpu")
    path = np.array(workload.path[1000:-200])
    # Closed form for curvature h and gradient noise of variance σ²/B, for h = σ² = 1:
    # Var w = (ε/B)(1 + m) / ((1 − m)(2(1 + m) − ε)), .360 for these values.
    epsilon, m, batch = 0.5, 0.9, 8
    expected = epsilon / batch * (1 + m) / ((1 - m) * (2 * (1 + m) - epsilon))
    assert expected == pytest.approx(0.360, abs=5e-4)
    # 60,000 steps with a correlation time of about 20 are 3,000 independent looks: 2.6 % standard
    # error of a variance, four of which are 10 %. Without replacement the slowest noise is lower.
    assert path.var() == pytest.approx(expected, rel=0.1)


def test_a_shard_larger_than_the_pool_is_refused():
    with pytest.raises(ValueError, match="train_examples is 1025; allowed: 1 to 1024"):
        digits(train_examples=1025)


def test_a_batch_without_examples_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        digits(batch_size=0)


def test_parameters_in_another_precision_are_refused_by_name():
    with pytest.raises(WorkloadError, match=r"Parameter '0\.weight' is torch\.float16"):
        HeavyBall(Signs().model(3).half(), learning_rate=0.1, momentum=0.0)


def test_a_model_without_parameters_to_train_is_refused():
    with pytest.raises(WorkloadError, match="no parameter to train"):
        HeavyBall(Signs().model(3).requires_grad_(False), learning_rate=0.1, momentum=0.0)


def test_data_are_loaded_once_and_only_the_last_few_are_kept(monkeypatch):
    loads: list[float] = []

    class Counted(Signs):
        def data(self, axes):
            loads.append(axes["shift"])
            return super().data(axes)

    monkeypatch.setattr("workloads.resident.DATA_SETS_RESIDENT", 2)
    workload = Counted()
    for shift in (0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 1.0):
        load_data(workload, {"shift": shift})
    assert loads == [0.0, 1.0, 2.0, 1.0]


def test_values_of_an_axis_that_leaves_the_data_alone_get_the_same_object():
    class Unmoved(Signs):
        def data(self, axes):
            return super().data({"shift": 0.0})

    workload = Unmoved()
    # Each value is met for the first time after the data were loaded for the one before.
    first, *others = [load_data(workload, {"shift": shift}) for shift in (0.0, 1.0, 2.0)]
    assert all(data is first for data in others)


def test_resident_data_lie_in_aligned_memory_of_torch_and_not_in_the_workloads():
    memory = np.zeros(4 * 97 + 1, np.float32)[1:]  # not aligned to 64 bytes
    unaligned = torch.from_numpy(memory).view(97, 4)

    class Unaligned(Signs):
        def data(self, axes):
            split = Split(unaligned, torch.zeros(97, dtype=torch.int64))
            return Data(split, split, split)

    data = load_data(Unaligned(), {"shift": 0.0})
    assert data.train.inputs.data_ptr() % 64 == 0
    assert torch.equal(data.train.inputs, unaligned)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_agrees_with_the_cpu_step_by_step():
    workload = find_workload("digits")
    one_step = replace(DIGITS, steps=1)
    here = train(workload, one_step, device="cpu")
    there = train(workload, one_step, device="cuda")
    # From equal state a step agrees to float32 rounding; later steps may amplify it.
    assert there.train_loss == pytest.approx(here.train_loss, rel=1e-5)
    assert timeless(train(workload, DIGITS, device="cuda")) == timeless(
        train(workload, DIGITS, device="cuda")
    )
