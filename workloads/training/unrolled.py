"""An LSTM of plain operations: torch's own (`aten::lstm`) has no batching rule to stack it by."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UnrolledLSTM", "unrolled"]


class UnrolledLSTM(nn.Module):
    """`nn.LSTM` step by step, with its parameters under their own names.

    Source of the equations: torch.nn.LSTM's documentation. σ(x) is computed as
    (1 + tanh(x/2)) / 2, because torch's sigmoid rounds by an element's place in memory.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        # By the names that a model which makes its own start states asks for.
        self.input_size, self.hidden_size = lstm.input_size, lstm.hidden_size
        self.num_layers, self.batch_first, self.bias = lstm.num_layers, lstm.batch_first, lstm.bias
        for name, parameter in lstm.named_parameters():
            self.register_parameter(name, parameter)

    @staticmethod
    def fault(lstm: nn.LSTM) -> str | None:
        """Return what keeps `lstm` from being unrolled, or None."""
        if lstm.dropout:
            return "drops out between its layers by torch's own generator"
        if lstm.bidirectional or lstm.proj_size:
            return "is bidirectional or has projections"
        return None

    def forward(
        self, inputs: Tensor, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return what `nn.LSTM` returns: the outputs, and the last hidden and cell states."""
        steps_first = inputs.transpose(0, 1) if self.batch_first else inputs
        zero = inputs.new_zeros(steps_first.shape[1], self.hidden_size)
        hidden_states, cell_states = [], []
        for layer in range(self.num_layers):
            hidden, cell = (zero, zero) if start is None else (start[0][layer], start[1][layer])
            # All steps' inputs at once; only what depends on the step before stays in the loop.
            projected = functional.linear(
                steps_first, self._of("weight_ih", layer), self._bias("bias_ih", layer)
            )
            outputs = []
            for step in projected.unbind(0):
                gates = step + functional.linear(
                    hidden, self._of("weight_hh", layer), self._bias("bias_hh", layer)
                )
                enter, forget, candidate, leave = gates.chunk(4, 1)
                cell = _sigmoid(forget) * cell + _sigmoid(enter) * torch.tanh(candidate)
                hidden = _sigmoid(leave) * torch.tanh(cell)
                outputs.append(hidden)
            steps_first = torch.stack(outputs)
            hidden_states.append(hidden)
            cell_states.append(cell)
        result = steps_first.transpose(0, 1) if self.batch_first else steps_first
        return result, (torch.stack(hidden_states), torch.stack(cell_states))

    def flatten_parameters(self) -> None:
        """Do nothing: there is no cuDNN to please."""

    def _of(self, name: str, layer: int) -> Tensor:
        return cast(Tensor, getattr(self, f"{name}_l{layer}"))

    def _bias(self, name: str, layer: int) -> Tensor | None:
        return self._of(name, layer) if self.bias else None


def unrolled(model: nn.Module) -> nn.Module:
    """Return `model` with its LSTMs unrolled; parameters keep their names."""
    if type(model) is nn.LSTM:
        return UnrolledLSTM(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.LSTM:
                setattr(parent, name, UnrolledLSTM(child))
    return model


def _sigmoid(values: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.tanh(0.5 * values))
