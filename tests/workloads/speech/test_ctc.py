import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.needed_data import needs
from workloads.data.catalogue import FESTVOX_RU
from workloads.speech.corpus import corpus, split_utterances
from workloads.speech.ctc import (
    BLANK,
    LABELS,
    STACKED,
    STEPS,
    SpeechCtcLstm,
    greedy_labels,
)
from workloads.speech.edit_distance import edit_distances
from workloads.speech.features import frame_centres
from workloads.speech.voice import PHONES
from workloads.testing import WorkloadConformance

BEST_GUESS = [PHONES.index(name) for name in ("i", "a", "oo", "aa", "ay", "a")]

A, B = 1, 2


@needs(FESTVOX_RU)
class TestSpeechCtcLstm(WorkloadConformance):
    workload = SpeechCtcLstm
    sizes = (1, 8)
    steps = 30

    def constant_guesses(self, outputs):
        for labels in ([], [PHONES.index("a")], BEST_GUESS):
            guess = torch.zeros_like(outputs)
            guess[..., BLANK] = 0.5
            for place, label in enumerate(labels):
                guess[:, 2 * place, label] = 1.0
            yield guess


def target(steps, labels):
    padding = [0] * (LABELS - len(labels))
    return torch.tensor([[steps, len(labels), *labels, *padding]])


def probabilities(rows, classes=3):
    """Return the outputs of a model that has these probabilities at its steps."""
    return torch.tensor([rows], dtype=torch.float64).log().reshape(1, len(rows), classes)


def collapsed(path):
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


def test_one_step_and_one_label_cost_the_labels_probability():
    outputs = probabilities([[0.5, 0.3, 0.2]])
    loss = SpeechCtcLstm().loss(outputs, target(1, [A]))
    assert loss.tolist() == pytest.approx([-math.log(0.3)])


def test_two_steps_and_one_label_cost_all_three_ways():
    outputs = probabilities([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])
    # a-, -a and aa.
    ways = 0.3 * 0.6 + 0.5 * 0.1 + 0.3 * 0.1
    loss = SpeechCtcLstm().loss(outputs, target(2, [A]))
    assert loss.tolist() == pytest.approx([-math.log(ways)])


def test_a_label_twice_needs_a_blank_between_and_counts_twice():
    outputs = probabilities([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [0.2, 0.7, 0.1]])
    loss = SpeechCtcLstm().loss(outputs, target(3, [A, A]))
    assert loss.tolist() == pytest.approx([-math.log(0.3 * 0.6 * 0.7) / 2])


@pytest.mark.parametrize("labels", [[A], [A, B], [B, A, B], [A, A]])
def test_the_loss_is_the_sum_over_all_paths(labels):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, 5, 3, generator=generator, dtype=torch.float64)
    chances = outputs[0].softmax(dim=1)
    ways = sum(
        math.prod(chances[step, label].item() for step, label in enumerate(path))
        for path in itertools.product(range(3), repeat=5)
        if collapsed(path) == labels
    )
    loss = SpeechCtcLstm().loss(outputs, target(5, labels))
    assert loss.tolist() == pytest.approx([-math.log(ways) / len(labels)])


def test_steps_after_the_speech_change_neither_loss_nor_error():
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(1, 9, 3, generator=generator)
    other = torch.cat([outputs[:, :5], torch.randn(1, 4, 3, generator=generator)], dim=1)
    wanted, workload = target(5, [A, B]), SpeechCtcLstm()
    assert torch.equal(workload.loss(outputs, wanted), workload.loss(other, wanted))
    assert torch.equal(workload.error(outputs, wanted), workload.error(other, wanted))


@pytest.mark.parametrize(
    ("path", "labels", "error"),
    [
        ([A, A, 0, B, B], [A, B], 0.0),
        ([A, 0, A, B, 0], [A, A, B], 0.0),
        ([A, A, A, B, 0], [A, A, B], 1 / 3),
        ([0, 0, 0, 0, 0], [A, B], 1.0),
        ([B, 0, A, 0, 0], [A, B], 1.0),
        ([A, B, A, B, A], [B], 1.0),  # four too many are no worse than none
        ([A, B, 0, 0, 0], [B], 1.0),
        ([A, B, 0, 0, 0], [A, B, A, B], 0.5),
    ],
)
def test_the_error_is_the_share_of_labels_to_be_mended(path, labels, error):
    outputs = torch.nn.functional.one_hot(torch.tensor([path]), 3).float()
    assert SpeechCtcLstm().error(outputs, target(5, labels)).tolist() == pytest.approx([error])


