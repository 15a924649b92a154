"""Documents whose Python is run: their blocks, what these print, and whether it still stands there.

Where a block ```` ```python ```` prints something, a block ```` ```text ```` follows it that shows
it. `python -m tests.walkthrough docs/NAME.md` writes what is printed now into the document.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of Python with what the document says it prints."""

    code: str
    output: str
    """Empty where the document shows nothing."""


def blocks(document: str) -> list[Block]:
    """Return the blocks of Python of a document, in order."""
    return [Block(found["code"], found["output"] or "") for found in _BLOCK.finditer(document)]


def outputs(document: str, folder: Path) -> list[str]:
    """Return what each block prints, run one after another in one namespace inside `folder`."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, block in enumerate(blocks(document)):
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(block.code, f"block {number}", "exec"), names)
            printed.append(stream.getvalue())
    finally:
        os.chdir(before)
    return printed


def words(text: str) -> list[str]:
    """Return the text without its numbers, in words: columns move where a number is longer."""
    return _NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    """Return the numbers of a text."""
    return [float(found) for found in _NUMBER.findall(text)]


def rewritten(document: str, printed: list[str]) -> str:
    """Return the document with what its blocks print now."""
    fresh = iter(printed)

    def block(found: re.Match[str]) -> str:
        text = next(fresh)
        # Lines of a printed frame end in spaces, which documents do not keep.
        text = "\n".join(line.rstrip() for line in text.splitlines())
        shown = f"\n```text\n{text}\n```\n" if text else ""
        return f"```python\n{found['code']}```\n{shown}"

    return _BLOCK.sub(block, document)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as elsewhere:
        text = path.read_text()
        path.write_text(rewritten(text, outputs(text, Path(elsewhere))))
