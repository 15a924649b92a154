"""The one constant guess that can be the best: of a vocabulary, too many to try them all."""

from collections.abc import Iterator

import torch
from torch import Tensor


def guess_always(token: int, outputs: Tensor) -> Iterator[Tensor]:
    """Yield outputs that name `token` everywhere."""
    guess = torch.zeros_like(outputs)
    guess[..., token] = 1.0
    yield guess
