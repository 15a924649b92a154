# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""The CMU pronouncing dictionary: letters of an English word to its phones, without stress.

Of several pronunciations the first. Words of one stem are drawn together, into the pool, the
validation set or the test set, and stand together in the pool, whose shards are whole stems: from
"walk" and "walks" in the pool, "walked" would be no new word. The rule (`stem`) goes by spelling
and misses some: 47 of the 2,048 validation words and 35 of the 2,048 test words have a regular
inflection, or the word that they are one of, in the pool. Compounds and foreign names are not seen
through.
"""

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

from workloads.axis import AxisValues
from workloads.base import Data
from workloads.data.cache import cached_arrays
from workloads.data.catalogue import CMUDICT
from workloads.streams import permutation
from workloads.text.seq2seq import SPECIALS, Seq2Seq, packed, split_of
from workloads.text.vocabulary import Vocabulary

__all__ = ["Cmudict", "stem"]

RECIPE = 1
"""Version of what is made of the file: raise it with any change to the data."""

MOST_LETTERS, MOST_PHONES = 12, 12
"""Kept are words of no more."""

HELD_OUT = 2048
"""Words of the validation set and of the test set."""

_WORD = re.compile(r"[a-z][a-z']*[a-z]")
_STRESS = re.compile(r"\d")

_ENDINGS = (
    "ingly", "edly", "ingness", "iness", "ments", "ness", "ment", "ings", "ing", "ions", "ion",
    "ers", "ors", "iest", "est", "ies", "ied", "ier", "ily", "able", "er", "or", "ed", "es", "ly",
    "s", "e", "y",
)  # fmt: skip
"""Longer ones before those that they end in."""

SHORTEST_STEM = 3
"""Letters that are left of a word at least."""


class Cmudict(Seq2Seq):
    """26 letters and the apostrophe to 39 phones."""

    source_tokens = 31
    """With the four specials."""
    target_tokens = 43
    """With the four specials."""
    source_length = MOST_LETTERS
    target_length = MOST_PHONES + 1
    chance_error = 0.848
    """Of always naming the end token: words of the validation set, one by one."""

    def data(self, axes: AxisValues) -> Data:
        arrays = cached_arrays("cmudict", self._key(), self._arrays)
        return Data(*(split_of(arrays, name) for name in ("pool", "validation", "test")))

    def _key(self) -> str:
        digest = hashlib.sha256(CMUDICT.read("cmudict.dict")).hexdigest()
        return f"recipe {RECIPE}: {MOST_LETTERS} letters, {MOST_PHONES} phones; {digest}"

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        words = read_words()
        sets = sets_of(list(words))
        letters = Vocabulary((*SPECIALS, *sorted({c for word in words for c in word})))
        phones = Vocabulary((*SPECIALS, *sorted({p for said in words.values() for p in said})))
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, some in sets.items():
            arrays[f"{name}_inputs"], arrays[f"{name}_targets"] = packed(
                [letters.numbers(word) for word in some],
                [phones.numbers(words[word]) for word in some],
                self.source_length,
                self.target_length,
            )
        numbers = {
            each: number for number, each in enumerate(dict.fromkeys(map(stem, sets["pool"])))
        }
        arrays["pool_groups"] = np.array([numbers[stem(word)] for word in sets["pool"]])
        return arrays


def stem(word: str) -> str:
    """Return what `word` has in common with most of its inflections, by a fixed rule.

    Without the possessive, apostrophes, one ending as long as `SHORTEST_STEM` letters stay, and
    the second of two equal last letters. Rather too much than too little: "runner" goes with "run",
    and so does "rune". But a word that itself ends in an ending loses that one, and its inflection
    the one that it has more: "stay" becomes "sta" and "stays" "stay"; "supply" and "supplies" part
    too, and "order" and "ordered".
    """
    bare = word.removesuffix("'s").replace("'", "")
    for ending in _ENDINGS:
        if bare.endswith(ending) and len(bare) - len(ending) >= SHORTEST_STEM:
            bare = bare.removesuffix(ending)
            break
    if len(bare) > SHORTEST_STEM and bare[-1] == bare[-2]:
        bare = bare[:-1]
    return bare


def read_words() -> dict[str, list[str]]:
    """Return the phones, without stress, of every word that is kept, in the order of the file."""
    words: dict[str, list[str]] = {}
    for line in CMUDICT.read("cmudict.dict").decode().splitlines():
        word, *phones = line.partition("#")[0].split()
        kept = _WORD.fullmatch(word) and word not in words
        if kept and len(word) <= MOST_LETTERS and len(phones) <= MOST_PHONES:
            words[word] = [_STRESS.sub("", phone) for phone in phones]
    return words


def sets_of(words: list[str]) -> dict[str, list[str]]:
    """Return the words of the three sets: whole stems, in one order drawn by a fixed stream.

    Of the last stem of a held-out set, the words that are too many are in no set.
    """
    families: dict[str, list[str]] = {}
    for word in words:
        families.setdefault(stem(word), []).append(word)
    order = permutation(len(families), "cmudict", "stems")
    stems = list(families)
    sets: dict[str, list[str]] = {"validation": [], "test": [], "pool": []}
    for place in order:
        short = (name for name in ("validation", "test") if len(sets[name]) < HELD_OUT)
        sets[next(short, "pool")].extend(families[stems[place]])
    return {name: some if name == "pool" else some[:HELD_OUT] for name, some in sets.items()}
