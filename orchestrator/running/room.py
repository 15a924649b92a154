"""Room on the nodes for what waits, looked at while a run goes on: nodes may be lost meanwhile."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from cluster.capacity import NodeResources, Requirement, TrialResources, fit_together, shortfalls
from orchestrator.errors import LaunchError

__all__ = ["Room", "RoomLostError"]

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Between looks at what the nodes still hold: one question to the head node each."""

MISSING_SECONDS = 120.0
"""How long no node may hold what waits before that ends the run: a node that is restarted by the
cluster's own means is back by then."""


class RoomLostError(Exception):
    """Trials that wait for workers no longer find them beside each other."""


class Room:
    """Whether what waits fits anywhere, now that nodes may have been lost."""

    def __init__(
        self,
        nodes: Callable[[], Sequence[NodeResources] | None],
        held: Mapping[str, TrialResources],
        *,
        may_grow: bool,
    ) -> None:
        """Begin to look.

        `nodes`: those alive; None where nobody says. `held`: by pack_id.
        """
        self._nodes, self._held, self._may_grow = nodes, held, may_grow
        self._seen = nodes() or ()
        self._looked_at = time.monotonic()
        self._missing_since: float | None = None
        self._warned = may_grow  # of what was missing when the run began, its driver has warned

    def holds(self, together: Sequence[TrialResources]) -> bool:
        """Return whether trials of several workers fit beside each other on the nodes last seen."""
        return fit_together(together, self._seen)

    def look(self, open_packs: Collection[str], together: Sequence[TrialResources] = ()) -> None:
        """Look from time to time whether each of the open packs fits on some node.

        `together`: what trials of several workers hold that have begun. Raises `LaunchError` where
        a pack has fitted on no node for `MISSING_SECONDS` and none is to join, and `RoomLostError`
        where those trials no longer fit beside each other.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        nodes, kinds = self._nodes(), {self._held[pack_id] for pack_id in open_packs}
        if nodes is None:
            return
        self._seen = nodes
        needs = [Requirement(purpose="What is still to be trained", resources=k) for k in kinds]
        missing = shortfalls(needs, nodes)
        if len(together) > 1 and not self.holds(together):
            raise RoomLostError(f"{len(together)} cells of several workers no longer fit at once.")
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since > MISSING_SECONDS:
            sentences = "\n".join(missing)
            if not self._may_grow:
                raise LaunchError(
                    f"{sentences}\nWhat was durable is kept: run the study again when such a node "
                    "is there."
                )
            if not self._warned:
                self._warned = True
                logger.warning("%s Until such a node joins, these cells wait.", sentences)
