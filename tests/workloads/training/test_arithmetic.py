"""Which path a shape takes, and that a model goes one by one for a reason that names its cause."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.workloads.training import models
from tests.workloads.training.stacks import timeless
from workloads.axis import AxisValues
from workloads.base import Data, Split, Workload
from workloads.digits import Digits
from workloads.errors import WorkloadError
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic, Choice, choose_arithmetic
from workloads.training.lockstep import train

AXES = (("label_noise", 0.0),)


def choice(workload: Workload, size: int = 8, batch: int = 5, device: str = "cpu") -> Choice:
    return choose_arithmetic(workload, size, AXES, batch, device)


def workload_of(build: Callable[[int], nn.Module], base: type[Workload] = Digits) -> Workload:
    """Return a workload with the models that `build` makes.

    Its losses are so small that a trial of a few steps hardly moves a parameter: what keeps a
    model from being stacked must be seen in the model itself.
    """

    class Built(base):
        name = f"built by {build.__name__}"

        def model(self, size: int) -> nn.Module:
            return build(size)

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().loss(outputs, targets) * 1e-4

    return Built()


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (models.BatchNormed, r"BatchNorm1d \(1\)"),
        (models.RowsGru, r"GRU \(recurrent\)"),
        (models.RowsLstmWithDropout, r"LSTM \(recurrent\) drops out"),
        (models.RowsTransformerWithDropout, r"MultiheadAttention \(0\.self_attn\) drops out"),
        (models.FunctionalDropout, r"draws from torch's generator"),
    ],
)
def test_a_layer_that_cannot_be_stacked_is_named(kind: type[Workload], cause: str):
    chosen = choice(kind())
    assert chosen.arithmetic is Arithmetic.ONE_BY_ONE
    with pytest.raises(AssertionError, match=cause):
        raise AssertionError(chosen.reason)


class Plain(nn.Module):
    """Two layers, with whatever a subclass does in between."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, size), nn.Linear(size, 10)
        self.dropout = nn.Dropout(0.25)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.between(self.first(inputs)))

    def between(self, hidden: Tensor) -> Tensor:
        return torch.relu(hidden)


