"""How the learning rate and the batch size change along training, as study files word it.

A schedule is a function of the share of training that is done, counted in examples, not in
updates: so runs with different batch sizes line up. Where the batch is constant, that is the share
of the updates. An update takes the value in the middle of its batch: the share (t + 1/2)/T for
update t = 0 … T − 1, so that neither the first nor the last has a rate of 0.

Learning rates, as multiples of the cell's `learning_rate`; s is the share:
- `constant`: 1
- `cosine`: (1 + cos π s)/2, from 1 to 0
- `linear`: 1 − s, from 1 to 0
- `inverse:9`: 1/(1 + 9 s), from 1 to 1/10
- `step:5@0.3,0.6,0.8`: divided by 5 at each of these shares
- `warmup:0.05`: s/0.05 up to that share, then 1
- `warmup:0.05+cosine`: the two in turn; `cosine`, `linear` and `inverse` run from the end of the
  warm-up to the end of training, the shares of `step` are those of the whole training

Batch sizes:
- `constant`
- `increase:5@0.3,0.6,0.8`: multiplied by 5 at each of these shares, up to a tenth of the shard;
  what the bound refuses of the factor is taken from the learning rate instead

The second keeps B ∝ ε only until B ≈ N/10, and decays ε afterwards. Source: Smith, Kindermans, Ying
and Le 2018, "Don't decay the learning rate, increase the batch size", arXiv:1711.00489, §4.
"""

import itertools
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BATCH_SIZE_SCHEDULES",
    "CONSTANT",
    "LARGEST_BATCH_DIVISOR",
    "LEARNING_RATE_SCHEDULES",
    "BatchSizeSchedule",
    "LearningRateSchedule",
    "batch_size_wording",
    "learning_rate_wording",
]

CONSTANT = "constant"
"""Nothing changes: the default of both."""

LARGEST_BATCH_DIVISOR = 10
"""A batch is not increased beyond this part of the shard. Source: Smith et al. 2018, §4."""

LARGEST_FACTOR, MOST_MILESTONES = 1000, 20
"""Of a schedule; beyond them a rate is nothing, and the word a slip of the pen."""

_MILESTONES = (
    f"k@p,… (k in (1, {LARGEST_FACTOR}], then up to {MOST_MILESTONES} rising shares p of training "
    "in (0, 1))"
)

LEARNING_RATE_SCHEDULES = (
    f"constant, cosine, linear, inverse:k (k > 0), step:{_MILESTONES} as in step:5@0.3,0.6,0.8, "
    "warmup:p, or warmup:p+ and one of these, as in warmup:0.05+cosine"
)
"""What is allowed, in words."""

BATCH_SIZE_SCHEDULES = f"constant, or increase:{_MILESTONES} as in increase:5@0.3,0.6,0.8"
"""What is allowed, in words."""

_DIGITS = "[0-9]+(?:[.][0-9]*)?(?:[eE][+-]?[0-9]+)?|[.][0-9]+(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(_DIGITS)


@dataclass(frozen=True)
class _Milestones:
    """A factor that is applied at each of some shares of training."""

    factor: float
    shares: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "_Milestones":
        factor, at, shares = text.partition("@")
        if not at:
            raise ValueError("it names no shares of training after '@'")
        made = cls(_number(factor), tuple(_number(share) for share in shares.split(",")))
        if not 1 < made.factor <= LARGEST_FACTOR:
            raise ValueError(f"its factor {factor.strip()} is not in (1, {LARGEST_FACTOR}]")
        if len(made.shares) > MOST_MILESTONES:
            raise ValueError(f"it has {len(made.shares)} milestones")
        for share in made.shares:
            _require_share(share)
        if any(a >= b for a, b in itertools.pairwise(made.shares)):
            raise ValueError("its shares do not rise")
        return made

    @property
    def wording(self) -> str:
        return f"{_text(self.factor)}@{','.join(map(_text, self.shares))}"