@given(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_greedy_labels_are_paths_without_repetitions_and_blanks(paths):
    outputs = torch.nn.functional.one_hot(torch.tensor(paths), 4).float()
    steps = torch.arange(len(paths)) + 3
    labels, lengths = greedy_labels(outputs, steps)
    for path, own, number, length in zip(paths, labels, steps, lengths, strict=True):
        assert own[:length].tolist() == collapsed(path[:number])


def distance(one, other):
    """The textbook's table, by plain recursion on what is left of both."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
    return row[-1]


SEQUENCES = st.lists(st.integers(1, 3), max_size=6)


@given(st.lists(st.tuples(SEQUENCES, SEQUENCES), min_size=1, max_size=5))
@settings(deadline=None, max_examples=100)
def test_edit_distances_are_those_of_the_textbooks_table(pairs):
    def padded(sequences):
        rows = [[*own, *[9] * (6 - len(own))] for own in sequences]
        return torch.tensor(rows), torch.tensor([len(own) for own in sequences])

    one, other = zip(*pairs, strict=True)
    found = edit_distances(*padded(one), *padded(other))
    assert found.tolist() == [distance(a, b) for a, b in pairs]


def test_a_stretch_is_the_sound_and_the_phones_between_two_pauses(voice):
    split = SpeechCtcLstm().data({}).train
    row = 0
    for group, number in enumerate(split_utterances(10)[0]):
        lines = (voice / "lab" / f"made_{number}.lab").read_text().splitlines()[1:]
        labels = [(float(line.split()[0]), line.split()[2]) for line in lines]
        features = corpus()[number].features
        centres = frame_centres(len(features))
        before, own = 0.0, []
        for end, phone in labels:
            if phone != "pau":
                own.append((before, end, phone))
            elif own:
                heard = features[(centres > own[0][0]) & (centres < own[-1][1])]
                found = split.inputs[row].reshape(STEPS * STACKED, -1).numpy()
                assert (found[: len(heard)] == heard).all()
                assert not found[len(heard) :].any()
                steps, count, *rest = split.targets[row].tolist()
                assert (steps - 1) * STACKED < len(heard) <= steps * STACKED
                assert [PHONES[label] for label in rest[:count]] == [phone for _, _, phone in own]
                assert not any(rest[count:])
                assert split.groups[row] == group
                row, own = row + 1, []
            before = end
    assert row == len(split)


@needs(FESTVOX_RU)
def test_every_target_can_be_reached_and_few_stretches_are_left_out():
    data = SpeechCtcLstm().data({})
    targets = torch.cat([split.targets for split in (data.train, data.validation, data.test)])
    steps, labels, wanted = targets[:, 0], targets[:, 1], targets[:, 2:]
    repeated = ((wanted[:, 1:] == wanted[:, :-1]) & (wanted[:, 1:] != 0)).sum(dim=1)
    assert (labels + repeated <= steps).all()
    assert (labels >= 1).all()
    assert (steps <= STEPS).all()
    # Of 2,841 stretches: counted in the label files by their lengths.
    assert len(targets) == 2400
    assert labels.max() < LABELS


@needs(FESTVOX_RU)
def test_no_constant_guess_of_a_label_more_or_less_is_better_than_the_declared():
    workload = SpeechCtcLstm()
    targets = workload.data({}).train.targets

    def error(labels):
        sequences = torch.tensor([labels]).expand(len(targets), -1)
        lengths = torch.full((len(targets),), len(labels))
        distances = edit_distances(sequences, lengths, targets[:, 2:], targets[:, 1])
        return (distances / targets[:, 1]).clamp(max=1.0).mean().item()

    best = error(BEST_GUESS)
    assert best == pytest.approx(workload.chance_error, abs=0.005)
    places = range(len(BEST_GUESS) + 1)
    commonest = torch.bincount(targets[:, 2:].flatten(), minlength=len(PHONES))[1:].topk(6).indices
    for place in places:
        head, tail = BEST_GUESS[:place], BEST_GUESS[place:]
        assert error(head + tail[1:]) > best - 0.005
        for label in commonest.tolist():
            assert error([*head, label + 1, *tail]) > best - 0.005
