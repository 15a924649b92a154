"""A voice of a few utterances, made: each phone a square wave of its own pitch, with noise.

In integers throughout, so that its files are the same bytes on every machine.
"""

import wave
from pathlib import Path

import numpy as np

from workloads.speech.voice import PHONES, SAMPLE_RATE
from workloads.streams import stream

PHONES_SPOKEN = ("a", "oo", "s", "t", "k", "ay")


def write_voice(folder: Path, utterances: int = 10) -> dict[str, list[tuple[float, str]]]:
    """Write the files of a voice into `folder`; return each utterance's (end, phone)s."""
    spoken = {}
    for part in ("wav", "lab", "etc"):
        (folder / part).mkdir(parents=True)
    (folder / "etc" / "txt.done.data").write_text('( made_0 "…" )\n', encoding="utf-8")
    for number in range(utterances):
        name = f"made_{number}"
        draws = stream("made voice", number).bit_generator
        phones, samples = _phones(draws), []
        labels, end = [], 0
        for phone, centiseconds in phones:
            end += centiseconds
            # Real label files have ends of 2 ms after a whole 10 ms, too.
            labels.append((end / 100 + 0.002, phone))
            samples.append(_sound(phone, centiseconds * SAMPLE_RATE // 100, draws))
        samples.append(np.zeros(SAMPLE_RATE // 100, np.int16))
        text = "#\n" + "".join(f"\t{at:.5f} 125 {phone}\n" for at, phone in labels)
        (folder / "lab" / f"{name}.lab").write_text(text)
        write_sound(folder / "wav" / f"{name}.wav", np.concatenate(samples))
        spoken[name] = [(round(at, 5), phone) for at, phone in labels]
    return spoken


def write_sound(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())


def _phones(draws) -> list[tuple[str, int]]:
    """Return phones with their lengths: two stretches between pauses."""
    phones = [("pau", 20)]
    for _ in range(2):
        for raw in draws.random_raw(int(draws.random_raw()) % 6 + 3).tolist():
            phones.append((PHONES_SPOKEN[raw % 6], 5 + raw // 6 % 10))
        phones.append(("pau", 15))
    return phones


def _sound(phone: str, samples: int, draws) -> np.ndarray:
    noise = (draws.random_raw(samples) >> np.uint64(56)).astype(np.int64) - 128
    if phone == "pau":
        return noise.astype(np.int16)
    half_period = 4 + 3 * PHONES.index(phone)
    wave_form = 1 - 2 * (np.arange(samples) // half_period % 2)
    return (4000 * wave_form + noise).astype(np.int16)
