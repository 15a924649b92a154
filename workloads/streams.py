"""Counter-based random streams: all randomness of a cell, from its seed and a purpose.

A stream is Philox keyed by SHA-256 of (workload, seed, purpose, …), so that any draw can be made
in any process, in any order, without state. Permutations are argsorts of raw 64-bit draws: Philox's
raw output is fixed by its definition, while NumPy may change the methods of `Generator`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["forked_torch_generator", "permutation", "permutations", "stream", "stream_key"]

DRAWS_PER_COUNT = 4
"""Philox 4×64 gives four 64-bit draws for each value of its counter."""


def _key(parts: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(json.dumps(list(parts), separators=(",", ":")).encode()).digest()


def stream(*parts: str | int) -> np.random.Generator:
    """Return the random generator that belongs to `parts`, at its beginning.

    Equal parts give equal streams in every process; different parts independent ones.
    """
    return np.random.Generator(_philox(parts))


def permutation(n: int, *parts: str | int) -> NDArray[np.int64]:
    """Return the (n,) permutation of 0 … n-1 that belongs to `parts`."""
    return np.argsort(_philox(parts).random_raw(n), kind="stable").astype(np.int64)


def permutations(n: int, first: int, number: int, *parts: str | int) -> NDArray[np.int64]:
    """Return (number, n) permutations of 0 … n-1: those from `first` on that belong to `parts`.

    The k-th is the same whether it is drawn alone or among others.
    """
    counts = -(-n // DRAWS_PER_COUNT)
    philox = np.random.Philox(key=_philox_key(parts), counter=first * counts)
    draws = philox.random_raw(number * counts * DRAWS_PER_COUNT).reshape(number, -1)[:, :n]
    # Two equal draws of 64 bits, whose order a sort may choose, have probability n² / 2⁶⁵.
    return np.argsort(draws, axis=1).astype(np.int64, copy=False)


def stream_key(*parts: str | int) -> int:
    """Return the 63-bit key that belongs to `parts`, for a generator that is not NumPy's."""
    return int.from_bytes(_key(parts)[:8], "big") >> 1


@contextmanager
def forked_torch_generator(*parts: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Run the block with torch's global generators seeded from `parts`, then restore them.

    The generators are the CPU's and, where `device` is a CUDA device, its; no other is
    touched.
    """
    seed = stream_key(*parts)
    cuda = [] if device is None or device.type != "cuda" else [device]
    with torch.random.fork_rng(devices=cuda):
        # Not torch.manual_seed, which would seed every CUDA device and restore none.
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


def _philox(parts: tuple[str | int, ...]) -> np.random.Philox:
    return np.random.Philox(key=_philox_key(parts))


def _philox_key(parts: tuple[str | int, ...]) -> int:
    return int.from_bytes(_key(parts)[:16], "big")
