from collections import Counter

import numpy as np
import pytest

from tests.workloads.needed_data import needs
from tests.workloads.speech.made_voice import write_sound, write_voice
from workloads.data.catalogue import FESTVOX_RU
from workloads.errors import WorkloadError
from workloads.speech.voice import (
    PHONES,
    SAMPLE_RATE,
    Utterance,
    phone_at,
    stretches,
    utterance_files,
    voice_digest,
)

A, B, PAUSE = PHONES.index("a"), PHONES.index("b"), PHONES.index("pau")


def files(folder):
    return utterance_files({"wav": folder / "wav", "lab": folder / "lab"})


def test_a_phone_begins_where_the_one_before_ends():
    ends, phones = np.array([0.1, 0.25, 0.3]), np.array([PAUSE, A, B], np.uint8)
    seconds = np.array([0.0, 0.0999, 0.1, 0.2499, 0.25, 0.2999])
    assert phone_at(seconds, ends, phones).tolist() == [PAUSE, PAUSE, A, A, B, B]


@pytest.mark.parametrize(
    ("phones", "expected"),
    [
        ([PAUSE, A, B, PAUSE, PAUSE, B], [(0.1, 0.3, [A, B]), (0.5, 0.6, [B])]),
        ([A, PAUSE, B], [(0.0, 0.1, [A]), (0.2, 0.3, [B])]),
        ([A, A], [(0.0, 0.2, [A, A])]),
        ([PAUSE, PAUSE], []),
    ],
)
def test_stretches_are_what_is_spoken_between_pauses(phones, expected):
    ends = np.arange(1, len(phones) + 1) / 10
    found = [
        (begin, end, own.tolist())
        for begin, end, own in stretches(ends, np.array(phones, np.uint8))
    ]
    assert [(round(b, 9), round(e, 9), own) for b, e, own in found] == expected


def test_an_utterance_is_its_samples_and_its_labels(voice):
    spoken = write_voice(voice.parent / "again")
    for sound, labels in files(voice):
        one = Utterance.read(sound, labels)
        expected = spoken[one.name]
        assert one.ends.tolist() == [end for end, _ in expected]
        assert [PHONES[number] for number in one.phones] == [phone for _, phone in expected]
        # 10 ms of silence stand after the last label, less the 2 ms that it is late by.
        assert len(one.samples) / SAMPLE_RATE == pytest.approx(one.ends[-1] + 0.008)


def test_the_digest_changes_with_a_sound_a_label_and_a_name(voice):
    digests = {voice_digest(files(voice))}
    label = voice / "lab" / "made_3.lab"
    label.write_text(label.read_text().replace(" pau", " oo", 1))
    digests.add(voice_digest(files(voice)))
    write_sound(voice / "wav" / "made_3.wav", np.zeros(16000, np.int16))
    digests.add(voice_digest(files(voice)))
    for part in ("wav", "lab"):
        (voice / part / f"made_3.{part}").rename(voice / part / f"made_x.{part}")
    digests.add(voice_digest(files(voice)))
    assert len(digests) == 4


def test_a_recording_without_labels_is_refused_by_name(voice):
    (voice / "lab" / "made_4.lab").unlink()
    with pytest.raises(WorkloadError, match="made_4 without the other"):
        files(voice)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#\n0.1 125 a\n0.2 125 cluck\n", "cluck"),
        ("#\n0.1 125 a\n0.2 125\n", "not enough values"),
        ("#\n0.1 125 a\nsoon 125 a\n", "soon"),
        ("#\n0.2 125 a\n0.1 125 a\n", "do not ascend"),
        ("#\n", "no phones"),
    ],
)
def test_labels_that_are_none_are_refused(voice, text, message):
    label = voice / "lab" / "made_0.lab"
    label.write_text(text)
    with pytest.raises(WorkloadError, match=message) as raised:
        Utterance.read(voice / "wav" / "made_0.wav", label)
    assert str(label) in str(raised.value)


def test_sounds_of_another_kind_are_refused(voice):
    sound, label = files(voice)[0]
    write_sound(sound, np.zeros(8000, np.int16), rate=8000)
    with pytest.raises(WorkloadError, match=r"16 bits at 8000 Hz; allowed: .* 16000 Hz"):
        Utterance.read(sound, label)
    sound.write_bytes(b"RIFF, or so it says")
    with pytest.raises(WorkloadError, match="is no WAV file"):
        Utterance.read(sound, label)


@needs(FESTVOX_RU)
def test_the_labels_of_the_real_voice_end_with_its_sounds():
    pairs = utterance_files(FESTVOX_RU.paths())
    assert len(pairs) == 620
    spoken: Counter[str] = Counter()
    for pair in pairs[::10]:
        one = Utterance.read(*pair)
        # Found in all 620: 4 to 14 ms of sound after the last label.
        assert 0 < len(one.samples) / SAMPLE_RATE - one.ends[-1] < 0.015
        spoken.update(PHONES[number] for number in one.phones)
    assert set(spoken) == set(PHONES)
