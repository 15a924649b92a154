"""Recordings with phone labels in the layout of Festival's voices: `wav/*.wav` and `lab/*.lab`.

A label file has a line `#`, and then for each phone the second at which it ends, a number that
means nothing here, and its name. A phone begins where the one before ends, the first at 0.
"""

import hashlib
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

__all__ = [
    "PAUSE",
    "PHONES",
    "SAMPLE_RATE",
    "Utterance",
    "phone_at",
    "stretches",
    "utterance_files",
    "voice_digest",
]

SAMPLE_RATE = 16_000
"""Samples a second."""

PAUSE = 0
"""Number of the phone that is none."""

PHONES = (
    *("pau", "a", "aa", "ae", "ay", "b", "bb", "c", "ch", "d", "dd", "e", "ee", "f", "ff", "g"),
    *("gg", "h", "hh", "i", "ii", "j", "k", "kk", "l", "ll", "m", "mm", "n", "nn", "oo", "p", "pp"),
    *("r", "rr", "s", "sch", "sh", "ss", "t", "tt", "u", "ur", "uu", "v", "vv", "y", "yy", "z"),
    *("zh", "zz"),
)
"""Names in the label files; a phone's number is its place."""

_NUMBERS = {name: number for number, name in enumerate(PHONES)}


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it, when."""

    name: str
    samples: NDArray[np.int16]
    """(n,) of `SAMPLE_RATE`."""
    ends: NDArray[np.float64]
    """(k,) seconds at which the k phones end, ascending."""
    phones: NDArray[np.uint8]
    """(k,) their numbers."""

    @classmethod
    def read(cls, sound: Path, labels: Path) -> "Utterance":
        """Return the utterance of two files; raises `WorkloadError` where one is another thing."""
        ends, phones = _labels(labels)
        return cls(sound.stem, _samples(sound), ends, phones)


def utterance_files(paths: Mapping[str, Path]) -> list[tuple[Path, Path]]:
    """Return the sound and the labels of each utterance, by name.

    `paths`: of the folders "wav" and "lab". Raises `WorkloadError` unless they name the same ones.
    """
    sounds = sorted(paths["wav"].glob("*.wav"))
    labels = sorted(paths["lab"].glob("*.lab"))
    alone = {path.stem for path in sounds} ^ {path.stem for path in labels}
    if alone or not sounds:
        raise WorkloadError(
            f"{paths['wav']} has {len(sounds)} recordings and {paths['lab']} {len(labels)} label "
            f"files; {', '.join(sorted(alone)[:3]) or 'none'} without the other. Unpack the data "
            "set anew."
        )
    return list(zip(sounds, labels, strict=True))


def voice_digest(files: Sequence[tuple[Path, Path]]) -> str:
    """Return SHA-256 in hex over names and contents of the files of all utterances."""
    digest = hashlib.sha256()
    for pair in files:
        for path in pair:
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def phone_at(
    seconds: NDArray[np.float64], ends: NDArray[np.float64], phones: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the (n,) phones spoken at (n,) `seconds`, all before the last of the (k,) `ends`."""
    return phones[np.searchsorted(ends, seconds, side="right")]


def stretches(
    ends: NDArray[np.float64], phones: NDArray[np.uint8]
) -> Iterator[tuple[float, float, NDArray[np.uint8]]]:
    """Yield (begin, end, phones) of what is spoken between two pauses, in seconds."""
    begins = np.concatenate([[0.0], ends[:-1]])
    spoken = np.concatenate([[False], phones != PAUSE, [False]])
    changes = np.flatnonzero(spoken[1:] != spoken[:-1])
    for first, after in changes.reshape(-1, 2):
        yield float(begins[first]), float(ends[after - 1]), phones[first:after]


def _labels(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    lines = path.read_text(encoding="utf-8").split("#", 1)[-1].splitlines()
    entries = [line.split() for line in lines if line.strip()]
    try:
        ends = np.array([float(end) for end, _, _ in entries])
        phones = np.array([_NUMBERS[name] for _, _, name in entries], np.uint8)
    except (ValueError, KeyError) as error:
        raise WorkloadError(
            f"{path} has a line that is not a second, a number and one of the phones "
            f"{', '.join(PHONES)}: {error}. Unpack the data set anew."
        ) from error
    if not len(ends) or (np.diff(ends, prepend=0.0) <= 0).any():
        raise WorkloadError(f"{path} has no phones, or times that do not ascend.")
    return ends, phones


def _samples(path: Path) -> NDArray[np.int16]:
    try:
        with wave.open(str(path)) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            content = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise WorkloadError(f"{path} is no WAV file: {error}. Unpack the data set anew.") from error
    if kind != (1, 2, SAMPLE_RATE):
        raise WorkloadError(
            f"{path} has {kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz; allowed: one of "
            f"16 bits at {SAMPLE_RATE} Hz. Convert it."
        )
    return np.frombuffer(content, "<i2").astype(np.int16)
