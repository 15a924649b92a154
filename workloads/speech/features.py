"""Log-mel features of sound, by Kaldi's recipe: what acoustic models have been fed for decades."""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.speech.voice import SAMPLE_RATE

__all__ = ["BANDS", "FRAME_SECONDS", "frame_centres", "log_mel", "standardized"]

BANDS = 24
"""Mel bands from 20 Hz to 8 kHz."""

FRAME_SECONDS = 0.01
"""From one frame's centre to the next; the first lies half of this after the beginning."""

LEAST_DEVIATION = 1e-3
"""A band quieter than this never changes: digital silence."""


def log_mel(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the (frames, `BANDS`) natural logarithms of the energy in each band.

    Windows of 25 ms. No dither, which would be random. Raises `WorkloadError` where the library is
    not installed.
    """
    try:
        from kaldi_native_fbank import FbankOptions, OnlineFbank
    except ImportError as error:
        raise WorkloadError(
            "Features of speech are made by kaldi-native-fbank, which cannot be imported "
            f"({error}). Install it: pip install kaldi-native-fbank."
        ) from error
    options = FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.frame_shift_ms = 1000 * FRAME_SECONDS
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False  # a frame for every shift, centred in it
    options.mel_opts.num_bins = BANDS
    fbank = OnlineFbank(options)
    fbank.accept_waveform(SAMPLE_RATE, samples.astype(np.float32).tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(number) for number in range(fbank.num_frames_ready)]
    return np.stack(frames).astype(np.float32)


def standardized(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (frames, bands) features of one utterance with mean 0 and variance 1 in each band.

    By the utterance's own mean and deviation, as is usual for speech: so neither the held-out sets
    nor what is outside of a shard is known to what is trained on the shard.
    """
    exact = features.astype(np.float64)
    deviation = np.maximum(exact.std(axis=0), LEAST_DEVIATION)
    result: NDArray[np.float32] = ((exact - exact.mean(axis=0)) / deviation).astype(np.float32)
    return result


def frame_centres(frames: int) -> NDArray[np.float64]:
    """Return the (frames,) seconds in which the frames of an utterance are centred."""
    return (np.arange(frames, dtype=np.float64) + 0.5) * FRAME_SECONDS
