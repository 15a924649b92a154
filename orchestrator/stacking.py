"""How many cells of a pack train at once: as many as memory holds and as pay, measured once.

The worker measures, on the pack's own cells and device, and keeps what it found in the store for
the next pack of the same shape, device model and versions. No row depends on it.
"""

import hashlib
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from cluster.local import usable_cpus, usable_memory
from orchestrator.cell import Cell, canonical_json
from orchestrator.packing import MOST_STACKED, Pack, Shape
from orchestrator.storage.store import Store
from workloads.base import Workload
from workloads.training.lockstep import Lockstep

__all__ = ["device_model", "stack_size"]

logger = logging.getLogger(__name__)

SIZES = (1, 8, 32, 128, MOST_STACKED)
"""Stacks that are measured, smallest first, while they pay; and the one of all cells, if smaller
than the last of these."""

AS_GOOD = 1.03
"""The largest stack is taken in which a cell's step costs at most so many times the least: what is
not measured, evaluation and the engine's own bookkeeping, is shared among more."""

REHEARSAL_SECONDS = 0.03
"""How long each size is measured: some ten steps of a large stack."""

MEMORY_SHARE = 0.5
"""Share of a trial's memory that its stack may fill: the estimate knows no library's buffers."""


def stack_size(
    pack: Pack, cells: Sequence[Cell], workload: Workload, store: Store, device: torch.device
) -> int:
    """Return how many of `cells`, members of `pack`, are to train at once on `device`."""
    if not pack.arithmetic.stacks or len(cells) == 1:
        return 1
    key = _key(pack, workload, device)
    probe = store.read_probe(key) or {}
    measured = {int(size): seconds for size, seconds in probe.get("step_seconds", {}).items()}
    tried: dict[int, float] = {}
    known = len(measured)
    bytes_a_member = probe.get("bytes_a_member", 0)
    most = min(len(cells), SIZES[-1])
    for size in (*(size for size in SIZES if size < most), most):
        if size * bytes_a_member > _memory(pack, device):
            break
        if size not in measured:
            rehearsal = _rehearsal(pack, cells, size, workload, device)
            if rehearsal is None:
                break
            measured[size], bytes_a_member = rehearsal
        tried[size] = measured[size]
        if tried[size] > AS_GOOD * min(tried.values()):
            break
    best = max((s for s in tried if tried[s] <= AS_GOOD * min(tried.values())), default=1)
    if len(measured) > known:
        store.write_probe(
            key,
            {
                "workload": workload.name,
                "model_size": pack.cells[0].model_size,
                "batch_size": pack.cells[0].batch_size,
                "arithmetic": pack.arithmetic.value,
                "device": device_model(device),
                "torch": str(torch.__version__),
                "bytes_a_member": bytes_a_member,
                "step_seconds": {str(size): measured[size] for size in sorted(measured)},
            },
        )
    logger.info("Pack %s trains %d cells at once.", pack.pack_id, best)
    return best


def _rehearsal(
    pack: Pack, cells: Sequence[Cell], size: int, workload: Workload, device: torch.device
) -> tuple[float, int] | None:
    """Return a cell's seconds a step in a stack of `size`, and its bytes; None where none runs.

    The stack is one cell, many times: what its members are does not matter for the time. Where
    that cell raises, as it will when it is trained, another is taken.
    """
    for cell in dict.fromkeys((cells[0], cells[-1], cells[len(cells) // 2])):
        try:
            stack = Lockstep(workload, [cell.recipe()] * size, pack.arithmetic, device)
            return stack.rehearse(REHEARSAL_SECONDS) / size, stack.bytes_a_member
        except Exception as error:
            logger.warning(
                "No measurement of %d cells at once with cell %s: %s: %s",
                size,
                cell.cell_id,
                type(error).__name__,
                error,
            )
    return None


@cache
def device_model(device: torch.device) -> str:
    """Return the name of a device's model, such as 'NVIDIA H100 80GB HBM3' or 'AMD EPYC'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _key(pack: Pack, workload: Workload, device: torch.device) -> str:
    """Return 16 hex digits of what the measurement depends on."""
    shape = Shape.of(pack.cells[0])
    facts: Mapping[str, object] = {
        "workload": [workload.name, workload.version],
        "shape": list(astuple(shape)),
        "arithmetic": pack.arithmetic.value,
        "device": device_model(device),
        "versions": [str(torch.__version__), version("scaling-study")],
    }
    return hashlib.sha256(canonical_json(dict(facts)).encode()).hexdigest()[:16]


def _memory(pack: Pack, device: torch.device) -> float:
    """Return the bytes that the pack's stack may fill."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return MEMORY_SHARE * total * min(1.0, pack.resources.gpus)
    return MEMORY_SHARE * usable_memory() * min(1.0, pack.resources.cpus / usable_cpus())
