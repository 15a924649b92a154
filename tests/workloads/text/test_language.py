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
from workloads.data.catalogue import SOTU
from workloads.recipe import Recipe
from workloads.streams import forked_torch_generator, stream
from workloads.testing import WorkloadConformance
from workloads.text.language import (
    CharactersLstm,
    CharactersTransformer,
    WordsLstm,
    WordsTransformer,
)
from workloads.text.lstm_language import LstmLanguage
from workloads.text.sotu import chunks_of, document_files, documents_of_sets
from workloads.text.transformer_language import TransformerLanguage
from workloads.text.vocabulary import UNKNOWN, Vocabulary, words_of
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.sampling import shard_rows

ALL = [CharactersLstm, CharactersTransformer, WordsLstm, WordsTransformer]


class OfCharacters(WorkloadConformance):
    sizes = (4, 16)
    steps = 20

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        return guess_always(1, outputs)  # the space, after <unk>


class OfWords(WorkloadConformance):
    sizes = (4, 16)
    steps = 20

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        return guess_always(0, outputs)  # <unk>


@needs(SOTU)
class TestCharactersLstm(OfCharacters):
    workload = CharactersLstm


@needs(SOTU)
class TestCharactersTransformer(OfCharacters):
    workload = CharactersTransformer


@needs(SOTU)
@pytest.mark.slow
class TestWordsLstm(OfWords):
    workload = WordsLstm


@needs(SOTU)
@pytest.mark.slow
class TestWordsTransformer(OfWords):
    workload = WordsTransformer


@needs(SOTU)
@pytest.mark.parametrize(
    ("workload", "fingerprint", "examples", "commonest"),
    [
        (CharactersLstm, "9606c388a1b5b9a3", (2**17, 1024, 1024), 1),
        (WordsLstm, "9d45db9edef44a4a", (3 * 2**14, 512, 512), 0),
    ],
)
def test_the_data_are_the_bytes_they_have_always_been(
    monkeypatch, tmp_path, workload, fingerprint, examples, commonest
):
    # Golden: cell ids of stored results contain this fingerprint. Made anew, from no cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = workload().data({})
    assert tuple(len(split) for split in (data.train, data.validation, data.test)) == examples
    counts = torch.bincount(data.train.targets.flatten(), minlength=workload.tokens)
    assert counts.argmax() == commonest
    assert data.fingerprint() == fingerprint


@needs(SOTU)
def test_both_architectures_train_on_the_same_data():
    for one, other in ((CharactersLstm, CharactersTransformer), (WordsLstm, WordsTransformer)):
        assert one().data({}).fingerprint() == other().data({}).fingerprint()


@needs(SOTU)
def test_chunks_are_the_text_of_their_own_documents_and_of_no_other_sets():
    texts = [path.read_text(encoding="utf-8") for path in document_files()]
    sets = documents_of_sets()
    assert sorted(place for own in sets.values() for place in own) == list(range(233))
    vocabulary = Vocabulary.commonest("".join(texts[place] for place in sets["pool"]), 96)
    data = CharactersLstm().data({})
    splits = {"pool": data.train, "validation": data.validation, "test": data.test}
    shared = 0
    for name, split in splits.items():
        elsewhere = "\n".join(texts[p] for other in sets if other != name for p in sets[other])
        for row in range(0, len(split), len(split) // 16):
            chunk = torch.cat([split.inputs[row], split.targets[row, -1:]]).tolist()
            assert chunk[1:] == split.targets[row].tolist()
            text = "".join(vocabulary.tokens[number] for number in chunk)
            if UNKNOWN in text:
                continue
            own = sets[name]
            if split.groups is not None:
                own = [own[split.groups[row]]]
            assert any(text in texts[place] for place in own)
            shared += text in elsewhere
    assert shared <= 1  # of 48: speeches open with the same words


@needs(SOTU)
def test_a_shard_is_whole_documents_and_the_head_of_the_last_and_lies_in_every_larger_one():
    workload = CharactersLstm()
    pool = workload.data({}).train
    groups = pool.groups.numpy()
    larger = None
    for halvings in range(8):
        recipe = Recipe(
            train_examples=len(pool) >> halvings,
            model_size=8,
            batch_size=8,
            learning_rate=0.1,
            momentum=0.0,
            steps=1,
            seed=0,
        )
        rows = shard_rows(workload, recipe, pool)
        documents, counts = np.unique(groups[rows], return_counts=True)
        cut = [d for d, n in zip(documents, counts, strict=True) if n < (groups == d).sum()]
        assert len(cut) <= 1
        assert larger is None or (larger[: len(rows)] == rows).all()
        larger = rows


def test_a_words_rule_is_case_composition_and_apostrophes():
    assert words_of("The Nation's  cafe\u0301s, 1,000 strong!\n") == [
        "the", "nation's", "caf\u00e9s", ",", "1", ",", "000", "strong", "!",
    ]  # fmt: skip


def test_a_vocabulary_is_the_commonest_tokens_and_one_for_the_rest():
    vocabulary = Vocabulary.commonest("bacabd", 4)
    assert vocabulary.tokens == (UNKNOWN, "a", "b", "c")  # c before d: as common, sorts first
    assert vocabulary.numbers(["d", "a", "zebra"]).tolist() == [0, 1, 0]


def test_chunks_overlap_by_the_token_that_both_need_and_drop_the_rest():
    chunks = chunks_of(np.arange(10), 4)
    assert chunks.tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]
    assert len(chunks_of(np.arange(4), 4)) == 0


