"""Where a stack of cells stands, as bytes from which another worker goes on."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from workloads.training.arithmetic import Arithmetic
from workloads.training.lockstep import Lockstep

__all__ = ["SavedStack", "UnusableCheckpointError"]


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

    def to_bytes(self, arithmetic: Arithmetic) -> bytes:
        """Return what `from_bytes` reads."""
        buffer = io.BytesIO()
        content = {
            "origin": _origin(arithmetic),
            "cell_ids": list(self.cell_ids),
            "state": dict(self.state),
        }
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, arithmetic: Arithmetic) -> "SavedStack":
        """Return what was saved; loads tensors and plain values only.

        Raises `UnusableCheckpointError` for bytes that are none, and for a stack of another
        arithmetic or of other versions, whose tensors may mean something else.
        """
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # bytes that are no checkpoint raise whatever they lead to
            raise UnusableCheckpointError(f"it cannot be read ({error})") from error
        if content["origin"] != _origin(arithmetic):
            raise UnusableCheckpointError(
                f"it is of {content['origin']}, and this worker's are {_origin(arithmetic)}"
            )
        return cls(tuple(content["cell_ids"]), content["state"])

    def under_way(self) -> list[str]:
        """Return the cells that had not ended."""
        return [self.cell_ids[member["place"]] for member in self.state["members"]]

    def load_into(self, lockstep: Lockstep, cell_ids: Sequence[str]) -> None:
        """Let `lockstep`, whose members are `cell_ids` (all under way here), go on from here."""
        place = {cell_id: i for i, cell_id in enumerate(cell_ids)}
        lockstep.load(self.state, [place.get(cell_id) for cell_id in self.cell_ids])


def _origin(arithmetic: Arithmetic) -> str:
    """Return what a state's tensors depend on, in words."""
    return f"{arithmetic} of scaling-study {version('scaling-study')}, torch {torch.__version__}"
