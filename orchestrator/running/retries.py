"""Which packs go again after a round that did not end well for them: whole, or as halves."""

import logging
import socket
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from orchestrator.cell import Cell
from orchestrator.packing import Pack
from orchestrator.running.executor import PackEnd, PackFate
from orchestrator.running.pack_rows import Failure, PackProgress
from orchestrator.storage.store import Store

__all__ = ["WORKER_DIED", "Retries"]

logger = logging.getLogger(__name__)

WORKER_DIED = "WorkerDied"
"""`error_type` of a cell that took its process down."""

MOST_SUSPICIONS = 3
"""How often a pack may be under way when memory runs out somewhere, before it is to blame."""


class Retries:
    """What is remembered of packs from round to round."""

    def __init__(
        self,
        store: Store,
        failed: Callable[[], Collection[str]],
        add: Callable[[PackProgress], None],
    ) -> None:
        """`failed`: the cells that have failed. `add`: takes in the failures found here."""
        self._store, self._failed, self._add = store, failed, add
        self._suspicions: Counter[str] = Counter()
        self._saved_at: dict[str, datetime] = {}

    def after(self, pack: Pack, fate: PackFate) -> list[Pack]:
        """Return what is left to train of `pack` after any end but a fault.

        Of a pack that died, halves; a cell that was alone has failed, unless it was saved anew
        since the last time: then it gets on, and loses its nodes one after another.
        """
        if fate.end is PackEnd.ROUND_ENDED:
            return [pack]
        if fate.end is PackEnd.SUSPECTED:
            self._suspicions[pack.pack_id] += 1
            if self._suspicions[pack.pack_id] < MOST_SUSPICIONS:
                return [pack]
        if len(pack.cells) > 1:
            return self._halves(pack)
        if self._got_on(pack):
            logger.warning(
                "The worker of pack %s died twice; its cell goes on where it was saved.",
                pack.pack_id,
                extra={"pack_id": pack.pack_id},
            )
            return [pack]
        for cell in self._left(pack):
            failure = Failure(
                cell_id=cell.cell_id,
                pack_id=pack.pack_id,
                error_type=WORKER_DIED,
                error_message=(
                    "The worker process died twice while it trained this cell alone "
                    "(killed, out of memory, hanging, or it ended itself)."
                ),
                error_traceback=fate.reason,
                host=socket.gethostname(),
                failed_at=datetime.now(UTC),
            )
            self._add(PackProgress(pack_id=pack.pack_id, failures=(failure,)))
        return []

    def _halves(self, pack: Pack) -> list[Pack]:
        left = self._left(pack)
        logger.warning(
            "The worker of pack %s died twice; its %d open cells go on in halves.",
            pack.pack_id,
            len(left),
            extra={"pack_id": pack.pack_id},
        )
        middle = (len(left) + 1) // 2
        resumes = pack.pack_id if pack.pack_id in self._store.open_packs() else pack.resumes
        return [pack.holding(half, resumes) for half in (left[:middle], left[middle:]) if half]

    def _left(self, pack: Pack) -> list[Cell]:
        done = self._store.pack_cell_ids(pack.pack_id) | set(self._failed())
        return [cell for cell in pack.cells if cell.cell_id not in done]

    def _got_on(self, pack: Pack) -> bool:
        saved_at = self._store.saved_at(pack.pack_id)
        if saved_at is None or saved_at == self._saved_at.get(pack.pack_id):
            return False
        self._saved_at[pack.pack_id] = saved_at
        return True
