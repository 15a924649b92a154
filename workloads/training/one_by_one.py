"""One cell at a time, as the workload's own model computes it: works for every model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from typing_extensions import override

from workloads.base import Workload
from workloads.recipe import Recipe
from workloads.streams import forked_torch_generator
from workloads.training.dropout import CellDropout, set_step
from workloads.training.flat_update import flat_update
from workloads.training.stepper import Stepper

__all__ = ["OneByOne"]


class OneByOne(Stepper):
    """A stack of one: the model itself, autograd, and an update of all parameters at once.

    Where the rule is `sgd` without weight decay, torch.optim.SGD's to the last bit.
    What the model draws from torch's generators while it trains comes from the cell's own stream.
    """

    def __init__(
        self, workload: Workload, model: nn.Module, recipe: Recipe, device: torch.device
    ) -> None:
        self._workload, self._recipe, self._device = workload, recipe, device
        self._model = model.to(device)
        self._has_dropout = any(isinstance(m, CellDropout) for m in model.modules())
        self._update = flat_update(self._model, recipe)
        self._generators: list[Tensor] | None = None
        self.members = 1
        self.elements_per_example = 1

    @override
    def step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        if self._has_dropout:
            set_step(self._model, step)
        self._update.begin()
        loss = self._workload.loss(self._model(inputs), targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self._update.move(step)
        return loss.detach().view(1)

    @override
    def set_learning_rates(self, rates: Tensor) -> None:
        self._update.set_learning_rate(rates.item())

    @override
    def outputs(self, members: slice, inputs: Tensor) -> Tensor:
        self._model.eval()
        with torch.no_grad():
            outputs: Tensor = self._model(inputs[0])
        self._model.train()
        return outputs

    @override
    def keep(self, members: Tensor | slice) -> None:
        # One member stays, or the stack is empty and is used no more.
        self.members = len(torch.arange(self.members)[members])

    @override
    def state(self) -> dict[str, Tensor]:
        buffers = {f"buffer {name}": b for name, b in self._model.named_buffers()}
        tensors = {**self._update.state(), **buffers}
        generators = {f"generator {i}": g for i, g in enumerate(self._generators or [])}
        # A copy, because the caller may go on training before it writes.
        return {name: t.cpu().clone()[None] for name, t in (tensors | generators).items()}

    @override
    def load(self, state: Mapping[str, Tensor]) -> None:
        buffers = dict(self._model.named_buffers())
        generators = {}
        for name, tensor in state.items():
            kind, _, rest = name.partition(" ")
            if kind == "generator":
                generators[int(rest)] = tensor[0]
            elif kind == "buffer":
                buffers[rest].copy_(tensor[0])
            else:
                self._update.state()[name].copy_(tensor[0])
        self._generators = [generators[i] for i in sorted(generators)] or None

    @contextmanager
    @override
    def running(self) -> Iterator[None]:
        with forked_torch_generator(
            self._workload.name, self._recipe.seed, "dropout", device=self._device
        ):
            if self._generators is not None:
                _set_generators(self._generators, self._device)
            try:
                yield
            finally:
                self._generators = _generator_states(self._device)


def _generator_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_generators(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
