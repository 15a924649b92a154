from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workloads.needed_data import needs
from workloads.data.catalogue import FESTVOX_RU
from workloads.data.data_set import MissingDataError
from workloads.data.folders import VARIABLE
from workloads.speech import corpus as corpus_module
from workloads.speech.corpus import corpus, corpus_fingerprint, split_utterances
from workloads.speech.ctc import SpeechCtcLstm
from workloads.speech.features import log_mel, standardized
from workloads.speech.frames import SpeechFramesCnn, SpeechFramesMlp
from workloads.speech.voice import Utterance


@pytest.mark.parametrize("utterances", [3, 10, 620])
def test_every_utterance_is_in_one_of_the_three_sets(utterances):
    sets = split_utterances(utterances)
    assert sorted(number for own in sets for number in own) == list(range(utterances))
    assert len(sets[1]) == len(sets[2]) == max(1, utterances // 10)


def test_the_split_is_the_one_it_has_always_been():
    # Golden: of the split, only its share is part of the fingerprint.
    pool, validation, test = split_utterances(620)
    assert (pool[:3], validation[:3], test[:3]) == ([324, 476, 288], [207, 463, 572], [394, 69, 6])


def test_the_corpus_has_each_utterances_own_features_and_phones(voice):
    spoken = corpus()
    assert len(spoken) == 10
    for number in range(10):
        name = f"made_{number}"
        one = Utterance.read(voice / "wav" / f"{name}.wav", voice / "lab" / f"{name}.lab")
        np.testing.assert_array_equal(spoken[number].features, standardized(log_mel(one.samples)))
        assert spoken[number].ends.tolist() == one.ends.tolist()
        assert spoken[number].phones.tolist() == one.phones.tolist()


@pytest.mark.usefixtures("voice")
def test_features_are_made_once(monkeypatch):
    first = corpus()[0].features

    def never(samples):
        raise AssertionError("made again")

    monkeypatch.setattr(corpus_module, "log_mel", never)
    np.testing.assert_array_equal(corpus()[0].features, first)


@pytest.mark.usefixtures("voice")
def test_the_fingerprint_is_of_the_files_and_the_recipe():
    # Golden: cell ids contain it. The made voice is integers, and so the same files everywhere.
    assert corpus_fingerprint("a recipe") == "02ae44ae8d6b8f56"
    assert corpus_fingerprint("another recipe") != "02ae44ae8d6b8f56"


@needs(FESTVOX_RU)
@pytest.mark.parametrize(
    ("workload", "fingerprint"),
    [
        (SpeechFramesMlp, "df5ecc1b85052b5e"),
        (SpeechFramesCnn, "df5ecc1b85052b5e"),
        (SpeechCtcLstm, "971012920f54b092"),
    ],
)
def test_the_data_have_the_fingerprint_they_have_always_had(workload, fingerprint):
    assert workload().data_fingerprint({}) == fingerprint


@pytest.mark.parametrize("workload", [SpeechFramesMlp, SpeechCtcLstm])
def test_without_the_recordings_it_is_said_how_to_get_them(workload, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    nowhere = replace(FESTVOX_RU, places=())
    monkeypatch.setattr(corpus_module, "FESTVOX_RU", nowhere)
    for action in (lambda: workload().data({}), lambda: workload().data_fingerprint({})):
        with pytest.raises(MissingDataError, match="apt-get download festvox-ru"):
            action()


@pytest.mark.usefixtures("voice")
@pytest.mark.parametrize("workload", [SpeechFramesMlp, SpeechCtcLstm])
def test_the_sets_of_a_workload_are_of_the_utterances_of_the_split(workload):
    data = workload().data({})
    groups = [int(split.groups[-1]) + 1 for split in (data.train, data.validation, data.test)]
    assert groups == [8, 1, 1]
    assert all(torch.isfinite(split.inputs).all() for split in (data.train, data.test))
