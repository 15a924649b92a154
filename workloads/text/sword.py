"""The verses of a SWORD module, as Debian's `sword-text-…` packages carry them.

The format (zText, compressed by book): `.bzz` holds zlib blocks; `.bzs` an entry of three uint32 a
block (offset, size, size unpacked); `.bzv` one of uint32, uint32, uint16 a slot (block, offset in
it, length). Slots follow the versification: headings of module, testament, book and chapter, then
the verses of the chapter. The OSIS markup of the headings says which chapter it is.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from workloads.data.data_set import DataSet

__all__ = ["Place", "verses"]

Place = tuple[str, str, int]
"""Book, chapter and verse, as in ("Gen", "Gen.1", 1)."""

_BOOK = re.compile(r'<div [^>]* sID="[^"]*" type="book"')
_CHAPTER = re.compile(r'<chapter [^>]*osisID="(([^".]+)\.[^"]+)" sID=')
_ASIDE = re.compile(r"<(note|title)\b[^>]*(?<!/)>.*?</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def verses(module: DataSet) -> dict[Place, str]:
    """Return the text of every verse that is not empty, without markup, notes and titles.

    Raises `MissingDataError` where the module is not on this machine.
    """
    found: dict[Place, str] = {}
    for testament in ("ot", "nt"):
        found |= _numbered(_slots(module, testament))
    return found


def _slots(module: DataSet, testament: str) -> Iterator[str]:
    blocks_of, slots, packed = (
        module.read(f"{testament}.{kind}") for kind in ("bzs", "bzv", "bzz")
    )
    blocks = [
        zlib.decompress(packed[offset : offset + size])
        for offset, size, _ in struct.iter_unpack("<III", blocks_of)
    ]
    for block, offset, length in struct.iter_unpack("<IIH", slots):
        yield blocks[block][offset : offset + length].decode() if length else ""


def _numbered(slots: Iterator[str]) -> dict[Place, str]:
    found: dict[Place, str] = {}
    chapter, verse = None, 0
    for markup in slots:
        if _BOOK.search(markup):
            chapter = None
        elif heading := _CHAPTER.search(markup):
            chapter, verse = (heading[2], heading[1]), 0
        elif chapter is not None:
            verse += 1
            text = " ".join(_TAG.sub("", _ASIDE.sub("", markup)).split())
            if text:
                found[*chapter, verse] = text
    return found
