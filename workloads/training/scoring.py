"""Mean loss and error over a set, of one model or of many members at once."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from workloads.base import Split, Workload
from workloads.outcome import Score
from workloads.training.precision import float32_arithmetic
from workloads.training.stepper import Stepper, whole_lanes

__all__ = ["EVALUATION_CHUNK", "Chunks", "evaluate", "scores_of", "shared_chunks"]

EVALUATION_CHUNK = 1024
"""Examples of one member evaluated at once: bounds memory; fixed, because sums round by it."""


Chunks = Iterator[tuple[Tensor, Tensor]]


def evaluate(workload: Workload, model: nn.Module, split: Split) -> Score:
    """Return the mean loss and error of a plain model over `split`, as the engine takes them.

    The model is in training mode afterwards.
    """

    def outputs(members: slice, inputs: Tensor) -> Tensor:
        model.eval()
        result: Tensor = model(inputs[0])
        model.train()
        return result

    with torch.no_grad():
        (score,) = _sums(workload, outputs, slice(0, 1), shared_chunks(split))
    return score


def shared_chunks(split: Split) -> Chunks:
    """Yield (1, c, …) inputs and targets that all members are evaluated on."""
    for inputs, targets in zip(
        torch.split(split.inputs, EVALUATION_CHUNK),
        torch.split(split.targets, EVALUATION_CHUNK),
        strict=True,
    ):
        yield inputs[None], targets[None]


def scores_of(workload: Workload, stepper: Stepper, members: slice, chunks: Chunks) -> list[Score]:
    """Return the mean loss and error of some members of a stack over chunks of examples."""
    with float32_arithmetic(), stepper.running(), torch.no_grad():
        return _sums(workload, stepper.outputs, members, chunks)


def _sums(
    workload: Workload,
    outputs_of: Callable[[slice, Tensor], Tensor],
    members: slice,
    chunks: Chunks,
) -> list[Score]:
    n = members.stop - members.start
    totals, examples = None, 0
    for inputs, targets in chunks:
        size = inputs.shape[1]
        examples += size
        outputs = outputs_of(members, inputs.expand(n, *inputs.shape[1:]))
        rows = whole_lanes(outputs)
        wanted = whole_lanes(targets.expand(n, *targets.shape[1:]).flatten(0, 1))
        sums = torch.stack(
            [
                values[: n * size].view(n, size).sum(1, dtype=torch.float64)
                for values in (workload.loss(rows, wanted), workload.error(rows, wanted))
            ]
        )
        totals = sums if totals is None else totals + sums
    if totals is None:
        raise ValueError("A set without examples cannot be evaluated.")
    return [Score(loss, error) for loss, error in (totals / examples).T.tolist()]
