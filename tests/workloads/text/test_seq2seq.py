import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.workloads.needed_data import needs
from tests.workloads.text.constant import guess_always
from tests.workloads.training.stacks import assert_equal, path_of, trained, trained_alone
from workloads.axis import AxisValues
from workloads.base import Data, Split
from workloads.data.catalogue import CMUDICT, KJV, REINA_VALERA
from workloads.recipe import Recipe
from workloads.streams import forked_torch_generator, stream
from workloads.testing import WorkloadConformance
from workloads.text import bible, cmudict
from workloads.text.lstm_seq2seq import LstmSeq2Seq
from workloads.text.pronunciation import PronunciationLstm, PronunciationTransformer
from workloads.text.seq2seq import NOT_A_TARGET, PADDING, Seq2Seq, packed
from workloads.text.transformer_seq2seq import TransformerSeq2Seq
from workloads.text.translation import TranslationLstm, TranslationTransformer
from workloads.training.arithmetic import Arithmetic

START, END = 1, 2
UNKNOWN = 3


class OfVerses(WorkloadConformance):
    sizes = (4, 16)
    inputs_may_repeat = True  # one in a thousand: verses that differ in names, which are <unk>
    steps = 20

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        return guess_always(UNKNOWN, outputs)


class OfWords(WorkloadConformance):
    sizes = (4, 16)
    steps = 20

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        return guess_always(END, outputs)


@needs(KJV, REINA_VALERA)
@pytest.mark.slow
class TestTranslationLstm(OfVerses):
    workload = TranslationLstm


@needs(KJV, REINA_VALERA)
@pytest.mark.slow
class TestTranslationTransformer(OfVerses):
    workload = TranslationTransformer


@needs(CMUDICT)
class TestPronunciationLstm(OfWords):
    workload = PronunciationLstm


@needs(CMUDICT)
class TestPronunciationTransformer(OfWords):
    workload = PronunciationTransformer


class Copies(Seq2Seq):
    """Sequences of one to four letters, to be written down backward; no file is needed."""

    version = 1
    source_tokens, target_tokens = 9, 9
    source_length, target_length = 4, 5
    chance_error = 0.7

    def data(self, axes: AxisValues) -> Data:
        draws = stream("copies")
        sources = [draws.integers(4, 9, size=1 + k % 4) for k in range(300)]
        inputs, targets = packed(
            sources, [source[::-1] for source in sources], self.source_length, self.target_length
        )
        return Data(
            *(
                Split(torch.from_numpy(inputs[some]).long(), torch.from_numpy(targets[some]).long())
                for some in (slice(200), slice(200, 250), slice(250, 300))
            )
        )


class TransformerCopies(Copies, TransformerSeq2Seq):
    name = "transformer copies"


class LstmCopies(Copies, LstmSeq2Seq):
    name = "lstm copies"


BOTH = [LstmCopies, TransformerCopies]


def model_of(workload: type[Seq2Seq], size: int = 8) -> nn.Module:
    with forked_torch_generator("seq2seq"):
        return workload().model(size)


def certain(tokens: list[list[int]], size: int) -> Tensor:
    """Return logits that name `tokens`, with odds of e⁹ to 1 against each other."""
    return 9.0 * torch.nn.functional.one_hot(torch.tensor(tokens), size).float()


def test_a_pair_is_packed_as_source_shifted_target_and_target():
    inputs, targets = packed([np.array([5, 6])], [np.array([7, 8, 9])], 3, 5)
    assert inputs.tolist() == [[5, 6, PADDING, START, 7, 8, 9, PADDING]]
    assert targets.tolist() == [[7, 8, 9, END, NOT_A_TARGET]]
    longest, _ = packed([np.array([5, 6, 7])], [np.array([7, 8, 9, 9])], 3, 5)
    assert longest.tolist() == [[5, 6, 7, START, 7, 8, 9, 9]]


