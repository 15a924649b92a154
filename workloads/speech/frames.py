# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Which phone is spoken now? A perceptron and a convolutional network on a window of speech.

An example is a moment of an utterance, and the group of an example is its utterance: shards are
whole utterances, so that their sizes count speech as in Hestness et al. 2017, not moments that are
neighbours of each other.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split
from workloads.classification import Classification
from workloads.speech.corpus import Corpus, Spoken, corpus, corpus_fingerprint, split_utterances
from workloads.speech.features import BANDS, frame_centres
from workloads.speech.voice import PHONES, phone_at

__all__ = ["SpeechFramesCnn", "SpeechFramesMlp"]

CONTEXT = 5
"""Frames heard before and after a moment: a window of 110 ms, about one phone."""

WINDOW = 2 * CONTEXT + 1

EVERY = 3
"""A moment is taken every 30 ms, the length of the shortest phones: moments nearer to each other
hear almost the same. As in Pundak and Sainath 2016, Lower frame rate neural network acoustic
models, doi:10.21437/Interspeech.2016-275."""

RECIPE = f"frames 1: {WINDOW} frames about every {EVERY}rd"


class _SpeechFrames(Classification):
    """The data of both."""

    classes = len(PHONES)
    chance_error = 0.7865
    """One minus the share of the commonest phone, the pause, in all 198,795 moments."""

    def data(self, axes: AxisValues) -> Data:
        voice = corpus()
        return Data(*(_moments(voice, own) for own in split_utterances(len(voice))))

    def data_fingerprint(self, axes: AxisValues) -> str:
        return corpus_fingerprint(RECIPE)


class SpeechFramesMlp(_SpeechFrames):
    """Phone of a moment by a perceptron with one hidden layer."""

    name = "speech_frames_mlp"
    version = 1
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Width of the hidden ReLU layer.",
        minimum=1,
        maximum=4096,
    )

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(WINDOW * BANDS, size),
            nn.ReLU(),
            nn.Linear(size, len(PHONES)),
        )


class SpeechFramesCnn(_SpeechFrames):
    """Phone of a moment by two convolutions over time and frequency.

    With strides instead of pooling, which took several times as long.
    """

    name = "speech_frames_cnn"
    version = 1
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Channels of the first convolution; the second has twice as many.",
        minimum=1,
        maximum=512,
    )

    def model(self, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, size, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(size, 2 * size, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * size * _quarter(WINDOW) * _quarter(BANDS), len(PHONES)),
        )


def _quarter(length: int) -> int:
    """Return what two strides of 2 leave of `length`."""
    return -(-length // 4)


def _moments(voice: Corpus, utterances: list[int]) -> Split:
    """Return the moments of some utterances: (n, 1, window, bands) and their (n,) phones."""
    heard = [_moments_of(voice[number]) for number in utterances]
    sizes = torch.tensor([len(phones) for _, phones in heard])
    return Split(
        torch.from_numpy(np.concatenate([windows for windows, _ in heard])).unsqueeze(1),
        torch.from_numpy(np.concatenate([phones for _, phones in heard])),
        torch.arange(len(heard)).repeat_interleave(sizes),
    )


def _moments_of(one: Spoken) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the (n, window, bands) windows about every third frame, and the (n,) phones there.

    Beyond the ends of an utterance its first or last frame goes on. Moments after the last label's
    end, of which an utterance has one at most, are left out.
    """
    centres = frame_centres(len(one.features))[EVERY // 2 :: EVERY]
    labelled = centres < one.ends[-1]
    moments = np.arange(EVERY // 2, len(one.features), EVERY)[labelled]
    window = moments[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    places = np.clip(window, 0, len(one.features) - 1)
    phones = phone_at(centres[labelled], one.ends, one.phones)
    return one.features[places], phones.astype(np.int64)
