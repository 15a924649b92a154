"""One quantity that a study may vary: its type, its bounds, its default and what it means."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LARGEST_INTEGER", "Axis", "AxisError", "AxisKind", "AxisValue", "AxisValues"]

LARGEST_INTEGER = 2**63 - 1
"""Parquet keeps integers in 64 bits."""

AxisValue = bool | int | float | str
AxisValues = Mapping[str, AxisValue]


class AxisError(ValueError):
    """A value that its axis does not admit; the message says what the axis allows."""


class AxisKind(StrEnum):
    """The declared type of an axis; every value is cast to it."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One quantity that a study may vary."""

    name: str
    """Column and study-file name."""
    kind: AxisKind
    """Declared type; `1` and `1.0` on a NUMBER axis are one value."""
    meaning: str
    """One sentence for `scaling-study workloads`."""
    default: AxisValue | None = None
    """Value of a study that does not name the axis; None: the study must name it."""
    minimum: float = -math.inf
    """Smallest value allowed, itself included unless `exclusive_minimum`."""
    maximum: float = math.inf
    """Largest value allowed, itself included unless `exclusive_maximum`."""
    exclusive_minimum: bool = False
    """Whether `minimum` itself is refused."""
    exclusive_maximum: bool = False
    """Whether `maximum` itself is refused."""
    choices: tuple[AxisValue, ...] = ()
    """The only values allowed, where given."""
    wording: Callable[[str], str] | None = None
    """For text of a small language: returns its one wording, or raises `ValueError` saying what is
    wrong with it."""
    wordings: str = ""
    """What that language allows, in words."""

    def __post_init__(self) -> None:
        """Round bounds and choices as values are, which may equal them."""
        if self.kind is AxisKind.NUMBER:
            rounded = {
                "minimum": _rounded(self.minimum),
                "maximum": _rounded(self.maximum),
                "choices": tuple(
                    _rounded(choice) if isinstance(choice, float) else choice
                    for choice in self.choices
                ),
            }
            for name, value in rounded.items():
                object.__setattr__(self, name, value)

    def cast(self, value: object) -> AxisValue:
        """Return `value` as this axis's declared type.

        Floats are rounded to 12 significant digits and -0.0 becomes 0.0, so that 0.1 * 3 and 0.3
        are one value. Raises `AxisError` on a wrong type, a value that is not finite, or one that
        is out of bounds; nothing is coerced that would change it (2.5 is no integer, and a bool
        is no number).
        """
        cast = self._typed(value)
        if self.wording is not None and isinstance(cast, str):
            try:
                cast = self.wording(cast)
            except ValueError as error:
                raise AxisError(
                    f"{self.name} is {value!r}: {error}; allowed: {self.allowed()}."
                ) from error
        if self.choices and cast not in self.choices:
            raise AxisError(f"{self.name} is {value!r}; allowed: {self.allowed()}.")
        if isinstance(cast, int | float) and not self._within(cast):
            raise AxisError(f"{self.name} is {value!r}; allowed: {self.allowed()}.")
        return cast

    def allowed(self) -> str:
        """Return what the axis allows in words, as in 'a number in (0, 1]'."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.kind is AxisKind.TEXT:
            return self.wordings or "text"
        noun = "an integer" if self.kind is AxisKind.INTEGER else "a number"
        low_open = self.exclusive_minimum or math.isinf(self.minimum)
        high_open = self.exclusive_maximum or math.isinf(self.maximum)
        low, high = "(["[not low_open], ")]"[not high_open]
        if math.isinf(self.minimum) and math.isinf(self.maximum):
            return noun
        return f"{noun} in {low}{self.minimum:g}, {self.maximum:g}{high}"

    def _typed(self, value: object) -> AxisValue:
        if self.kind is AxisKind.TEXT:
            if isinstance(value, str):
                return value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise AxisError(f"{self.name} is {value!r}; allowed: {self.allowed()}.")
            if self.kind is AxisKind.NUMBER:
                return _rounded(value)
            if value == int(value):
                if abs(value) > LARGEST_INTEGER:
                    raise AxisError(
                        f"{self.name} is {value!r}; allowed: {self.allowed()}, of 64 bits."
                    )
                return int(value)
        raise AxisError(
            f"{self.name} is {value!r} ({type(value).__name__}); allowed: {self.allowed()}."
        )

    def _within(self, value: float) -> bool:
        above = value > self.minimum if self.exclusive_minimum else value >= self.minimum
        below = value < self.maximum if self.exclusive_maximum else value <= self.maximum
        return above and below


def _rounded(value: float) -> float:
    """Return 12 significant digits, and 0.0 for -0.0."""
    return float(f"{value:.12g}") + 0.0