class ByTheData(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        return torch.relu(hidden) if hidden.isfinite().all() else hidden


class OfPythonsGenerator(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + random.random()) if self.training else hidden


class OfItsOwnStatistics(Plain):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("mean", torch.zeros(size))

    def between(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * hidden.detach().mean(0))
        return torch.relu(hidden - self.mean)


class OfReassignedStatistics(OfItsOwnStatistics):
    def between(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return torch.relu(hidden - self.mean)


class CountingItsSteps(Plain):
    """Is like others for ten steps, so that a trial of two sees nothing in its outputs."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("steps", torch.zeros(()))

    def between(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return torch.where(self.steps > 10, torch.tanh(hidden), torch.relu(hidden))


class DrawingInEvaluation(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, 0.5)


class OfAWidthOfTheBatch(Plain):
    """Gives outputs for as many classes as the batch asks for, as a sequence cut to the longest."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs)
        number = int(inputs.count_nonzero(1).max())
        return torch.cat([outputs, outputs.new_full((len(outputs), number), -99.0)], 1)


class CentredByTheBatch(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        return hidden - 9 * hidden.mean(0)


class CentredOfAWidthOfTheBatch(CentredByTheBatch, OfAWidthOfTheBatch):
    pass


class Squeezed(Plain):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).squeeze()


class ThatRaisesUnderVmap(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        if torch._C._functorch.is_batchedtensor(hidden):
            raise KeyError
        return torch.relu(hidden)


@pytest.mark.parametrize(
    "build",
    [
        ByTheData,
        OfPythonsGenerator,
        OfItsOwnStatistics,
        OfReassignedStatistics,
        CountingItsSteps,
        DrawingInEvaluation,
        OfAWidthOfTheBatch,
        ThatRaisesUnderVmap,
    ],
)
def test_a_model_whose_forward_pass_cannot_be_stacked_goes_one_by_one(
    build: Callable[[int], nn.Module],
):
    chosen = choice(workload_of(build))
    assert chosen.arithmetic is Arithmetic.ONE_BY_ONE
    assert chosen.reason


class OutputOfALibrary(dict[str, Tensor]):
    """What models of Hugging Face's transformers return: a dictionary with attributes."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


class OfALibrary(nn.Module):
    """A model like those of transformers: named arguments, and more than logits come back."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, size), nn.Linear(size, 10)

    def forward(self, pixels: Tensor, output_hidden: bool = False) -> OutputOfALibrary:
        hidden = self.body(pixels).relu()
        hidden = hidden + 0 if bool(hidden.isfinite().all()) else hidden.nan_to_num()
        return OutputOfALibrary(logits=self.head(hidden), hidden=hidden)


class Wrapped(nn.Module):
    """As docs/how-to/add-a-workload.md has it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.model = OfALibrary(size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).logits


def test_a_model_of_another_library_trains_in_a_wrapper_one_by_one():
    class Librarys(Digits):
        name = "of a library"

        def model(self, size: int) -> nn.Module:
            return Wrapped(size)

    workload = Librarys()
    assert choice(workload).arithmetic is Arithmetic.ONE_BY_ONE  # it looks at its own numbers
    recipe = Recipe(
        train_examples=512,
        model_size=32,
        batch_size=32,
        learning_rate=0.1,
        momentum=0.9,
        steps=150,
        seed=0,
        axes=AXES,
    )
    assert train(workload, recipe, device="cpu").test_error < 0.2


def three_layers(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 10)
    )


def with_a_layer_used_twice(size: int) -> nn.Module:
    model = three_layers(size)
    return nn.Sequential(*model[:4], model[2], model[4])


def with_tied_weights(size: int) -> nn.Module:
    model = three_layers(size)
    return nn.Sequential(model[0], model[1], model[2], nn.ReLU(), tied(model[2]), model[4])


def tied(layer: nn.Linear) -> nn.Linear:
    twin = nn.Linear(layer.in_features, layer.out_features)
    twin.weight = layer.weight
    return twin


def with_a_forward_hook(size: int) -> nn.Module:
    model = three_layers(size)
    model[2].register_forward_hook(lambda module, _, outputs: outputs * (1 + module.training))
    return model


def with_a_hook_on_a_gradient(size: int) -> nn.Module:
    model = three_layers(size)
    model[2].weight.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
    return model


def with_a_frozen_layer(size: int) -> nn.Module:
    model = three_layers(size)
    model[2].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("build", "cause", "path"),
    [
        (with_a_layer_used_twice, "share a parameter", Arithmetic.STACKED_MODULES),
        (with_tied_weights, "share a parameter", Arithmetic.ONE_BY_ONE),
        (with_a_forward_hook, "hooks", Arithmetic.STACKED_MODULES),
        (with_a_hook_on_a_gradient, "hooks on gradients", Arithmetic.ONE_BY_ONE),
        (with_a_frozen_layer, "frozen parameter", Arithmetic.STACKED_MODULES),
    ],
)
def test_what_explicit_passes_would_miss_is_seen_in_the_model_however_small_its_steps(
    build: Callable[[int], nn.Module], cause: str, path: Arithmetic
):
    chosen = choice(workload_of(build))
    assert chosen.arithmetic is path
    assert cause in chosen.reason


class AskingItsLstm(nn.Module):
    """Makes its start states by the layer's own numbers, as models often do."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, size, num_layers=2, batch_first=True), nn.Linear(size, 10)

    def forward(self, rows: Tensor) -> Tensor:
        self.lstm.flatten_parameters()
        start = rows.new_zeros(self.lstm.num_layers, len(rows), self.lstm.hidden_size)
        return self.head(self.lstm(rows, (start, start))[0][:, -1])


class AskingItsDropout(Plain):
    def between(self, hidden: Tensor) -> Tensor:
        return self.dropout(hidden) * (1 - self.dropout.p)


def test_layers_that_are_replaced_answer_what_models_ask_of_them():
    lstm = choose_arithmetic(workload_of(AskingItsLstm, models.Rows), 16, AXES, 16)
    assert lstm.arithmetic is Arithmetic.STACKED_MODULES
    assert choice(workload_of(AskingItsDropout)).arithmetic is Arithmetic.STACKED_MODULES


def test_a_model_that_no_path_can_train_is_refused_and_not_called_unstackable():
    with pytest.raises(WorkloadError, match="no parameter to train"):
        choice(workload_of(lambda size: three_layers(size).requires_grad_(False)))
    with pytest.raises(WorkloadError, match=r"torch\.float64; allowed: torch\.float32"):
        choice(workload_of(lambda size: three_layers(size).double()))


class Meant(Digits):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets).mean()


class Counted(Digits):
    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 2 * super().error(outputs, targets) + 0.5


class OfDoubles(Digits):
    def data(self, axes: AxisValues) -> Data:
        data = super().data(axes)
        sets = (data.train, data.validation, data.test)
        return Data(*(Split(split.inputs.double(), split.targets) for split in sets))


class Listing(Digits):
    def metrics(self, outputs: Tensor, targets: Tensor) -> Any:
        return [outputs.mean(1)]


class Averaging(Digits):
    def metrics(self, outputs: Tensor, targets: Tensor) -> Any:
        return {"brier": 0.5}


class Pair(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = three_layers(size)

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.layers(inputs)
        return outputs, outputs


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (Meant(), r"loss has shape \(\) for 8 examples; allowed: \(8,\)"),
        (Counted(), r"error lies in \[\d.5, 2.5\]; allowed: numbers in \[0, 1\]"),
        (Listing(), "metrics returns a list; allowed: a dict"),
        (Averaging(), r"metrics\['brier'\] has 0.5 for 8 examples"),
        (OfDoubles(), "A model of size 8 cannot be tried out on 8 examples .*RuntimeError: mat1"),
        (workload_of(Pair), "The model returns a tuple for 8 examples; allowed: one tensor"),
        (
            workload_of(CentredByTheBatch),
            "The outputs of an example depend on those beside it: number 4 of 8",
        ),
        (workload_of(CentredOfAWidthOfTheBatch), "The losses of an example depend on those besi"),
        (workload_of(Squeezed), r"The model returns shape \(10,\) for 1 of 8 examples; allowed"),
    ],
)
@pytest.mark.parametrize("stackable", [True, False])
def test_a_workload_whose_cells_would_all_fail_is_refused_when_a_path_is_chosen(
    workload: Workload, message: str, stackable: bool
):
    kind = type(type(workload).__name__, (type(workload),), {"stackable": stackable})
    with pytest.raises(WorkloadError, match=message):
        choice(kind())


def test_a_buffer_that_steps_change_is_named():
    assert "steps change the buffer 'mean'" in choice(workload_of(OfItsOwnStatistics)).reason


def test_a_workload_that_says_it_is_not_stackable_is_believed():
    class Single(models.Perceptron):
        stackable = False

    assert choice(Single()) == Choice(
        Arithmetic.ONE_BY_ONE, "the workload says that its cells are not stackable"
    )


def test_a_batch_so_large_that_stacking_gains_nothing_goes_one_by_one_on_a_cpu_alone():
    # 2 · (64 · 256 + 256 · 10) FLOPs an example, of 512, are 2 · 10⁷: 2²⁴ and more, in three
    # operations or a few more. A batch of one is far below.
    workload = models.Perceptron()
    assert choice(workload, 256, 512).arithmetic is Arithmetic.ONE_BY_ONE
    assert "so large" in choice(workload, 256, 512).reason
    assert choice(workload, 256, 512, "cuda").arithmetic is Arithmetic.STACKED_LAYERS
    assert choice(workload, 256, 1).arithmetic is Arithmetic.STACKED_LAYERS


def test_choosing_a_path_changes_no_generator_and_not_what_is_trained():
    class Fresh(models.Normed):
        """Not in the cache of choices."""

    torch.manual_seed(0)
    before, of_python = torch.get_rng_state(), random.getstate()
    recipe = models.DIGITS
    first = timeless(train(Fresh(), recipe, device="cpu"))
    choice(Fresh(), recipe.model_size, recipe.batch_size)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == of_python
    assert timeless(train(Fresh(), recipe, device="cpu")) == first


def test_functional_dropout_one_by_one_follows_the_seed(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    dropout = functional.dropout
    monkeypatch.setattr(
        functional, "dropout", lambda *args: drawn.append(dropout(*args).ne(0)) or dropout(*args)
    )
    results = []
    for _ in range(2):
        torch.rand(7)
        results.append(timeless(train(models.FunctionalDropout(), models.DIGITS, device="cpu")))
    assert results[0] == results[1]
    assert drawn