@dataclass(frozen=True)
class LearningRateSchedule:
    """How the learning rate changes, as a multiple of the cell's. Made by `parse`."""

    warmup: float
    """Share of training in which the rate rises from 0; 0: none."""
    decay: str
    """constant, cosine, linear, inverse or step."""
    strength: float = 0.0
    """k of `inverse`."""
    milestones: _Milestones | None = None
    """Of `step`."""

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> "LearningRateSchedule":
        """Return the schedule that `text` words; raises `ValueError` saying what is wrong."""
        warmup, rest = 0.0, text.strip()
        if rest.startswith("warmup:"):
            share, plus, rest = rest.removeprefix("warmup:").partition("+")
            warmup = _number(share)
            _require_share(warmup)
            if not plus:
                rest = CONSTANT
        name, colon, argument = (part.strip() for part in rest.partition(":"))
        match name, bool(colon):
            case (("constant" | "cosine" | "linear"), False):
                return cls(warmup, name)
            case "inverse", True:
                strength = _number(argument)
                if strength <= 0:
                    raise ValueError("its k is not above 0")
                return cls(warmup, name, strength)
            case "step", True:
                milestones = _Milestones.parse(argument)
                if milestones.shares[0] < warmup:
                    raise ValueError("it steps down before the warm-up has ended")
                return cls(warmup, name, milestones=milestones)
        raise ValueError(f"{rest!r} is no schedule")

    @property
    def wording(self) -> str:
        """The one text of this schedule, which the store keeps."""
        decay = self.decay
        if self.milestones is not None:
            decay = f"step:{self.milestones.wording}"
        elif self.strength:
            decay = f"inverse:{_text(self.strength)}"
        if not self.warmup:
            return decay
        return f"warmup:{_text(self.warmup)}" + ("" if decay == CONSTANT else f"+{decay}")

    @property
    def is_constant(self) -> bool:
        """Whether the rate never changes."""
        return not self.warmup and self.decay == CONSTANT

    def factors(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n,) multiples of the learning rate at (n,) shares of training in [0, 1]."""
        rest = np.maximum(shares - self.warmup, 0.0) / (1.0 - self.warmup)
        rising = np.minimum(shares / self.warmup, 1.0) if self.warmup else np.ones_like(shares)
        match self.decay:
            case "cosine":
                return np.asarray(rising * (1.0 + np.cos(np.pi * rest)) / 2.0)
            case "linear":
                return np.asarray(rising * (1.0 - rest))
            case "inverse":
                return np.asarray(rising / (1.0 + self.strength * rest))
        if self.milestones is None:
            return np.asarray(rising)
        passed = np.searchsorted(self.milestones.shares, shares, side="right")
        return np.asarray(rising / self.milestones.factor ** passed.astype(np.float64))


@dataclass(frozen=True)
class BatchSizeSchedule:
    """How the batch grows. Made by `parse`."""

    milestones: _Milestones | None
    """None: it does not."""

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> "BatchSizeSchedule":
        """Return the schedule that `text` words; raises `ValueError` saying what is wrong."""
        name, _, argument = (part.strip() for part in text.partition(":"))
        if name == "increase":
            return cls(_Milestones.parse(argument))
        if text.strip() != CONSTANT:
            raise ValueError(f"{text.strip()!r} is no schedule")
        return cls(None)

    @property
    def wording(self) -> str:
        """The one text of this schedule, which the store keeps."""
        return CONSTANT if self.milestones is None else f"increase:{self.milestones.wording}"

    @property
    def is_constant(self) -> bool:
        """Whether the batch never changes."""
        return self.milestones is None

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of training at which the batch is increased."""
        return () if self.milestones is None else self.milestones.shares

    def phases(self, batch: int, train_examples: int) -> tuple[tuple[int, float], ...]:
        """Return the batch of every phase, and what its learning rate is multiplied by.

        `batch`: B of the first phase. In phase j the batch is ⌊k^j B⌋, or max(B, ⌊N/10⌋) where
        that is smaller, and the rate is multiplied by batch/(k^j B): so ε/batch falls by k at each
        milestone exactly, as in a run whose rate is divided by k.
        """
        if self.milestones is None:
            return ((batch, 1.0),)
        most = max(batch, train_examples // LARGEST_BATCH_DIVISOR)
        phases = []
        for j in range(len(self.shares) + 1):
            wanted = batch * self.milestones.factor**j
            allowed = most if wanted > most else int(wanted + 1e-9)  # 12 digits were kept of k
            phases.append((allowed, allowed / wanted))
        return tuple(phases)


def learning_rate_wording(text: str) -> str:
    """Return the one wording of a learning-rate schedule; raises `ValueError` for another text."""
    return LearningRateSchedule.parse(text).wording


def batch_size_wording(text: str) -> str:
    """Return the one wording of a batch-size schedule; raises `ValueError` for another text."""
    return BatchSizeSchedule.parse(text).wording


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"{text.strip()!r} is no number")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text.strip()} is not finite")
    return float(f"{value:.12g}")


def _require_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"its share {_text(share)} is not between 0 and 1")


def _text(value: float) -> str:
    return f"{value:.12g}"
