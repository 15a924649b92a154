"""CIFAR-10's files for Python: pickles of a dictionary of pixels and labels.

A pickle may run any code. This reader admits the names that an array of NumPy's is made with, and
refuses a file that asks for any other.
"""

import codecs
import io
import pickle
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from workloads.errors import WorkloadError

__all__ = ["read_cifar_batch"]

_RECONSTRUCT: Final = np.empty(0).__reduce__()[0]

_ADMITTED: Final[dict[tuple[str, str], Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes into an old pickle
}


class _ArraysOnly(pickle.Unpickler):
    @override
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None


def read_cifar_batch(
    content: bytes, name: str, image_shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the (n, C, H, W) pixels and the (n,) labels of a file.

    `image_shape`: (C, H, W). `name`: of the file, for errors. Raises `WorkloadError` where the
    content is not such a file, or asks to run code.
    """
    try:
        # Written by Python 2, whose strings are bytes.
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        pixels = np.asarray(batch[b"data"])
        labels = np.asarray(batch[b"labels"], np.int64)
        if pixels.dtype != np.uint8 or len(pixels) != len(labels):
            raise ValueError(f"it holds {len(labels)} labels for {pixels.dtype}{pixels.shape}")
        return pixels.reshape(-1, *image_shape), labels
    except Exception as error:  # what a damaged pickle raises may be anything
        raise WorkloadError(
            f"{name} is no batch of CIFAR-10 for Python: {error}. Get the data set anew."
        ) from error
