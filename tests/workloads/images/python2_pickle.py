"""CIFAR-10's batches as their author wrote them: pickled by Python 2, by the letter."""

import struct

import numpy as np
from numpy.typing import NDArray


def python2_batch(pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> bytes:
    """Return the pickle, of protocol 2, of {'data': (n, …) pixels in rows, 'labels': a list}.

    Written opcode by opcode, since Python 3 writes other ones: strings as text, arrays by another
    module. Source: the opcodes of `pickletools`, and what NumPy's arrays reduce to.
    """
    rows = pixels.reshape(len(pixels), -1)
    array = (
        _global("numpy.core.multiarray", "_reconstruct")
        + _global("numpy", "ndarray")
        + _tuple(_integer(0))
        + _string(b"b")
        + b"\x87R"  # a tuple of the three, called
        + _tuple(
            _integer(1),
            _tuple(_integer(rows.shape[0]), _integer(rows.shape[1])),
            _global("numpy", "dtype")
            + _tuple(_string(b"u1"), _integer(0), _integer(1))
            + b"R"
            + _tuple(_integer(3), _string(b"|"), b"NNN", _integer(-1), _integer(-1), _integer(0))
            + b"b",
            b"\x89",  # False: in C order
            _string(rows.tobytes()),
        )
        + b"b"
    )
    items = _string(b"data") + array + _string(b"labels")
    items += b"](" + b"".join(_integer(int(label)) for label in labels) + b"e"
    return b"\x80\x02}(" + items + b"u."


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _string(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"
