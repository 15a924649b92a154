"""IDX files, in which MNIST and Fashion-MNIST come.

Format: two zero bytes, the type of the values (8: unsigned bytes), the number of dimensions, each
dimension as a big-endian 32-bit integer, and the values. Source: http://yann.lecun.com/exdb/mnist.
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

__all__ = ["read_idx"]

UNSIGNED_BYTES = 8


def read_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file; read-only.

    `name`: of the file, for errors. Raises `WorkloadError` where the content is none.
    """
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != bytes([0, 0, UNSIGNED_BYTES]) or len(content) < start:
        raise WorkloadError(
            f"{name} is no IDX file of unsigned bytes: it begins with {content[:4]!r}. "
            "Get the data set anew."
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise WorkloadError(
            f"{name} announces {' × '.join(map(str, shape))} values and holds "
            f"{len(content) - start}. Get the data set anew."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
