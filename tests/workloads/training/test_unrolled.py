from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workloads.training.unrolled import UnrolledLSTM, unrolled

ROUNDING = {"rtol": 2e-5, "atol": 2e-6}
"""Six steps of float32 sums of some dozen products, whose σ is computed otherwise: each rounds at
6e-8 of values of about one. A gate in another's place is off by more than 0.01."""


def gradients(
    outputs: Tensor, states: tuple[Tensor, Tensor], wanted: list[Tensor]
) -> tuple[Tensor, ...]:
    """Return gradients by `wanted` of a sum that weighs every output and state differently."""
    parts = [outputs, *states]
    weights = [torch.linspace(-1, 1, part.numel()).view(part.shape) for part in parts]
    total = sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True))
    return torch.autograd.grad(total, wanted)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_start", [False, True])
def test_outputs_states_and_gradients_are_those_of_torchs_lstm(
    layers: int, batch_first: bool, bias: bool, with_start: bool
):
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        lstm = nn.LSTM(5, 7, num_layers=layers, batch_first=batch_first, bias=bias)
    shape = (4, 6, 5) if batch_first else (6, 4, 5)
    inputs = torch.randn(shape, generator=generator, requires_grad=True)
    start: Any = None
    if with_start:
        start = tuple(
            torch.randn(layers, 4, 7, generator=generator, requires_grad=True) for _ in range(2)
        )
    wanted = [inputs, *lstm.parameters(), *(start or ())]

    theirs, their_states = lstm(inputs, start)
    ours, our_states = UnrolledLSTM(lstm)(inputs, start)

    torch.testing.assert_close(ours, theirs, **ROUNDING)
    torch.testing.assert_close(our_states, their_states, **ROUNDING)
    for one, other in zip(
        gradients(ours, our_states, wanted), gradients(theirs, their_states, wanted), strict=True
    ):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_the_lstms_of_a_model_are_replaced_and_its_parameters_keep_their_names_and_values():
    model = nn.ModuleDict({"a": nn.LSTM(2, 3), "b": nn.ModuleList([nn.LSTM(3, 3, bias=False)])})
    before = dict(model.named_parameters())
    after = dict(unrolled(model).named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert not any(isinstance(module, nn.LSTM) for module in model.modules())
    assert isinstance(unrolled(nn.LSTM(2, 3)), UnrolledLSTM)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"dropout": 0.5, "num_layers": 2}, "drops out"),
        ({"bidirectional": True}, "bidirectional"),
        ({"proj_size": 2}, "projections"),
    ],
)
def test_what_is_not_unrolled_says_why(settings: dict[str, Any], cause: str):
    assert cause in (UnrolledLSTM.fault(nn.LSTM(2, 3, **settings)) or "")
    assert UnrolledLSTM.fault(nn.LSTM(2, 3)) is None
