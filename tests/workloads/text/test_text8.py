"""text8 is on no machine that has not fetched it: its reader and workloads, on made text."""

import numpy as np
import pytest
import torch

from tests.workloads.text.constant import guess_always
from workloads.data.folders import VARIABLE
from workloads.errors import WorkloadError
from workloads.recipe import Recipe
from workloads.testing import WorkloadConformance
from workloads.text.text8 import Text8, Text8Lstm, Text8Transformer
from workloads.training.sampling import shard_rows

CHARACTERS = 400_000
SPACES = 0.17005
ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def made_text() -> bytes:
    """Return letters each of which is followed by the next one of the alphabet as a rule."""
    draws = np.random.default_rng(8)
    letters = (np.arange(CHARACTERS) + draws.integers(0, 2, CHARACTERS)) % 26 + ord("a")
    return np.where(draws.random(CHARACTERS) < SPACES, ord(" "), letters).astype(np.uint8).tobytes()


@pytest.fixture(scope="module", autouse=True)
def file(tmp_path_factory):
    """Put the text where `data --fetch` puts it, and the user's data and caches there."""
    root = tmp_path_factory.mktemp("data")
    (root / "text8").mkdir()
    path = root / "text8" / "text8"
    path.write_bytes(made_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(root))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield path


class ShortText8:
    characters = CHARACTERS
    pool_chunks = 2**12
    stretch = 2**5
    held_out = 256


class ShortText8Lstm(ShortText8, Text8Lstm):
    pass


class ShortText8Transformer(ShortText8, Text8Transformer):
    pass


class OfText8(WorkloadConformance):
    sizes = (4, 16)
    steps = 40

    def constant_guesses(self, outputs):
        return guess_always(0, outputs)  # the space


class TestText8Lstm(OfText8):
    workload = ShortText8Lstm


class TestText8Transformer(OfText8):
    workload = ShortText8Transformer


def test_the_pool_and_the_sets_held_out_are_the_nine_tenths_and_the_twentieths():
    text = made_text().decode()
    data = ShortText8Lstm().data({})
    parts = {"train": text[:360_000], "validation": text[360_000:380_000], "test": text[380_000:]}
    for name, own in parts.items():
        split = getattr(data, name)
        assert len(split) == (2**12 if name == "train" else 256)
        chunks = torch.cat([split.inputs, split.targets[:, -1:]], 1).numpy()
        codes = np.array([ALPHABET.index(letter) for letter in own])
        places = [chunk.tobytes() for chunk in chunks]
        all_chunks = [
            codes[start : start + 65].tobytes() for start in range(0, len(codes) - 64, 64)
        ]
        assert set(places) <= set(all_chunks)
        if name == "train":
            assert places == all_chunks[: 2**12]


def test_shards_are_whole_stretches_and_the_head_of_the_last():
    workload = ShortText8Lstm()
    pool = workload.data({}).train
    recipe = Recipe(
        train_examples=300,
        model_size=8,
        batch_size=8,
        learning_rate=0.1,
        momentum=0.0,
        steps=1,
        seed=0,
    )
    rows = shard_rows(workload, recipe, pool)
    stretches, counts = np.unique(rows // 32, return_counts=True)
    assert len(stretches) == 10  # nine of 32 and 12 of the tenth
    assert sorted(counts) == [12] + 9 * [32]


def test_the_workloads_take_all_of_the_real_text():
    assert (Text8.characters, Text8.pool_chunks, Text8.held_out) == (10**8, 2**19, 1024)
    assert Text8.pool_chunks * Text8.context < Text8.characters * 9 // 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-1], r"has 399,999 bytes; allowed: 400,000, all of them spaces or let"),
        (lambda text: b"A" + text[1:], r"has 400,000 bytes, among them byte 65; allowed"),
        (lambda text: text[1:] + b"\n", r"has 400,000 bytes, among them byte 10; allowed"),
    ],
    ids=["cut", "upper case", "a line's end"],
)
def test_another_file_is_refused(file, change, said):
    file.write_bytes(change(made_text()))
    try:
        with pytest.raises(WorkloadError, match=said) as raised:
            ShortText8Lstm().data({})
        assert "`scaling-study data --fetch text8`" in str(raised.value)
    finally:
        file.write_bytes(made_text())
