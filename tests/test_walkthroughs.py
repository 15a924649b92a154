"""What the documents show is what their code prints."""

from pathlib import Path

import numpy as np
import pytest

from tests.walkthrough import blocks, numbers, outputs, rewritten, words

DOCS = Path(__file__).parents[1] / "docs"


def test_a_table_of_ones_own_is_analyzed_as_the_document_shows(tmp_path):
    document = (DOCS / "analyze_your_own_table.md").read_text()
    printed = outputs(document, tmp_path)
    assert sum(bool(text) for text in printed) >= 6
    for block, now in zip(blocks(document), printed, strict=True):
        assert words(now) == words(block.output)
        # The errors are counts of examples and the same everywhere. Fits end at 1e-8 or so, and
        # are shown to four digits, of which the last may round the other way.
        np.testing.assert_allclose(numbers(now), numbers(block.output), rtol=2e-3, atol=1e-4)
    assert (tmp_path / "own_table.png").read_bytes().startswith(b"\x89PNG")
    assert (DOCS / "images" / "own_table.png").exists()


def test_a_document_with_another_number_or_word_is_noticed(tmp_path):
    document = "```python\nprint('beta', 0.5, -1e-3)\n```\n\n```text\nbeta 0.5 -0.001\n```\n"
    (printed,) = outputs(document, tmp_path)
    (block,) = blocks(document)
    assert words(printed) == words(block.output) == ["beta", "#", "#"]
    assert numbers(printed) == numbers(block.output) == [0.5, -0.001]
    assert numbers(document.replace("0.001", "0.002"))[-1] == -0.002
    assert words(printed) != words(block.output.replace("beta", "gamma"))
    assert rewritten(document, ["other\n"]).endswith("```text\nother\n```\n")


def test_blocks_share_names_and_a_failing_one_is_said(tmp_path):
    document = "```python\na = 1\n```\n\nProse.\n\n```python\nprint(a)\n```\n"
    assert outputs(document, tmp_path) == ["", "1\n"]
    with pytest.raises(NameError):
        outputs("```python\nprint(b)\n```\n", tmp_path)
