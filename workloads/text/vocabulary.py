"""From text to numbers: words by a fixed rule, and the commonest tokens of the pool."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Vocabulary", "words_of"]

UNKNOWN = "<unk>"

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Return the words and punctuation marks of `text`, in lower case and composed (NFC).

    A word is a run of letters and digits, with apostrophes inside it; any other character that is
    not a space stands for itself.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number; whatever is not among them is `UNKNOWN`."""

    tokens: tuple[str, ...]
    """The token of each number."""

    @classmethod
    def commonest(
        cls, counted: Iterable[str], size: int, specials: Sequence[str] = (UNKNOWN,)
    ) -> "Vocabulary":
        """Return `size` tokens: the specials, then the commonest of `counted`.

        Among equally common ones those that sort first by code points, so that nothing depends on
        the order of counting. Fewer than `size` where there are no more.
        """
        counts = Counter(counted)
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        return cls((*specials, *ordered)[:size])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def numbers(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the (n,) numbers of n tokens."""
        known, unknown = self._numbers, self._numbers[UNKNOWN]
        return np.array([known.get(token, unknown) for token in tokens], np.int64)
