"""Mean loss and error over a set, of one model or of many members at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from workloads.base import BaseWorkload, Split, Workload
from workloads.errors import WorkloadError
from workloads.outcome import Score
from workloads.training.precision import float32_arithmetic
from workloads.training.stepper import Stepper, whole_lanes

__all__ = [
    "EVALUATION_CHUNK",
    "Chunks",
    "evaluate",
    "measures",
    "mixing_fault",
    "require_measures",
    "require_metric_names",
    "scores_of",
    "shared_chunks",
]

EVALUATION_CHUNK = 1024
"""Examples of one member evaluated at once: bounds memory; fixed, because sums round by it."""

FIRST_EXAMPLES = 8
"""On which a workload is tried out before anything is trained."""

MIXING = 1e-2
"""Of the largest output: from here on, what the examples beside one change in it is no rounding.
Rounding depends on how many are computed at once, and changed 5e-7 in the workloads here;
bfloat16, should a model round to it, has 4e-3. An LSTM along the examples changes 0.2."""

RESERVED_METRICS = ("loss", "error", "evaluations", "examples")
"""With 'validation_' or 'test_' before it, each is a column of its own."""

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
        sums = _Sums(workload, outputs, slice(0, 1), with_metrics=False)
        for inputs, targets in shared_chunks(split):
            sums.add(inputs, targets)
    (score,) = sums.scores()
    return score


def shared_chunks(split: Split) -> Chunks:
    """Yield (1, c, …) inputs and targets that all members are evaluated on."""
    for inputs, targets in zip(
        torch.split(split.inputs, EVALUATION_CHUNK),
        torch.split(split.targets, EVALUATION_CHUNK),
        strict=True,
    ):
        yield inputs[None], targets[None]


def scores_of(
    workload: Workload,
    stepper: Stepper,
    members: slice,
    chunks: Chunks,
    *,
    with_metrics: bool = False,
) -> list[Score]:
    """Return the mean loss and error of some members of a stack over chunks of examples.

    `with_metrics`: the workload's own metrics too.
    """
    with float32_arithmetic(), stepper.running(), torch.no_grad():
        sums = _Sums(workload, stepper.outputs, members, with_metrics)
        for index, (inputs, targets) in enumerate(chunks):
            # Of fewer chunks than ranks, the first is computed by those that have none.
            own = index % stepper.ranks == stepper.rank
            if own or index == 0:
                sums.add(inputs, targets, counts=own)
            else:
                sums.examples += inputs.shape[1]
        return sums.scores(stepper.summed)


def require_measures(workload: Workload, model: nn.Module, split: Split) -> None:
    """Raise `WorkloadError` unless loss, error and metrics of a few examples can be kept.

    Each must be one number an example, an error in [0, 1], and the outputs of an example the same
    whatever stands beside it.
    """
    inputs, targets = split.inputs[:FIRST_EXAMPLES], split.targets[:FIRST_EXAMPLES]
    rows = len(inputs)
    with torch.no_grad():
        outputs = model.eval()(inputs)
        if not isinstance(outputs, Tensor) or not outputs.dim() or len(outputs) != rows:
            shape = f" of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else ""
            raise WorkloadError(
                f"The model returns a {type(outputs).__name__}{shape} for {rows} examples; "
                "allowed: one tensor whose first dimension is the example. Wrap it in a module "
                "that returns one."
            )
        error = workload.error(outputs, targets)
        _require_values("loss", workload.loss(outputs, targets), rows)
        _require_values("error", error, rows)
        _checked_names(workload.metrics(outputs, targets), rows)
        fault = mixing_fault(workload, model, Split(inputs, targets), outputs, [[rows // 2]])
    if bool(((error < 0) | (error > 1)).any()):
        raise WorkloadError(
            f"error lies in [{error.min():g}, {error.max():g}]; allowed: numbers in [0, 1]. Scale "
            "it, or measure it as one of the metrics."
        )
    if fault is not None:
        raise WorkloadError(fault)


def mixing_fault(
    workload: Workload,
    model: nn.Module,
    split: Split,
    outputs: Tensor,
    parts: Iterable[Sequence[int]],
) -> str | None:
    """Return in which way the outputs of examples depend on those beside them, or None.

    `model` is in evaluation mode, and `outputs` are those of `split`; `parts`: places of examples
    that are computed without the others, or in another order. Outputs whose later dimensions
    depend on the batch, such as sequences cut to the longest, are judged by their losses. A model
    that draws even in evaluation is not judged.
    """
    for places in map(list, parts):
        own = model(split.inputs[places])
        if not own.dim() or len(own) != len(places):
            return (
                f"The model returns shape {tuple(own.shape)} for {len(places)} of {len(split)} "
                "examples; allowed: a first dimension that is the example, also of a single one."
            )
        what, alone, together = "outputs", own, outputs
        if alone.shape[1:] != together.shape[1:]:
            what, alone = "losses", workload.loss(own, split.targets[places])
            together = workload.loss(outputs, split.targets)
        off = (_finite(alone) - _finite(together[places])).abs().max()
        # Of all examples: the value of one may be 0 but for rounding.
        largest = _finite(together).abs().max()
        if off > MIXING * largest and torch.equal(model(split.inputs), outputs):
            said = f"numbers {places[0]} to {places[-1]}" if places[1:] else f"number {places[0]}"
            return (
                f"The {what} of an example depend on those beside it: {said} of {len(split)}, "
                f"computed without the rest or in this order: off by {off:.2g} (the largest "
                f"value: {largest:.2g}). In evaluation compute each for itself: nn.LSTM wants "
                "batch_first=True, and a mean over the first dimension is one over examples."
            )
    return None


def _finite(values: Tensor) -> Tensor:
    """Return values in float64, 0 for those that are not finite, such as masked scores."""
    return values.double().nan_to_num(0.0, 0.0, 0.0)


def measures(workload: BaseWorkload) -> bool:
    """Return whether the workload measures more than loss and error."""
    return isinstance(workload, Workload) and type(workload).metrics is not Workload.metrics


class _Sums:
    """Sums over examples of what is measured of some members."""

    def __init__(
        self,
        workload: Workload,
        outputs_of: Callable[[slice, Tensor], Tensor],
        members: slice,
        with_metrics: bool,
    ) -> None:
        self._workload, self._outputs_of = workload, outputs_of
        self._members, self._with_metrics = members, with_metrics
        self._names: list[str] = []
        self.totals: Tensor | None = None
        """(measures, members) sums in float64."""
        self.examples = 0
        """How many each member saw."""

    def add(self, inputs: Tensor, targets: Tensor, *, counts: bool = True) -> None:
        """Take in (k, c, …) examples of each member, or (1, c, …) that all share.

        `counts`: False for what another process takes in; this one then learns the measures alone.
        """
        n, size = self._members.stop - self._members.start, inputs.shape[1]
        self.examples += size
        outputs = self._outputs_of(self._members, inputs.expand(n, *inputs.shape[1:]))
        rows = whole_lanes(outputs)
        wanted = whole_lanes(targets.expand(n, *targets.shape[1:]).flatten(0, 1))
        workload = self._workload
        metrics = workload.metrics(rows, wanted) if self._with_metrics else {}
        self._names = _checked_names(metrics, len(rows))
        measured = (workload.loss(rows, wanted), workload.error(rows, wanted), *metrics.values())
        sums = torch.stack(
            [values[: n * size].view(n, size).sum(1, dtype=torch.float64) for values in measured]
        )
        sums = sums if counts else torch.zeros_like(sums)
        self.totals = sums if self.totals is None else self.totals + sums

    def scores(self, summed: Callable[[Tensor], Tensor] = lambda totals: totals) -> list[Score]:
        """Return the means of each member. `summed`: adds what other processes took in."""
        if self.totals is None:
            raise ValueError("A set without examples cannot be evaluated.")
        return [
            Score(loss, error, dict(zip(self._names, own, strict=True)))
            for loss, error, *own in (summed(self.totals) / self.examples).T.tolist()
        ]


def require_metric_names(names: Iterable[str]) -> None:
    """Raise `WorkloadError` unless metrics of these names can be columns beside the store's."""
    for name in names:
        if not name.isidentifier() or name in RESERVED_METRICS:
            raise WorkloadError(
                f"metrics has the name {name!r}; allowed: letters, digits and '_', and none of "
                f"{', '.join(RESERVED_METRICS)}. Rename it."
            )


def _checked_names(metrics: Mapping[str, Tensor], rows: int) -> list[str]:
    if not isinstance(metrics, Mapping):
        raise WorkloadError(
            f"metrics returns a {type(metrics).__name__}; allowed: a dict of one tensor a name."
        )
    require_metric_names(metrics)
    for name, values in metrics.items():
        _require_values(f"metrics[{name!r}]", values, rows)
    return list(metrics)


def _require_values(what: str, values: object, rows: int) -> None:
    if not isinstance(values, Tensor) or values.shape != (rows,):
        found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise WorkloadError(
            f"{what} has {found} for {rows} examples; allowed: ({rows},), one value an example and "
            "not their mean."
        )
