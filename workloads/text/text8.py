# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""text8: 100 million characters of Wikipedia, the letters a to z and the space, by characters.

Source: M. Mahoney, About the test data (Large text compression benchmark). Parted as is usual: the
first nine tenths are the pool, the next twentieth is for validation, the last for test. The text
does not say where an article ends, so that shards are whole stretches of it, in an order that the
seed draws.
"""

import hashlib
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import AxisValues
from workloads.base import Data, Split
from workloads.data.cache import cached_arrays
from workloads.data.catalogue import TEXT8
from workloads.data.downloads import TEXT8_CHARACTERS
from workloads.errors import WorkloadError
from workloads.streams import permutation
from workloads.text.lstm_language import LstmLanguage
from workloads.text.next_token import NextToken
from workloads.text.sotu import chunks_of
from workloads.text.transformer_language import TransformerLanguage

__all__ = ["Text8", "Text8Lstm", "Text8Transformer"]

RECIPE = 1
"""Version of what is made of the file: raise it with any change to the data."""

SPACE, FIRST_LETTER = ord(" "), ord("a")


class Text8(NextToken):
    """The space is token 0, the letters follow. A subclass says what the model is."""

    tokens = 27
    context = 64
    characters: ClassVar[int] = TEXT8_CHARACTERS
    """Of the whole text; a file of another length is refused."""
    pool_chunks: ClassVar[int] = 2**19
    """Chunks of the pool, 34 million characters: a number that halves evenly."""
    stretch: ClassVar[int] = 2**10
    """Chunks of a stretch, 65,536 characters: a long article."""
    held_out: ClassVar[int] = 1024
    """Chunks of the validation set and of the test set, from all over their twentieths."""
    chance_error = 0.82995
    """The share of characters that are no space: of 10⁸, 17,005,207 are, one before each word."""

    def data(self, axes: AxisValues) -> Data:
        content = TEXT8.read("text8")
        key = (
            f"recipe {RECIPE}: chunks of {self.context}, {self.pool_chunks} in stretches of "
            f"{self.stretch}, and {self.held_out}; {hashlib.sha256(content).hexdigest()}"
        )
        arrays = cached_arrays("text8", key, lambda: self._arrays(content))
        splits = []
        for name in ("pool", "validation", "test"):
            chunks = torch.from_numpy(arrays[name].astype(np.int64))
            groups = torch.arange(len(chunks)) // self.stretch if name == "pool" else None
            splits.append(Split(chunks[:, :-1], chunks[:, 1:], groups))
        return Data(*splits)

    def _arrays(self, content: bytes) -> dict[str, NDArray[np.generic]]:
        numbers = _numbers(content, self.characters)
        nine_tenths, twentieth = self.characters * 9 // 10, self.characters // 20
        pool, validation, test = np.split(numbers, [nine_tenths, nine_tenths + twentieth])
        used = pool[: self.pool_chunks * self.context + 1]
        return {
            "pool": chunks_of(used.astype(np.int64), self.context),
            "validation": self._held_out(validation, "validation"),
            "test": self._held_out(test, "test"),
        }

    def _held_out(self, numbers: NDArray[np.uint8], name: str) -> NDArray[np.int16]:
        chunks = chunks_of(numbers.astype(np.int64), self.context)
        drawn = permutation(len(chunks), "text8", name)[: self.held_out]
        return chunks[np.sort(drawn)]


class Text8Lstm(Text8, LstmLanguage):
    """Characters of text8 by an LSTM."""

    name = "text8_lstm"
    version = 1


class Text8Transformer(Text8, TransformerLanguage):
    """Characters of text8 by a transformer."""

    name = "text8_transformer"
    version = 1


def _numbers(content: bytes, characters: int) -> NDArray[np.uint8]:
    """Return the (`characters`,) numbers of the characters; raises `WorkloadError` for others."""
    codes = np.frombuffer(content, np.uint8)
    letters = (codes >= FIRST_LETTER) & (codes < FIRST_LETTER + 26)
    strangers = codes[~letters & (codes != SPACE)]
    if len(codes) != characters or len(strangers):
        found = f", among them byte {strangers[0]}" if len(strangers) else ""
        raise WorkloadError(
            f"The file of data set 'text8' has {len(codes):,} bytes{found}; allowed: "
            f"{characters:,}, all of them spaces or letters from a to z. Remove it, and get the "
            f"data set anew: `{TEXT8.commands()[0]}`."
        )
    return np.where(letters, codes - np.uint8(FIRST_LETTER - 1), np.uint8(0))
