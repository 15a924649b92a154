# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Next-token prediction: what every language workload shares.

An example is a chunk of a document, read without what came before it: the first tokens of a chunk
are harder than they would be in place, by as much for every model and shard size.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from workloads.axis import Axis, AxisKind
from workloads.base import Workload

__all__ = ["WIDTH", "NextToken"]

WIDTH = Axis(
    name="model_size",
    kind=AxisKind.INTEGER,
    meaning="Width of the embeddings and of the hidden layers.",
    minimum=4,
    maximum=4096,
)


class NextToken(Workload):
    """A subclass sets `tokens` and `context`, and defines the data and the model.

    Inputs are (n, `context`) numbers of tokens, targets the token that follows each. The loss of
    a chunk is in nats a token, its error the share of its tokens that are not the likeliest one.
    """

    tokens: ClassVar[int]
    """Size of the vocabulary."""
    context: ClassVar[int]
    """Tokens of one chunk; each is predicted from those before it in the chunk."""

    model_size = WIDTH

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Tokens before classes: with 96 classes and more, rows are long enough to be computed
        # along (1.5 times as fast as classes first with 96, 3 with 2,048; one CPU thread).
        losses = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="none"
        )
        return losses.view(targets.shape).mean(1)

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) != targets).float().mean(1)
