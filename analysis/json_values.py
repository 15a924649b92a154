"""Values of numpy and pandas as what strict JSON holds."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np

__all__ = ["json_value"]


def json_value(value: Any) -> Any:
    """Return `value` for strict JSON, with all that a mapping, list or tuple contains.

    NaN is null, an unbounded number "inf" or "-inf"; scalars of numpy become Python's.
    """
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, float) or math.isfinite(plain):
        return plain
    if math.isnan(plain):
        return None
    return "inf" if plain > 0 else "-inf"
