import struct
import zlib

import pytest

from tests.workloads.needed_data import needs
from workloads.data.catalogue import KJV, REINA_VALERA
from workloads.data.data_set import DataSet, MissingDataError
from workloads.text.sword import verses

OLD = [
    "",
    '<milestone type="x-importer"/>',
    '<div canonical="true" osisID="Gen" sID="gen1" type="book"/> <title>Genesis</title>',
    '<chapter n="1" osisID="Gen.1" sID="Gen.1"/> ',
    'In the <w lemma="x">beginning</w>, <note type="foot">so <w>it</w> is</note>light. ',
    "",
    '<title type="psalm">Of David</title>Selah <transChange>was</transChange>  <lb/>here',
    '<div sID="g2" type="x-p"/> <chapter n="2" osisID="Gen.2" sID="Gen.2"/>',
    'Last. <chapter eID="Gen.2"/> <div eID="gen1" type="book"/>',
    '<div canonical="true" osisID="Exod" sID="gen9" type="book"/>',
    '<chapter n="1" osisID="Exod.1" sID="Exod.1"/>',
    "Now.",
]
NEW = [
    "",
    "",
    '<div osisID="Matt" sID="m1" type="book"/>',
    '<chapter osisID="Matt.1" sID="m2"/>',
    "Niñ\u0303o.",
]


@pytest.fixture
def module(tmp_path):
    for testament, slots in (("ot", OLD), ("nt", NEW)):
        # Two blocks, as when a book ends one: the second begins at slot 9.
        blocks, index, places, packed = [b"", b""], b"", b"", b""
        for slot, text in enumerate(slots):
            block, raw = int(slot >= 9), text.encode()
            places += struct.pack("<IIH", block, len(blocks[block]), len(raw))
            blocks[block] += raw
        for block in blocks:
            small = zlib.compress(block)
            index += struct.pack("<III", len(packed), len(small), len(block))
            packed += small
        for kind, content in (("bzs", index), ("bzv", places), ("bzz", packed)):
            (tmp_path / f"{testament}.{kind}").write_bytes(content)
    return DataSet(
        name="bible",
        title="a Bible",
        examples="5 verses",
        licence="none",
        source="nobody",
        files=KJV.files,
        places=(tmp_path,),
        install=("copy it",),
    )


def test_verses_are_numbered_by_their_headings_and_bare_of_markup_notes_and_titles(module):
    assert verses(module) == {
        ("Gen", "Gen.1", 1): "In the beginning, light.",
        ("Gen", "Gen.1", 3): "Selah was here",
        ("Gen", "Gen.2", 1): "Last.",
        ("Exod", "Exod.1", 1): "Now.",
        ("Matt", "Matt.1", 1): "Niñ\u0303o.",
    }


def test_a_module_that_is_not_there_is_refused_with_the_command(module, tmp_path):
    (tmp_path / "nt.bzz").unlink()
    with pytest.raises(MissingDataError, match="copy it"):
        verses(module)


@needs(KJV, REINA_VALERA)
def test_both_bibles_have_the_verses_of_the_king_james_versification():
    english, spanish = verses(KJV), verses(REINA_VALERA)
    # 31,102 verses in 1,189 chapters of 66 books: the counts that every concordance gives.
    assert len(english) == 31_102
    assert len({chapter for _, chapter, _ in english}) == 1189
    assert len({book for book, _, _ in english}) == 66
    assert not any("<" in text or ">" in text for text in (*english.values(), *spanish.values()))
    assert english.keys() > spanish.keys()
    assert len(spanish) == 31_084
    assert english["John", "John.11", 35] == "Jesus wept."
    assert spanish["John", "John.11", 35] == "Y lloró Jesús."
    assert english["Rev", "Rev.22", 21].startswith("The grace of our Lord Jesus Christ")
    assert spanish["Rev", "Rev.22", 21].startswith("La gracia de nuestro Señor Jesucristo")


@needs(KJV, REINA_VALERA)
def test_the_slots_of_both_bibles_hold_the_same_verses():
    # Who is named in one language is named in the other: a shift by one verse would part them.
    english, spanish = verses(KJV), verses(REINA_VALERA)
    for name, nombre in (("Moab", "Moab"), ("Pharaoh", "Faraón"), ("Peter", "Pedro")):
        ours = {place for place, text in english.items() if name in text}
        theirs = {place for place, text in spanish.items() if nombre in text}
        assert len(ours & theirs) > 0.95 * len(ours | theirs)
        shifted = {(book, chapter, verse + 1) for book, chapter, verse in theirs}
        assert len(ours & shifted) < 0.3 * len(ours | shifted)
