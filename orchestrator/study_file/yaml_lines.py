"""Safe YAML that remembers its lines, so that every error can point at one.

The document is built from PyYAML's parse events by hand: no constructor exists that a tag could
call. Plain scalars follow the core schema of YAML 1.2 (`1e-3` is a number; `no`, `1_000` and
`1:30` are text; `010` is ten). Anchors, aliases, tags and duplicate keys are refused; size, depth
and length are bounded.
"""

import numbers
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from orchestrator.errors import StudyFileError
from workloads.axis import LARGEST_INTEGER

__all__ = ["Document", "FileKind", "KeyPath", "dump", "read_text"]

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a document to a value."""

LARGEST_FILE = 1_000_000
"""Bytes: 100 times what a long study needs; parsing that much takes seconds, not minutes."""
LONGEST_SCALAR = 1_000
"""Characters of one value."""
DEEPEST = 20
"""Mappings and lists inside each other; a study needs 5."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half a character of UTF-16: an escape can ask for one, and no file or screen takes it."""

CORE_SCHEMA: dict[str, re.Pattern[str]] = {
    "null": re.compile(r"~|null|Null|NULL|", re.ASCII),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE", re.ASCII),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        re.ASCII,
    ),
}
"""How YAML 1.2 reads plain scalars, first match first; anything else is text (§10.3.2)."""


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What sort of file is read, in the words of its messages."""

    noun: str
    """As in 'the study has more than …'."""
    contents: str
    """What to write into an empty one."""
    if_too_large: str
    """What to do with one that is too large."""


STUDY = FileKind(
    noun="study",
    contents="name, workload…",
    if_too_large="Write axes as ranges ({log2: [lo, hi]}) or split the study.",
)


@dataclass(frozen=True)
class Document:
    """Plain values (dicts, lists, text, numbers, booleans, None) and where each was written."""

    value: Any
    """The whole document."""
    source: str
    """File name for messages."""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Line of every key and list item, from 1; empty for values that never were text."""

    def line(self, path: KeyPath) -> int | None:
        """Return the line of `path`, or of its nearest container that has one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def error(self, path: KeyPath, message: str) -> StudyFileError:
        """Return the error that says `message` of what stands at `path`."""
        return located(self.source, self.line(path), message)

    @classmethod
    def from_text(cls, text: str, source: str, kind: FileKind = STUDY) -> "Document":
        """Return the document that `text` holds. Raises `StudyFileError` with the line."""
        if len(text) > LARGEST_FILE:
            raise _too_large(source, kind)
        return _Builder(text, source, kind).document()

    @classmethod
    def from_values(cls, values: Any, source: str) -> "Document":
        """Return the document that Python values describe, without lines.

        Tuples and ranges become lists, NumPy's scalars Python's. Raises `StudyFileError`, naming
        the place, for a value that YAML has no word for.
        """
        return cls(_plain(values, source, ()), source)


def located(source: str, line: int | None, message: str) -> StudyFileError:
    """Return the error 'source:line: message'; without a line, 'source: message'."""
    return StudyFileError(f"{source}: {message}" if line is None else f"{source}:{line}: {message}")


def _too_large(source: str, kind: FileKind) -> StudyFileError:
    return located(
        source,
        1,
        f"the {kind.noun} has more than {LARGEST_FILE} bytes, the most that is allowed. "
        f"{kind.if_too_large}",
    )


def _plain(value: Any, source: str, path: KeyPath) -> Any:
    if len(path) > DEEPEST:
        raise located(source, None, f"more than {DEEPEST} lists and mappings inside each other.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _refuse_surrogates(value, source, None)
        return str.__str__(value)  # the bare text of a subclass, as NumPy's or an enum's
    if isinstance(value, numbers.Integral) and abs(int(value)) <= LARGEST_INTEGER:
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return float(value)
    if isinstance(value, list | tuple | range):
        return [_plain(item, source, (*path, i)) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for key in value:
            _refuse_surrogates(key, source, None)
        return {str.__str__(key): _plain(item, source, (*path, key)) for key, item in value.items()}
    raise located(
        source,
        None,
        f"{'.'.join(map(str, path)) or 'the study'} is {value!r:.60} ({type(value).__name__}); "
        "allowed: text, finite numbers, integers of 64 bits, and lists and dicts (keys are text) "
        "of them. Convert it; an array has .tolist().",
    )


def _refuse_surrogates(text: str, source: str, line: int | None) -> None:
    if found := SURROGATE.search(text):
        raise located(
            source,
            line,
            f"{text!r:.60} has {found[0]!r}, half a character (a surrogate); allowed: whole ones. "
            "Write the character itself.",
        )


def read_text(path: Path, kind: FileKind = STUDY) -> str:
    """Return the text of a UTF-8 file of at most 1 MB. Raises `StudyFileError` otherwise."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise located(
            str(path),
            None,
            f"the {kind.noun} file cannot be read: {error.strerror}. Check the path.",
        ) from error
    if len(data) > LARGEST_FILE:
        raise _too_large(str(path), kind)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise located(
            str(path),
            data.count(b"\n", 0, error.start) + 1,
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 text.",
        ) from error


