# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""The Bible from English to Spanish: the King James Version and the Reina-Valera of 1909.

Both have one versification, so that verses pair by their slots. Kept are pairs of at most `LONGEST`
words each. Books are the unit of the three sets, not verses: the same events and laws are told
twice, in nearly the same words, and would be known from the pool. Books that tell the same are
drawn together, and families too large for a held-out set are in the pool. Within the pool, shards
are whole chapters, in an order that the seed draws.
"""

import hashlib
import itertools

import numpy as np
from numpy.typing import NDArray

from workloads.axis import AxisValues
from workloads.base import Data
from workloads.data.cache import cached_arrays
from workloads.data.catalogue import KJV, REINA_VALERA
from workloads.streams import permutation
from workloads.text.seq2seq import SPECIALS, Seq2Seq, packed, split_of
from workloads.text.sword import Place, verses
from workloads.text.vocabulary import Vocabulary, words_of

__all__ = ["Bible"]

RECIPE = 1
"""Version of what is made of the files: raise it with any change to the data."""

LONGEST = 32
"""Words of a verse on either side: 63 % of the pairs have no more, and cost is by the longest."""

HELD_OUT = 1024
"""Pairs of the validation set and of the test set; the last books of each are cut there."""

FAMILIES = (
    ("Exod", "Lev", "Num", "Deut"),
    ("Josh", "Judg"),
    (
        *("1Sam", "2Sam", "1Kgs", "2Kgs", "1Chr", "2Chr", "Ezra", "Neh"),
        *("Ps", "Isa", "Jer", "Obad", "Mic"),
    ),
    ("Matt", "Mark", "Luke", "John"),
    ("Eph", "Col"),
    ("2Pet", "Jude"),
    ("1Thess", "2Thess"),
    ("1Tim", "Titus"),
)
"""Books that tell the same: the laws; the conquest; the kings, with psalms, lists and prophecies
that are given twice; the Gospels; letters that repeat one another."""

LARGEST_HELD_OUT = 1200
"""Pairs of a family that may be drawn into a held-out set."""


class Bible(Seq2Seq):
    """The 2,044 commonest words and punctuation marks of the pool in each language, lower case."""

    source_tokens = target_tokens = 2048
    source_length = LONGEST
    target_length = LONGEST + 1
    chance_error = 0.861
    """Of always naming `<unk>`, the commonest token: verses of the validation set, one by one."""

    def data(self, axes: AxisValues) -> Data:
        arrays = cached_arrays("bible", self._key(), self._arrays)
        return Data(*(split_of(arrays, name) for name in ("pool", "validation", "test")))

    def _key(self) -> str:
        files = hashlib.sha256(
            b"".join(each.read(name) for each in (KJV, REINA_VALERA) for name in each.files)
        ).hexdigest()
        return f"recipe {RECIPE}: {self.source_tokens} and {self.target_tokens} tokens; {files}"

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        pairs = pairs_of_verses()
        sets = sets_of(pairs)
        vocabularies = [
            Vocabulary.commonest(
                (word for place in sets["pool"] for word in pairs[place][side]), size, SPECIALS
            )
            for side, size in enumerate((self.source_tokens, self.target_tokens))
        ]
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, places in sets.items():
            source, target = (
                [vocabulary.numbers(pairs[place][side]) for place in places]
                for side, vocabulary in enumerate(vocabularies)
            )
            arrays[f"{name}_inputs"], arrays[f"{name}_targets"] = packed(
                source, target, self.source_length, self.target_length
            )
        chapters = [chapter for _, chapter, _ in sets["pool"]]
        starts = [a != b for a, b in itertools.pairwise(chapters)]
        arrays["pool_groups"] = np.cumsum([0, *starts])
        return arrays


def pairs_of_verses() -> dict[Place, tuple[list[str], list[str]]]:
    """Return the words of both sides of every verse that both have and that is not too long."""
    english, spanish = verses(KJV), verses(REINA_VALERA)
    both = {
        place: (words_of(text), words_of(spanish[place]))
        for place, text in english.items()
        if place in spanish
    }
    return {place: pair for place, pair in both.items() if max(map(len, pair)) <= LONGEST}


def sets_of(pairs: dict[Place, tuple[list[str], list[str]]]) -> dict[str, list[Place]]:
    """Return the places of the three sets, each in the order of the Bible.

    A verse of the pool that stands word for word in a held-out set ("And the word of the LORD came
    unto me, saying,") is in none. Where rare words are `<unk>`, one in a thousand still reads so.
    Verses are compared by their English side alone: 36 of the 1,024 test verses, all of Ezekiel and
    all with one Spanish sentence ("Y fué á mí palabra de Jehová, diciendo:"), have their target in
    the pool, after other English words; of the validation verses none has.
    """
    places = list(pairs)
    books = list(dict.fromkeys(book for book, _, _ in places))
    sizes = {book: sum(each == book for each, _, _ in places) for book in books}
    kin = {book: family for family in FAMILIES for book in family}
    families = list(dict.fromkeys(kin.get(book, (book,)) for book in books))
    sets: dict[str, set[str]] = {"pool": set(), "validation": set(), "test": set()}
    for number in permutation(len(families), "bible", "books"):
        family = families[number]
        small = sum(sizes[book] for book in family) <= LARGEST_HELD_OUT
        short = [
            name
            for name in ("validation", "test")
            if small and sum(sizes[book] for book in sets[name]) < HELD_OUT
        ]
        sets[short[0] if short else "pool"].update(family)
    held_out = {
        name: [place for place in places if place[0] in sets[name]][:HELD_OUT]
        for name in ("validation", "test")
    }
    known = {tuple(pairs[place][0]) for some in held_out.values() for place in some}
    pool = [p for p in places if p[0] in sets["pool"] and tuple(pairs[p][0]) not in known]
    return {"pool": pool, **held_out}
