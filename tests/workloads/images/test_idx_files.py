import struct

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.images.idx_files import read_idx

HEADER = struct.pack(">BBBBII", 0, 0, 8, 2, 2, 3)


def test_values_are_read_in_rows():
    array = read_idx(HEADER + bytes(range(6)), "images")
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    assert array.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "images is no IDX file of unsigned bytes"),
        (b"PK\x03\x04" + bytes(20), r"it begins with b'PK\\x03\\x04'"),
        (HEADER[:6], "is no IDX file"),
        (struct.pack(">BBBBI", 0, 0, 13, 1, 1) + bytes(4), "is no IDX file"),  # of floats
        (HEADER + bytes(5), "announces 2 × 3 values and holds 5"),
        (HEADER + bytes(7), "announces 2 × 3 values and holds 7"),
    ],
)
def test_what_is_no_idx_file_is_refused_by_its_name(content: bytes, complaint: str):
    with pytest.raises(WorkloadError, match=complaint):
        read_idx(content, "images")
