import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from workloads import register
from workloads.errors import WorkloadError
from workloads.speech.features import BANDS, frame_centres, log_mel, standardized
from workloads.speech.frames import SpeechFramesMlp
from workloads.speech.voice import SAMPLE_RATE
from workloads.streams import stream

WINDOW, SHIFT, POINTS = 400, 160, 512


def mel(hertz):
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)


def log_mel_by_the_book(samples):
    """Kaldi's recipe in NumPy, from its documentation: another implementation of the same."""
    frames = (len(samples) + SHIFT // 2) // SHIFT
    first = SHIFT // 2 - WINDOW // 2 + SHIFT * np.arange(frames)
    places = first[:, None] + np.arange(WINDOW)
    places = np.where(places < 0, -1 - places, places)  # mirrored at both ends
    places = np.where(places >= len(samples), 2 * len(samples) - 1 - places, places)
    windows = samples.astype(float)[places]
    windows -= windows.mean(axis=1, keepdims=True)
    before = np.concatenate([windows[:, :1], windows[:, :-1]], axis=1)
    windows = windows - 0.97 * before
    windows *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))) ** 0.85
    power = np.abs(np.fft.rfft(windows, POINTS)) ** 2
    edges = np.linspace(mel(20.0), mel(SAMPLE_RATE / 2), BANDS + 2)
    at = mel(np.fft.rfftfreq(POINTS, 1 / SAMPLE_RATE))
    rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.clip(np.minimum(rising, falling), 0.0, None)
    return np.log(power[:, :-1] @ triangles[:, :-1].T)


def noise(samples, scale=4000):
    raw = stream("noise").bit_generator.random_raw(samples)
    return ((raw >> np.uint64(40)).astype(float) / 2**24 * 2 - 1) * scale


def test_features_are_those_of_another_implementation():
    times = np.arange(8000) / SAMPLE_RATE
    samples = (noise(8000) + 6000 * np.sin(2 * np.pi * 700 * times)).astype(np.int16)
    # float32 against float64: off by 7e-6 when measured, and another FFT may round otherwise.
    np.testing.assert_allclose(log_mel(samples), log_mel_by_the_book(samples), atol=1e-4)


def test_the_loudest_frames_are_those_around_a_click():
    samples = np.zeros(SAMPLE_RATE, np.int16)
    samples[SAMPLE_RATE // 2] = 20_000
    loud = log_mel(samples).mean(axis=1)
    centres = frame_centres(len(loud))
    assert len(loud) == 100
    # A window of 25 ms hears a click within 12.5 ms of its centre.
    assert centres[loud > loud.min() + 1].tolist() == pytest.approx([0.495, 0.505])


def test_features_are_the_same_each_time():
    samples = noise(16000).astype(np.int16)
    np.testing.assert_array_equal(log_mel(samples), log_mel(samples))


def test_bands_of_an_utterance_are_standardized_and_silent_ones_zero():
    features = np.column_stack([noise(500), 7 + noise(500, 0.1), np.full(500, -15.9)])
    result = standardized(features.astype(np.float32))
    # float32 holds values of about 1 to 6e-8, and of 500 the mean better still.
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(result[:, :2].std(axis=0), 1, atol=1e-5)
    assert not result[:, 2].any()


class UnheardFrames(SpeechFramesMlp):
    name = "unheard_frames"


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)


@pytest.mark.usefixtures("no_library")
def test_without_the_library_it_is_said_how_to_install_it():
    with pytest.raises(WorkloadError, match="pip install kaldi-native-fbank"):
        log_mel(np.zeros(1600, np.int16))


@pytest.mark.usefixtures("no_library", "voice")
def test_a_study_is_refused_before_it_starts_where_the_library_is_missing(tmp_path):
    register(UnheardFrames)
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: unheard\nworkload: unheard_frames\nseeds: 1\ngrids: {one: {dataset_fraction: 1.0, "
        "model_size: 4, batch_size: 8, learning_rate: 0.1, budget: {steps: 4}}}\n"
    )
    store = tmp_path / "store"
    result = CliRunner().invoke(app, ["run", str(study), "--store", str(store), "--inline"])
    assert result.exit_code == 2
    assert "pip install kaldi-native-fbank" in result.output
    assert not list(store.glob("cells/*"))
