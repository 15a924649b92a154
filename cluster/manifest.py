"""Plain values as YAML that every reader understands alike.

PyYAML, Ray and Kubernetes read different dialects: `1e3` and `y` are text to one and a number or
a truth to another. Text that any of them could take for something else is quoted.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["manifest"]

DOUBTFUL = re.compile(r"[-+.0-9].*|[yYnN]|=|<<", re.DOTALL)
"""Text that begins as a number may, and single letters that YAML 1.1 reads as true or false."""


def manifest(documents: Sequence[Mapping[str, Any]], comments: Sequence[str]) -> str:
    """Return YAML of `documents`, headed by `comments`, a line each."""
    head = "".join(f"# {comment}".rstrip() + "\n" for comment in comments)
    bodies = (
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
        for document in documents
    )
    return head + "---\n".join(bodies)


class _Dumper(yaml.SafeDumper):
    """Quotes doubtful text, writes text of several lines as a block, repeats shared values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else "'" if DOUBTFUL.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
