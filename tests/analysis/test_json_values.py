import json
from enum import StrEnum

import numpy as np
import pytest

from analysis.json_values import json_value


class Word(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64("nan"), "null"),
        (float("inf"), '"inf"'),
        (np.float32("-inf"), '"-inf"'),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (None, "null"),
        (Word.ONE, '"one"'),
        ({Word.ONE: (1, np.nan), 2: [{"x": np.inf}]}, '{"one": [1, null], "2": [{"x": "inf"}]}'),
    ],
)
def test_what_strict_json_lacks_becomes_something_it_has(value, text):
    assert json.dumps(json_value(value), allow_nan=False) == text


def test_what_json_cannot_say_is_left_for_json_to_refuse():
    with pytest.raises(TypeError, match="complex"):
        json.dumps(json_value([1j]))
