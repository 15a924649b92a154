"""What is told of outputs that depend on other examples, and what is rounding or a mask."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.samples import Signs
from workloads.base import Split
from workloads.training.scoring import mixing_fault

INPUTS = torch.linspace(-1, 1, 9)[:, None].expand(9, 2)
MIDDLE = 4
"""Where they are 0."""


class Computed(nn.Module):
    def __init__(self, outputs: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self._outputs(inputs)


def fault(outputs: Callable[[Tensor], Tensor]) -> str | None:
    model, examples = Computed(outputs), Split(INPUTS, torch.arange(9) % 2)
    return mixing_fault(Signs(), model, examples, model(INPUTS), [[MIDDLE], range(8, -1, -1)])


def masked(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, inputs.new_full((len(inputs), 1), -torch.inf)], 1)


@pytest.mark.parametrize(
    "outputs",
    [
        lambda x: x,
        lambda x: x + 1e-7 / len(x),  # rounding, where the value itself is 0
        masked,
        lambda x: x * torch.nan,
        lambda x: x + torch.rand(()),  # drawn, which another check tells
        lambda x: torch.zeros(len(x), 2),
    ],
)
def test_what_does_not_come_from_other_examples_is_no_fault(
    outputs: Callable[[Tensor], Tensor],
) -> None:
    assert fault(outputs) is None


@pytest.mark.parametrize(
    ("outputs", "places"),
    [
        (lambda x: x + 0.1 * x.max(), "number 4"),
        (lambda x: masked(x + 0.1 * x.max()), "number 4"),
        (lambda x: x.cumsum(0), "number 4"),
        (lambda x: x + 0.1 * (torch.arange(len(x)) == 0)[:, None], "number 4"),
        # The one in the middle is 0 and takes nothing.
        (lambda x: x * (1 - x[-1:]), "numbers 8 to 0"),
    ],
)
def test_what_comes_from_other_examples_or_their_order_is_one(
    outputs: Callable[[Tensor], Tensor], places: str
) -> None:
    said = fault(outputs)
    assert said is not None
    assert said.startswith(f"The outputs of an example depend on those beside it: {places} of 9,")
