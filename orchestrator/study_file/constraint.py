"""`where`: the small checked language that says which cells of a grid are wanted.

    batch_size <= train_examples and not (momentum == 0.9 and learning_rate > 0.2)

Names, numbers, quoted text; comparisons, chained too; and, or, not; + − * /; parentheses. Nothing
else exists: no calls, attributes, subscripts or powers, and nothing is ever passed to `eval`. The
text is read once, its types are checked before any cell is made, and what remains are closures
that cost about a microsecond a cell. Values are compared as they are in a cell's identity: numbers
that agree to 12 digits are equal, so that `batch_size * learning_rate <= 0.3` keeps the cell of 3
and 0.1, and text beside an axis is one of its values in any of their wordings.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, Literal, NamedTuple

from orchestrator.errors import StudyFileError
from orchestrator.study_file.axes import COMMON_AXES
from workloads.axis import Axis, AxisError, AxisKind, AxisValue

__all__ = ["Constraint", "ConstraintError"]

WORKED_OUT = (
    Axis(name="train_examples", kind=AxisKind.INTEGER, meaning="Examples of the shard."),
    Axis(name="steps", kind=AxisKind.INTEGER, meaning="Updates, by the budget."),
)
"""What a condition may look at beside the axes."""

LONGEST = 500
"""Characters."""
DEEPEST = 20
"""Parentheses, `not` and signs inside each other."""
ALLOWED = "names, numbers, quoted text, < <= > >= == !=, and, or, not, + - * / and parentheses"

Values = Mapping[str, AxisValue]


class ConstraintError(StudyFileError):
    """A `where` that cannot be read or evaluated; whoever knows the line adds it."""


@dataclass(frozen=True)
class Constraint:
    """A condition on the values of one cell. Made by `parse`."""

    text: str
    """The condition as it was written."""
    names: frozenset[str]
    """The names that it looks at."""
    _evaluate: Callable[[Values], Any] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, axes: Sequence[Axis] = COMMON_AXES) -> "Constraint":
        """Return the condition that `text` states about `axes`, `train_examples` and `steps`.

        Raises `ConstraintError`, naming the column, on anything outside the language, an unknown
        name, a comparison of text with numbers, or of an axis with text that it does not admit.
        """
        if len(text) > LONGEST:
            raise ConstraintError(
                f"where has {len(text)} characters; allowed: at most {LONGEST}. "
                "Split the grid instead."
            )
        parser = _Parser(text, {axis.name: axis for axis in (*axes, *WORKED_OUT)})
        node = parser.condition()
        return cls(text, frozenset(parser.names), node.evaluate)

    def holds(self, values: Values) -> bool:
        """Return whether the condition holds for `values`, which has every name in `names`.

        Raises `ConstraintError` on a division by zero.
        """
        try:
            return bool(self._evaluate(values))
        except ArithmeticError as error:
            looked_at = ", ".join(f"{name}={values[name]}" for name in sorted(self.names))
            raise ConstraintError(
                f"where {self.text!r} has no value at {looked_at}: {error}; allowed: "
                "arithmetic that has one. Multiply the division out, or guard it: "
                "`x != 0 and 1 / x > 2`."
            ) from error


class _Type(Enum):
    TRUTH = "a condition"
    NUMBER = "a number"
    TEXT = "text"


class _Node(NamedTuple):
    """A piece of the condition, ready to be evaluated."""

    type: _Type
    evaluate: Callable[[Values], Any]
    column: int
    axis: Axis | None = None
    """Of a name that stands alone."""
    text: str | None = None
    """What is quoted."""


class _Token(NamedTuple):
    kind: Literal["number", "text", "name", "sign", "end"]
    text: str
    column: int


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign><=|>=|==|!=|\*\*|//|&&|\|\||.)
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)

_INSTEAD = {
    "=": "==",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
    "in": "== and or",
    "is": "==",
}
"""What to write for what other languages write."""


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        assert match is not None  # `.` takes any character, \Z the end
        kind: Any = match.lastgroup
        tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    return tokens


def _agree(left: Any, right: Any) -> bool:
    if isinstance(left, float) or isinstance(right, float):
        # A cell's identity keeps 12 digits; see `Axis.cast`.
        return math.isclose(left, right, rel_tol=1e-12)
    return bool(left == right)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": _agree,
    "!=": lambda left, right: not _agree(left, right),
    "<": lambda left, right: left < right and not _agree(left, right),
    "<=": lambda left, right: left <= right or _agree(left, right),
    ">": lambda left, right: left > right and not _agree(left, right),
    ">=": lambda left, right: left >= right or _agree(left, right),
}

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
}


def _quoted(text: str, column: int) -> _Node:
    return _Node(_Type.TEXT, lambda values: text, column, text=text)


class _Parser:
    """Recursive descent; each method reads one rule of the grammar, loosest first."""

    def __init__(self, text: str, axes: Mapping[str, Axis]) -> None:
        self.names: set[str] = set()
        self._axes = axes
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def condition(self) -> _Node:
        node = self._either()
        if self._token.kind != "end":
            raise self._unexpected()
        return self._expect(_Type.TRUTH, node)

    def _either(self) -> _Node:
        # both ("or" both)*
        return self._joined("or", self._both, any)

    def _both(self) -> _Node:
        # negation ("and" negation)*
        return self._joined("and", self._negation, all)

    def _joined(self, word: str, rule: Callable[[], _Node], judge: Callable[..., bool]) -> _Node:
        first = rule()
        if not self._at(word):
            return first
        parts = [self._expect(_Type.TRUTH, first).evaluate]
        while self._take(word):
            parts.append(self._expect(_Type.TRUTH, rule()).evaluate)
        return _Node(
            _Type.TRUTH, lambda values: judge(part(values) for part in parts), first.column
        )

    def _negation(self) -> _Node:
        # "not" negation | comparison
        column = self._token.column
        if not self._take("not"):
            return self._comparison()
        part = self._nested(lambda: self._expect(_Type.TRUTH, self._negation())).evaluate
        return _Node(_Type.TRUTH, lambda values: not part(values), column)

    def _comparison(self) -> _Node:
        # sum (comparison sum)*; a chain compares neighbours
        first = left = self._sum()
        links: list[Callable[[Values], bool]] = []
        while (sign := self._take(*_COMPARISONS)) is not None:
            right = self._sum()
            links.append(self._compared(left, sign, right))
            left = right
        if not links:
            return first
        if len(links) == 1:
            return _Node(_Type.TRUTH, links[0], first.column)
        return _Node(
            _Type.TRUTH, lambda values: all(holds(values) for holds in links), first.column
        )

    def _sum(self) -> _Node:
        # product (("+" | "-") product)*
        return self._folded(("+", "-"), self._product)

    def _product(self) -> _Node:
        # signed (("*" | "/") signed)*
        return self._folded(("*", "/"), self._signed)

    def _folded(self, signs: tuple[str, ...], rule: Callable[[], _Node]) -> _Node:
        first = rule()
        if not self._at(*signs):
            return first
        start = self._expect(_Type.NUMBER, first).evaluate
        steps = []
        while (sign := self._take(*signs)) is not None:
            steps.append((_ARITHMETIC[sign.text], self._expect(_Type.NUMBER, rule()).evaluate))

        def fold(values: Values) -> Any:
            result = start(values)
            for apply, operand in steps:
                result = apply(result, operand(values))
            return result

        return _Node(_Type.NUMBER, fold, first.column)

    def _signed(self) -> _Node:
        # ("-" | "+") signed | atom
        sign = self._take("-", "+")
        if sign is None:
            return self._atom()
        part = self._nested(lambda: self._expect(_Type.NUMBER, self._signed())).evaluate
        if sign.text == "+":
            return _Node(_Type.NUMBER, part, sign.column)
        return _Node(_Type.NUMBER, lambda values: -part(values), sign.column)

    def _atom(self) -> _Node:
        # number | text | name | "(" either ")"
        token = self._token
        if token.kind == "number":
            self._next += 1
            return self._number(token)
        if token.kind == "text":
            self._next += 1
            return _quoted(token.text[1:-1], token.column)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            self._next += 1
            return self._name(token)
        if self._take("("):
            node = self._nested(self._either)
            if not self._take(")"):
                raise self._unexpected()
            return node
        raise self._unexpected()

    def _number(self, token: _Token) -> _Node:
        number = int(token.text) if token.text.isdigit() else float(token.text)
        if abs(number) > 1e300:
            raise self._error(
                token.column, f"number {token.text[:30]} is too large; allowed: up to 1e300"
            )
        return _Node(_Type.NUMBER, lambda values: number, token.column)

    def _name(self, token: _Token) -> _Node:
        name = token.text
        axis = self._axes.get(name)
        if axis is None:
            near = get_close_matches(name, self._axes, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise self._error(
                token.column,
                f"unknown name {name!r}. {hint}Allowed: {', '.join(sorted(self._axes))}",
            )
        self.names.add(name)
        type_ = _Type.TEXT if axis.kind is AxisKind.TEXT else _Type.NUMBER
        return _Node(type_, lambda values: values[name], token.column, axis=axis)

    def _compared(self, left: _Node, sign: _Token, right: _Node) -> Callable[[Values], bool]:
        """Return the comparison of two neighbours."""
        if left.type is not right.type or left.type is _Type.TRUTH:
            raise self._error(
                sign.column,
                f"{sign.text!r} compares {left.type.value} with {right.type.value}; "
                "allowed: numbers with numbers, text with text",
            )
        if left.type is _Type.TEXT and sign.text not in ("==", "!="):
            raise self._error(
                sign.column, f"{sign.text!r} orders text; allowed for text: == and !="
            )
        start, end = self._worded(left, right).evaluate, self._worded(right, left).evaluate
        compare = _COMPARISONS[sign.text]
        return lambda values: compare(start(values), end(values))

    def _worded(self, node: _Node, beside: _Node) -> _Node:
        """Return `node`; where it is text beside an axis, the text as the axis words it."""
        if node.text is None or beside.axis is None:
            return node
        try:
            return _quoted(str(beside.axis.cast(node.text)), node.column)
        except AxisError as error:
            raise self._error(node.column, str(error).removesuffix(".")) from error

    def _expect(self, type_: _Type, node: _Node) -> _Node:
        if node.type is not type_:
            raise self._error(
                node.column,
                f"here stands {node.type.value}; allowed here: {type_.value}"
                + (", like batch_size <= 64" if type_ is _Type.TRUTH else ""),
            )
        return node

    def _nested(self, rule: Callable[[], _Node]) -> _Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(
                self._token.column,
                f"more than {DEEPEST} levels inside each other; allowed: {DEEPEST}. Split the grid",
            )
        node = rule()
        self._depth -= 1
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _at(self, *texts: str) -> bool:
        return self._token.kind in ("name", "sign") and self._token.text in texts

    def _take(self, *texts: str) -> _Token | None:
        if not self._at(*texts):
            return None
        self._next += 1
        return self._tokens[self._next - 1]

    def _unexpected(self) -> ConstraintError:
        token = self._token
        what = "ends too early" if token.kind == "end" else f"unexpected {token.text[:30]!r}"
        instead = _INSTEAD.get(token.text)
        hint = f"write {instead}; " if instead else ""
        return self._error(token.column, f"{what}; {hint}allowed: {ALLOWED}")

    @staticmethod
    def _error(column: int, message: str) -> ConstraintError:
        return ConstraintError(f"where, column {column}: {message}.")