def test_loss_and_error_are_means_over_a_sequences_own_tokens():
    # By hand: the first has 2 of 3 right, the second its only token, whatever stands behind.
    outputs = certain([[4, 5, 6, 7], [2, 4, 4, 4]], 9)
    targets = torch.tensor([[4, 5, 2, -1], [2, -1, -1, -1]])
    workload = LstmCopies()
    right = math.log(1 + 8 * math.exp(-9))
    assert workload.error(outputs, targets).tolist() == pytest.approx([1 / 3, 0.0])
    assert workload.loss(outputs, targets).tolist() == pytest.approx(
        [(2 * right + 9 + right) / 3, right], abs=1e-6
    )
    other = outputs.clone()
    other[targets == NOT_A_TARGET] = torch.randn(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(workload.loss(other, targets), workload.loss(outputs, targets))
    assert torch.equal(workload.error(other, targets), workload.error(outputs, targets))


def test_no_gradient_comes_from_padding():
    outputs = torch.zeros(1, 4, 9, requires_grad=True)
    targets = torch.tensor([[4, 2, -1, -1]])
    (gradient,) = torch.autograd.grad(LstmCopies().loss(outputs, targets).sum(), outputs)
    assert gradient[0, :2].count_nonzero() == 18
    assert not gradient[0, 2:].any()


def test_a_sequence_is_wrong_where_any_of_its_own_tokens_is():
    outputs = certain([[4, 2, 7, 7], [4, 5, 2, 7], [4, 5, 2, 7]], 9)
    targets = torch.tensor([[4, 2, -1, -1], [4, 6, 2, -1], [4, 5, 2, 2]])
    metrics = TransformerCopies().metrics(outputs, targets)
    assert metrics["sequence_error"].tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("workload", BOTH)
def test_no_output_knows_of_a_later_target_and_each_knows_of_the_source(workload):
    model = model_of(workload)
    inputs = torch.tensor([[4, 5, 6, 7, START, 4, 5, 6, 7], [8, 7, 6, 5, START, 8, 8, 4, 4]])
    later, source = inputs.clone(), inputs.clone()
    later[:, 7:] = torch.tensor([8, 8])
    source[:, 3] = 4
    with torch.no_grad():
        before, after, else_read = model(inputs), model(later), model(source)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert ((before[:, 3:] - after[:, 3:]).abs().amax(2) > 0).all()
    assert ((before - else_read).abs().amax(2) > 0).all()


@pytest.mark.parametrize("workload", BOTH)
def test_padding_of_the_source_is_never_seen(workload):
    # The same model with more room: two more places of padding behind the source change nothing.
    model = model_of(workload)
    inputs = torch.tensor([[4, 5, 0, 0, START, 4, 5, 6, 7], [8, 0, 0, 0, START, 8, 8, 4, 4]])
    roomy = torch.cat([inputs[:, :4], torch.zeros(2, 2, dtype=torch.int64), inputs[:, 4:]], 1)
    with torch.no_grad():
        narrow = model(inputs)
        model._lengths = [6, 5]
        if workload is TransformerCopies:
            places = model.source.place
            model.source.place = nn.Parameter(torch.cat([places, torch.randn(2, 8)]))
        torch.testing.assert_close(model(roomy), narrow)
        # What stands in those places does not matter either, as far as it counts as padding.
        embedding = model.source if workload is LstmCopies else model.source.token
        embedding.weight[PADDING] += 3.0
        torch.testing.assert_close(model(roomy), narrow)


COPY = Recipe(
    train_examples=64,
    model_size=8,
    batch_size=4,
    learning_rate=0.05,
    momentum=0.9,
    steps=8,
    seed=0,
    evaluation_schedule="geometric:2",
)


def test_stacked_transformers_are_bit_for_bit_what_they_are_alone():
    workload = TransformerCopies()
    recipes = [replace(COPY, seed=i, learning_rate=0.05 * (i + 1)) for i in range(3)]
    assert path_of(workload, COPY) is Arithmetic.STACKED_MODULES
    assert_equal(trained(workload, recipes), trained_alone(workload, recipes))


def test_lstms_can_be_stacked_and_are_not_because_it_is_slower():
    class Stackable(LstmCopies):
        name = "stackable copies"
        stackable = True

    assert path_of(LstmCopies(), COPY) is Arithmetic.ONE_BY_ONE
    assert path_of(Stackable(), COPY) is Arithmetic.STACKED_MODULES


@pytest.mark.parametrize("workload", BOTH)
def test_a_model_learns_to_write_backward(workload):
    (result,) = trained(
        workload(),
        [replace(COPY, train_examples=200, model_size=16, batch_size=16, steps=600)],
        Arithmetic.ONE_BY_ONE,
    )
    # 0.7 by chance; a decoder that cannot look at the source can know no letter: above 0.5.
    assert result.validation_error < 0.2


@needs(KJV, REINA_VALERA)
def test_the_sets_of_verses_share_no_book_and_no_family_of_books():
    sets = bible.sets_of(bible.pairs_of_verses())
    books = {name: {book for book, _, _ in places} for name, places in sets.items()}
    for one, other in itertools.combinations(books.values(), 2):
        assert not one & other
    for family in bible.FAMILIES:
        assert sum(bool(own & set(family)) for own in books.values()) <= 1


@needs(KJV, REINA_VALERA)
def test_the_pool_of_verses_comes_in_chapters():
    pool = TranslationLstm().data({}).train
    places = bible.sets_of(bible.pairs_of_verses())["pool"]
    assert len(places) == len(pool)
    chapters = [chapter for _, chapter, _ in places]
    assert len(set(chapters)) == int(pool.groups[-1]) + 1
    for chapter, group in itertools.islice(zip(chapters, pool.groups.tolist(), strict=True), 500):
        assert chapters[int((pool.groups == group).nonzero()[0])] == chapter


@needs(CMUDICT)
def test_the_sets_of_words_share_no_stem_and_the_pool_comes_in_stems():
    sets = cmudict.sets_of(list(cmudict.read_words()))
    stems = {name: {cmudict.stem(word) for word in words} for name, words in sets.items()}
    for one, other in itertools.combinations(stems.values(), 2):
        assert not one & other
    pool = PronunciationLstm().data({}).train
    assert int(pool.groups[-1]) + 1 == len(stems["pool"])


@pytest.mark.parametrize(
    "words",
    [
        ("walk", "walks", "walked", "walking", "walker", "walkers", "walker's"),
        ("run", "runs", "running", "runner"),
        ("city", "cities", "city's"),
        ("happy", "happier", "happiest", "happily", "happiness"),
        ("create", "creates", "created", "creating", "creation", "creator"),
        ("abandon", "abandonment", "abandonments"),
    ],
)
def test_inflections_have_one_stem(words):
    assert len({cmudict.stem(word) for word in words}) == 1


@needs(CMUDICT)
def test_a_pronunciation_is_the_first_and_has_no_stress():
    words = cmudict.read_words()
    assert words["walked"] == ["W", "AO", "K", "T"]
    assert not any("(" in word or "." in word for word in words)
    assert len({phone for phones in words.values() for phone in phones}) == 39


@pytest.mark.parametrize(
    ("workload", "fingerprint", "examples"),
    [
        pytest.param(
            TranslationLstm,
            "a409a626a9ba1721",
            (17041, 1024, 1024),
            marks=needs(KJV, REINA_VALERA),
        ),
        pytest.param(
            PronunciationLstm, "12f83bd5d4da682e", (116790, 2048, 2048), marks=needs(CMUDICT)
        ),
    ],
)
def test_the_data_are_the_bytes_they_have_always_been(
    monkeypatch, tmp_path, workload, fingerprint, examples
):
    # Golden: cell ids of stored results contain this fingerprint. Made anew, from no cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = workload().data({})
    assert tuple(len(split) for split in (data.train, data.validation, data.test)) == examples
    assert data.fingerprint() == fingerprint
