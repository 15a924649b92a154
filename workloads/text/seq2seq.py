# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""From one sequence to another: what translation and pronunciation share.

A model sees the source and, teacher-forced, the true target up to each place; it names the next
token. Sequences have their own lengths: they stand at the left, with padding behind.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from workloads.base import Split, Workload
from workloads.text.next_token import WIDTH
from workloads.text.vocabulary import UNKNOWN

__all__ = ["NOT_A_TARGET", "PADDING", "SPECIALS", "Seq2Seq", "packed"]

SPECIALS = ("<pad>", "<start>", "<end>", UNKNOWN)
"""The first tokens of the vocabularies of source and target."""

PADDING, START, END = 0, 1, 2

NOT_A_TARGET = -1
"""The target where nothing is to be predicted."""


class Seq2Seq(Workload):
    """A subclass sets the sizes, and defines the data and the model.

    Inputs are (n, S + T): S places of the source, then T of the target behind a start token.
    Targets are (n, T): the target and an end token, `NOT_A_TARGET` behind it. Loss and error of an
    example are means over its own tokens, the end token included and padding not, so that a short
    sequence counts as much as a long one. Its sequence error is 1 where any token is wrong, with
    the true tokens before it given: no beam search, nothing decoded.
    """

    source_tokens: ClassVar[int]
    """Size of the source's vocabulary."""
    target_tokens: ClassVar[int]
    """Size of the target's vocabulary."""
    source_length: ClassVar[int]
    """S, the longest source."""
    target_length: ClassVar[int]
    """T, the longest target with its end token."""

    model_size = WIDTH

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=NOT_A_TARGET, reduction="none"
        )
        return losses.view(targets.shape).sum(1) / _lengths(targets)

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _wrong(outputs, targets).sum(1) / _lengths(targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return (n,) values of n examples beside loss and error: their `sequence_error`."""
        return {"sequence_error": _wrong(outputs, targets).any(1).float()}


def packed(
    sources: Sequence[NDArray[np.int64]],
    targets: Sequence[NDArray[np.int64]],
    source_length: int,
    target_length: int,
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the inputs (n, S + T) and targets (n, T) of n pairs of token numbers."""
    n = len(sources)
    inputs = np.full((n, source_length + target_length), PADDING, np.int16)
    wanted = np.full((n, target_length), NOT_A_TARGET, np.int16)
    inputs[:, source_length] = START
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        inputs[row, : len(source)] = source
        inputs[row, source_length + 1 : source_length + 1 + len(target)] = target
        wanted[row, : len(target)] = target
        wanted[row, len(target)] = END
    return inputs, wanted


def split_of(arrays: dict[str, NDArray[np.generic]], name: str) -> Split:
    """Return the split whose inputs, targets and, where there are any, groups are in `arrays`."""
    inputs, targets = (
        torch.from_numpy(arrays[f"{name}_{what}"].astype(np.int64))
        for what in ("inputs", "targets")
    )
    groups = arrays.get(f"{name}_groups")
    return Split(inputs, targets, None if groups is None else torch.from_numpy(np.array(groups)))


def _wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (n, T): whether there is a target and the likeliest token is another."""
    return (outputs.argmax(-1) != targets) & (targets != NOT_A_TARGET)


def _lengths(targets: Tensor) -> Tensor:
    return (targets != NOT_A_TARGET).sum(1)
