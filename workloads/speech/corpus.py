"""All utterances as features and phones, made once and cached; and which of them are held out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.data.cache import cached_arrays
from workloads.data.catalogue import FESTVOX_RU
from workloads.speech.features import BANDS, FRAME_SECONDS, log_mel, standardized
from workloads.speech.voice import SAMPLE_RATE, Utterance, utterance_files, voice_digest
from workloads.streams import permutation

__all__ = ["Corpus", "Spoken", "corpus", "corpus_fingerprint", "split_utterances"]

RECIPE = (
    f"features 1: {BANDS} log-mel bands at {SAMPLE_RATE} Hz every {FRAME_SECONDS} s, no dither, "
    "each band of an utterance standardized by itself"
)
"""What the features are; the number in it goes up with any change to them."""

HELD_OUT = 10
"""One utterance of so many is for validation, another for testing: 62 and 62 of 620, ten minutes
each."""


@dataclass(frozen=True)
class Spoken:
    """One utterance as a model hears it."""

    features: NDArray[np.float32]
    """(frames, bands), standardized."""
    ends: NDArray[np.float64]
    """(k,) seconds at which its phones end."""
    phones: NDArray[np.uint8]
    """(k,) their numbers."""


class Corpus:
    """The utterances of the voice, by their place in the order of names."""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays["first_frame"]) - 1

    def __getitem__(self, utterance: int) -> Spoken:
        frames = self._own("first_frame", utterance)
        labels = self._own("first_phone", utterance)
        return Spoken(
            self._arrays["features"][frames].astype(np.float32, copy=False),
            self._arrays["ends"][labels].astype(np.float64, copy=False),
            self._arrays["phones"][labels].astype(np.uint8, copy=False),
        )

    def _own(self, first: str, utterance: int) -> slice:
        begin, end = self._arrays[first][utterance : utterance + 2].astype(np.int64)
        return slice(int(begin), int(end))


def corpus() -> Corpus:
    """Return the utterances; raises `MissingDataError` where the recordings are not here."""
    files = utterance_files(FESTVOX_RU.paths())
    digest = _digest(tuple(files))
    return Corpus(cached_arrays(FESTVOX_RU.name, f"{RECIPE}\n{digest}", lambda: _arrays(files)))


def corpus_fingerprint(recipe: str) -> str:
    """Return 16 hex digits that change with the files and with what is made of them by `recipe`.

    Not of the features' bytes: logarithms and Fourier transforms differ between machines in the
    last bit, and a cell must have one identity everywhere.
    """
    digest = _digest(tuple(utterance_files(FESTVOX_RU.paths())))
    split = f"one of {HELD_OUT} for validation and for testing"
    text = f"{digest}\n{RECIPE}\n{split}\n{recipe}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_utterances(utterances: int) -> tuple[list[int], list[int], list[int]]:
    """Return which utterances are the pool, the validation and the test set.

    The same for all workloads, so that their errors are of the same sentences.
    """
    order = permutation(utterances, FESTVOX_RU.name, "split").tolist()
    held_out = max(1, utterances // HELD_OUT)
    pool = utterances - 2 * held_out
    return order[:pool], order[pool : pool + held_out], order[pool + held_out :]


@lru_cache(maxsize=2)
def _digest(files: tuple[tuple[Path, Path], ...]) -> str:
    """Return the digest of the files, which are 190 MB, read once per process (0.4 s)."""
    return voice_digest(files)


def _arrays(files: list[tuple[Path, Path]]) -> dict[str, NDArray[np.generic]]:
    spoken = list(_all_spoken(files))
    return {
        "features": np.concatenate([each.features for each in spoken]),
        "ends": np.concatenate([each.ends for each in spoken]),
        "phones": np.concatenate([each.phones for each in spoken]),
        "first_frame": np.cumsum([0, *(len(each.features) for each in spoken)]),
        "first_phone": np.cumsum([0, *(len(each.phones) for each in spoken)]),
    }


def _all_spoken(files: list[tuple[Path, Path]]) -> Iterator[Spoken]:
    for pair in files:
        utterance = Utterance.read(*pair)
        features = standardized(log_mel(utterance.samples))
        yield Spoken(features, utterance.ends, utterance.phones)