@pytest.mark.parametrize("workload", ALL)
def test_no_output_knows_of_a_later_token(workload):
    with forked_torch_generator("causality"):
        model = workload().model(8)
        tokens = torch.randint(workload.tokens, (3, workload.context))
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % workload.tokens
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])
    first = tokens.clone()
    first[:, 0] = (first[:, 0] + 1) % workload.tokens
    with torch.no_grad():  # ten later: an LSTM of untrained gates forgets
        assert ((model(first) - before)[:, :10].abs().amax((0, 2)) > 0).all()


def test_the_loss_is_in_nats_a_token_and_the_error_a_share_of_tokens():
    workload = WordsLstm()
    outputs = torch.zeros(1, 4, 8)
    outputs[0, :, 3] = torch.tensor([2.0, 2.0, 2.0, 2.0]).log()  # odds of 2 : 1 against each other
    targets = torch.tensor([[3, 3, 3, 5]])
    expected = -(3 * math.log(2 / 9) + math.log(1 / 9)) / 4
    assert workload.loss(outputs, targets).item() == pytest.approx(expected, rel=1e-6)
    assert workload.error(outputs, targets).tolist() == [0.25]


class ShortTransformer(TransformerLanguage):
    """A transformer on sequences that need no file: each token is the sum of the two before."""

    name = "short transformer"
    version = 1
    tokens, context = 11, 6
    chance_error = 0.9

    def data(self, axes: AxisValues) -> Data:
        draws = stream("short").integers(self.tokens, size=(300, 2))
        columns = [draws[:, 0], draws[:, 1]]
        for _ in range(self.context - 1):
            columns.append((columns[-1] + columns[-2]) % self.tokens)
        chunks = torch.from_numpy(np.stack(columns, 1))
        splits = (chunks[:200], chunks[200:250], chunks[250:])
        return Data(*(Split(some[:, :-1], some[:, 1:]) for some in splits))


SHORT = Recipe(
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
    recipes = [replace(SHORT, seed=i, learning_rate=0.05 * (i + 1)) for i in range(3)]
    assert path_of(ShortTransformer(), SHORT) is Arithmetic.STACKED_MODULES
    assert_equal(trained(ShortTransformer(), recipes), trained_alone(ShortTransformer(), recipes))


def test_lstms_train_one_by_one_because_a_stack_of_them_is_slower():
    choice = choose_arithmetic(ShortLstm(), 8, (), 4)
    assert choice.arithmetic is Arithmetic.ONE_BY_ONE


class ShortLstm(ShortTransformer, LstmLanguage):
    name = "short lstm"

    def model(self, size: int) -> nn.Module:
        return LstmLanguage.model(self, size)