class _Builder:
    """Builds one document from parse events."""

    def __init__(self, text: str, source: str, kind: FileKind) -> None:
        self._text = text
        self._source = source
        self._kind = kind
        self._lines: dict[KeyPath, int] = {}
        self._events: Iterator[Event] = iter(())

    def document(self) -> Document:
        try:
            self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
            next(self._events)  # the stream's start
            start = next(self._events)
            if isinstance(start, StreamEndEvent):
                raise located(
                    self._source,
                    1,
                    f"the file is empty; write a {self._kind.noun}: {self._kind.contents}",
                )
            value = self._value(next(self._events), ())
            next(self._events)  # the document's end
            end = next(self._events)
            if isinstance(end, DocumentStartEvent):
                raise self._error(
                    end, f"a second YAML document begins; one file is one {self._kind.noun}."
                )
        except yaml.reader.ReaderError as error:
            raise located(
                self._source,
                self._text.count("\n", 0, error.position) + 1,
                f"character {chr(error.character)!r} is not allowed in YAML; remove it.",
            ) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise located(
                self._source,
                mark.line + 1 if mark else 1,
                f"not valid YAML: {error.problem}. Indent with spaces, close brackets and "
                "quotes, and quote text that holds ':' or '#'.",
            ) from error
        return Document(value, self._source, self._lines)

    def _value(self, event: Event, path: KeyPath) -> Any:
        self._lines.setdefault(path, _line(event))
        self._refuse_more_than_a_value(event)
        if len(path) > DEEPEST:
            raise self._error(
                event,
                f"more than {DEEPEST} lists and mappings inside each other; "
                f"allowed: {DEEPEST}. A {self._kind.noun} needs 5.",
            )
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        assert isinstance(event, ScalarEvent)
        return self._scalar(event)

    def _refuse_more_than_a_value(self, event: Event) -> None:
        if isinstance(event, AliasEvent):
            raise self._error(event, f"alias *{event.anchor} is not allowed; repeat the value.")
        if isinstance(event, NodeEvent) and event.anchor is not None:
            raise self._error(event, f"anchor &{event.anchor} is not allowed; repeat the value.")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._error(event, f"tag {tag} is not allowed; write the value alone.")

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            self._refuse_more_than_a_value(event)
            if not isinstance(event, ScalarEvent):
                raise self._error(event, "a key is a list or a mapping; allowed: text. Quote it.")
            key = self._scalar(event)
            if not isinstance(key, str):
                raise self._error(event, f"key {event.value} is not text; allowed: text. Quote it.")
            if key in mapping:
                first = self._lines[(*path, key)]
                raise self._error(
                    event, f"key {key!r} is a duplicate of line {first}; keep one of the two."
                )
            self._lines[(*path, key)] = _line(event)
            mapping[key] = self._value(next(self._events), (*path, key))
        return mapping

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _scalar(self, event: ScalarEvent) -> Any:
        text = event.value
        if len(text) > LONGEST_SCALAR:
            raise self._error(
                event, f"a value has {len(text)} characters; allowed: at most {LONGEST_SCALAR}."
            )
        _refuse_surrogates(text, self._source, _line(event))
        if event.style is not None:
            return text
        kind = next((k for k, pattern in CORE_SCHEMA.items() if pattern.fullmatch(text)), "str")
        if kind == "int":
            number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            if abs(number) > LARGEST_INTEGER:
                raise self._error(
                    event,
                    f"integer {text[:30]} is too large; allowed: at most {LARGEST_INTEGER}.",
                )
            return number
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return {"null": None, "bool": text.lower() == "true"}.get(kind, text)

    def _error(self, event: Event, message: str) -> StudyFileError:
        return located(self._source, _line(event), message)


def _line(event: Event) -> int:
    assert event.start_mark is not None  # only events made by hand have none
    return event.start_mark.line + 1


def dump(value: Any) -> str:
    """Return plain values as YAML text that `Document.from_text` reads back as the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes the text that YAML 1.2 would take for something else, and repeats shared lists."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {}
for _kind, _pattern in CORE_SCHEMA.items():
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern.pattern})$", re.ASCII), None
    )
