import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.workloads.samples import Signs
from workloads.base import Data, ModelCost, Split
from workloads.cost import counted_costs, learn_costs, model_cost, training_flops
from workloads.registry import find_workload


def test_a_perceptron_costs_two_operations_a_weight():
    cost = model_cost(find_workload("digits"), 32, {"label_noise": 0.0})
    assert cost.parameter_count == 64 * 32 + 32 + 32 * 10 + 10
    assert cost.forward_flops_per_example == 2 * (64 * 32 + 32 * 10)


def test_training_costs_three_forward_passes_an_example():
    assert (
        training_flops(
            ModelCost(parameter_count=1, forward_flops_per_example=100, forward_operations=1), 7
        )
        == 2100
    )


class Convolving(Signs):
    """4 × 4 images with 3 kernels of 3 × 3, one of its two layers frozen."""

    name = "convolving"

    def model(self, size: int) -> nn.Module:
        frozen = nn.Linear(3 * 2 * 2, 2).requires_grad_(False)
        return nn.Sequential(
            nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3), nn.Flatten(), frozen
        )


def test_convolutions_count_and_frozen_parameters_are_not_trained():
    cost = model_cost(Convolving(), 1, {"shift": 0.0})
    assert cost.forward_flops_per_example == 2 * (4 * 16 + 2 * 2 * 3 * 9 + 12 * 2)
    assert cost.parameter_count == 4 * 16 + 16 + 3 * 9 + 3


class Introspective(Signs):
    """Reads its own values while it is made, so that it cannot be built without memory."""

    name = "introspective"

    def model(self, size: int) -> nn.Module:
        model = super().model(size)
        model[0].weight.data /= float(model[0].weight.detach().norm())
        return model


class ByNumPy(Signs):
    """Reads its own values as an array."""

    name = "by numpy"

    def model(self, size: int) -> nn.Module:
        model = super().model(size)
        model[0].weight.data /= np.linalg.norm(model[0].weight.detach().numpy())
        return model


@pytest.mark.parametrize("workload", [Introspective, ByNumPy])
def test_a_model_that_reads_its_values_is_counted_on_the_cpu_without_touching_the_generator(
    workload,
):
    before = torch.get_rng_state()
    cost = model_cost(workload(), 5, {"shift": 0.0})
    assert cost == model_cost(Signs(), 5, {"shift": 0.0})
    assert torch.equal(torch.get_rng_state(), before)


class Sequences(Signs):
    """Tokens, for a model that asks whether it may."""

    asks = False

    def data(self, axes):
        tokens = torch.arange(64).view(8, 8) % 5
        return Data(*[Split(tokens, tokens)] * 3)


class Attending(Sequences):
    name = "attending"

    def model(self, size: int) -> nn.Module:
        return _Asking(nn.TransformerEncoderLayer(size, 2, size, batch_first=True), self.asks)


class Recurrent(Sequences):
    name = "recurrent"

    def model(self, size: int) -> nn.Module:
        return _Asking(nn.LSTM(size, size, batch_first=True), self.asks)


class _Asking(nn.Module):
    def __init__(self, layer: nn.Module, asks: bool) -> None:
        super().__init__()
        self.embedding, self.layer, self.asks = nn.Embedding(5, 16), layer, asks

    def forward(self, tokens: Tensor) -> Tensor:
        if self.asks and not (tokens >= 0).all():
            raise ValueError("a token below 0")
        return self.layer(self.embedding(tokens))


@pytest.mark.parametrize("workload", [Attending, Recurrent])
def test_a_model_that_asks_for_values_costs_what_it_costs_without_asking(workload):
    asking = type("Asking", (workload,), {"asks": True})
    cost = model_cost(workload(), 16, {})
    assert model_cost(asking(), 16, {}).forward_flops_per_example == cost.forward_flops_per_example
    assert cost.forward_flops_per_example > 2 * 8 * 16 * 16  # more than one product of a token
    assert torch._C._get_mkldnn_enabled()  # as before


def test_a_model_is_counted_without_memory_for_its_parameters(monkeypatch):
    devices = set()
    build = Signs.model

    def watched(self: Signs, size: int) -> nn.Module:
        model = build(self, size)
        devices.update(p.device.type for p in model.parameters())
        return model

    monkeypatch.setattr(Signs, "model", watched)
    model_cost(Signs(), 64, {"shift": 0.0})
    assert devices == {"meta"}


def test_a_process_that_has_learnt_what_another_counted_does_not_count(monkeypatch):
    monkeypatch.setattr("workloads.cost._costs", {})  # without those of other tests' classes
    cost = model_cost(Signs(), 48, {"shift": 0.0})
    sent = pickle.dumps(counted_costs())
    monkeypatch.setattr("workloads.cost._costs", {})
    monkeypatch.delattr(Signs, "model")
    learn_costs(pickle.loads(sent))
    assert model_cost(Signs(), 48, {"shift": 0.0}) == cost


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)], (12,)),
        ([nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 5), nn.GELU()], (3, 4)),
        ([nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)], (3, 4)),
    ],
)
def test_a_perceptron_costs_what_torchs_counter_counts(layers, shape):
    class Layers(Signs):
        def data(self, axes):
            inputs = torch.zeros(8, *shape)
            return Data(*[Split(inputs, torch.zeros(8, dtype=torch.int64))] * 3)

        def model(self, size):
            return nn.Sequential(*layers)

    with FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers)(torch.zeros(1, *shape))
    cost = model_cost(Layers(), 1, {})
    assert cost.forward_flops_per_example == counter.get_total_flops()


def test_a_perceptron_is_counted_without_torchs_compiler():
    script = (
        "import sys\n"
        "from workloads.cost import model_cost\n"
        "from workloads.registry import find_workload\n"
        "model_cost(find_workload('digits'), 8, {'label_noise': 0.0})\n"
        "print('torch._dynamo' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout == "False\n", answer.stderr
