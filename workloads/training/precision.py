"""The arithmetic that every cell is trained in, whatever the process around it has set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["float32_arithmetic"]


@contextmanager
def float32_arithmetic() -> Iterator[None]:
    """Run the block in full float32, with deterministic convolutions, then restore the settings.

    By default cuDNN multiplies float32 convolutions in TF32 (10 bits) and picks its algorithm anew
    in each process, and a transformer layer takes another path when it is only evaluated, which
    cannot be stacked.
    """
    precision = torch.get_float32_matmul_precision()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.set_float32_matmul_precision("highest")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.mha.set_fastpath_enabled(fast_path)
