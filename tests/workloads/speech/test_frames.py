from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.workloads.needed_data import needs
from workloads.data.catalogue import FESTVOX_RU
from workloads.recipe import Recipe
from workloads.speech.corpus import corpus, split_utterances
from workloads.speech.frames import CONTEXT, SpeechFramesCnn, SpeechFramesMlp
from workloads.speech.voice import PHONES
from workloads.testing import WorkloadConformance
from workloads.training.sampling import shard_rows


@needs(FESTVOX_RU)
class TestSpeechFramesMlp(WorkloadConformance):
    workload = SpeechFramesMlp
    learning_rate = 0.03


@needs(FESTVOX_RU)
class TestSpeechFramesCnn(WorkloadConformance):
    workload = SpeechFramesCnn
    sizes = (1, 4)
    learning_rate = 0.03


def labelled(voice, number):
    lines = (voice / "lab" / f"made_{number}.lab").read_text().splitlines()[1:]
    return [(float(line.split()[0]), line.split()[2]) for line in lines]


def spoken_at(labels, seconds):
    return next((phone for end, phone in labels if seconds < end), None)


def test_a_moment_every_30_ms_has_the_phone_that_the_label_file_has_then(voice):
    split = SpeechFramesMlp().data({}).train
    for group, number in enumerate(split_utterances(10)[0]):
        labels = labelled(voice, number)
        found = [PHONES[phone] for phone in split.targets[split.groups == group]]
        # The first moment is the centre of the second frame of 10 ms.
        expected = [spoken_at(labels, 0.015 + 0.03 * moment) for moment in range(1000)]
        assert found == expected[: expected.index(None)]


@pytest.mark.usefixtures("voice")
def test_a_window_is_the_frames_around_its_moment_and_the_edges_go_on():
    split = SpeechFramesMlp().data({}).train
    for group, number in enumerate(split_utterances(10)[0]):
        features = corpus()[number].features
        windows = split.inputs[split.groups == group].squeeze(1).numpy()
        np.testing.assert_array_equal(windows[:, CONTEXT], features[1::3][: len(windows)])
        np.testing.assert_array_equal(windows[0, : CONTEXT - 1], features[[0] * (CONTEXT - 1)])
        np.testing.assert_array_equal(windows[0, CONTEXT - 1 :], features[: CONTEXT + 2])
        middle = len(windows) // 2
        centre = 1 + 3 * middle
        np.testing.assert_array_equal(
            windows[middle], features[centre - CONTEXT : centre + CONTEXT + 1]
        )


@pytest.mark.usefixtures("voice")
def test_shards_are_whole_utterances_and_nested():
    workload = SpeechFramesMlp()
    pool = workload.data({}).train

    def rows(examples, seed=0):
        recipe = Recipe(
            train_examples=examples,
            model_size=4,
            batch_size=8,
            learning_rate=0.1,
            momentum=0.0,
            steps=1,
            seed=seed,
        )
        return shard_rows(workload, recipe, pool)

    sizes = [len(pool) // 8, len(pool) // 4, len(pool) // 2, len(pool)]
    for smaller, larger in pairwise(map(rows, sizes)):
        assert larger[: len(smaller)].tolist() == smaller.tolist()
    groups = pool.groups[rows(len(pool) // 2)]
    complete, counts = torch.unique(groups, return_counts=True)
    whole = torch.bincount(pool.groups)[complete] == counts
    assert int((~whole).sum()) <= 1
    assert rows(len(pool) // 2, seed=1).tolist() != rows(len(pool) // 2).tolist()


@needs(FESTVOX_RU)
def test_the_declared_chance_error_is_that_of_always_hearing_a_pause():
    data = SpeechFramesMlp().data({})
    counts = sum(
        torch.bincount(split.targets, minlength=len(PHONES))
        for split in (data.train, data.validation, data.test)
    )
    assert PHONES[counts.argmax()] == "pau"
    share = (counts.max() / counts.sum()).item()
    # Declared to four digits.
    assert SpeechFramesMlp.chance_error == pytest.approx(1 - share, abs=5e-5)
