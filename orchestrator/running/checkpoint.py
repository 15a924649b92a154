"""Where the stacks of a pack stand, as bytes from which another worker goes on."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workloads.training.lockstep import Lockstep

__all__ = ["SavedStack", "UnusableCheckpointError", "from_bytes", "to_bytes"]


class UnusableCheckpointError(Exception):
    """A checkpoint from which this worker cannot go on; the message says why."""


@dataclass(frozen=True)
class SavedStack:
    """Where a stack stood when it was last saved."""

    cell_ids: tuple[str, ...]
    """Members of the stack as it was begun; `state` knows which of them are under way."""
    state: Mapping[str, Any]
    """What `Lockstep.state` returned."""

    @classmethod
    def of(cls, lockstep: Lockstep, cell_ids: Sequence[str]) -> "SavedStack":
        """Return where `lockstep`, begun with `cell_ids`, stands."""
        return cls(tuple(cell_ids), lockstep.state())

    def under_way(self) -> list[str]:
        """Return the cells that had not ended."""
        return [self.cell_ids[member["place"]] for member in self.state["members"]]

    def load_into(self, lockstep: Lockstep, cell_ids: Sequence[str]) -> None:
        """Let `lockstep`, whose members are `cell_ids` (all under way here), go on from here."""
        place = {cell_id: i for i, cell_id in enumerate(cell_ids)}
        lockstep.load(self.state, [place.get(cell_id) for cell_id in self.cell_ids])


def to_bytes(stacks: Sequence[SavedStack], origin: str) -> bytes:
    """Return what `from_bytes` reads. `origin`: what the tensors depend on, in words."""
    buffer = io.BytesIO()
    saved = [{"cell_ids": list(each.cell_ids), "state": dict(each.state)} for each in stacks]
    torch.save({"origin": origin, "stacks": saved}, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes, origin: str) -> list[SavedStack]:
    """Return the stacks that were saved; loads tensors and plain values only.

    Raises `UnusableCheckpointError` for bytes that are none, and for stacks of another origin,
    whose tensors may mean something else.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        theirs, saved = content["origin"], content["stacks"]
    except Exception as error:  # bytes that are no checkpoint raise whatever they lead to
        raise UnusableCheckpointError(f"it cannot be read ({error})") from error
    if theirs != origin:
        raise UnusableCheckpointError(f"it is of {theirs}; this worker's would be of {origin}")
    return [SavedStack(tuple(each["cell_ids"]), each["state"]) for each in saved]
