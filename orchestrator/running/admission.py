"""Which packs are trials of Ray Tune by now."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher
from typing_extensions import override

from cluster.capacity import TrialResources

__all__ = ["Admission"]

HEAD_START_SECONDS = 20.0
"""How long other packs wait for the first cells of several workers to have these: Ray Train takes
some ten seconds."""


class Admission(Searcher):
    """Makes trials of packs, in their order: of all that one worker trains, and of some others.

    A trial whose cell several workers train holds a CPU while it waits for them. Of these there are
    no more than find their workers beside each other, or one where none would: each could wait for
    the CPUs of the others. They begin before all others, being the longest, while nothing runs that
    they would have to wait for; those that come later take what is free when it is enough.
    """

    def __init__(
        self,
        held: Mapping[str, TrialResources],
        fit: Callable[[Sequence[TrialResources]], bool],
    ) -> None:
        """Begin with none.

        `held`: what each pack's trial holds, by pack_id, in order. `fit` says whether trials of
        several workers fit beside each other.
        """
        super().__init__()
        self._alone = deque(pack_id for pack_id, kind in held.items() if kind.workers == 1)
        self._together: dict[TrialResources, deque[str]] = {}
        for pack_id, kind in held.items():
            if kind.workers > 1:
                self._together.setdefault(kind, deque()).append(pack_id)
        self._fit = fit
        self._under_way: dict[str, TrialResources] = {}
        head_start = HEAD_START_SECONDS if self._together else 0.0
        self._others_begin = time.monotonic() + head_start

    def under_way(self) -> list[TrialResources]:
        """Return what the trials of several workers hold that have begun and not ended."""
        return list(self._under_way.values())

    @override
    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        kind = self._next_together()
        if kind is not None:
            self._under_way[trial_id] = kind
            return {"pack_id": self._together[kind].popleft()}
        if self._alone and time.monotonic() >= self._others_begin:
            return {"pack_id": self._alone.popleft()}
        return None

    def _next_together(self) -> TrialResources | None:
        kinds = [kind for kind, pack_ids in self._together.items() if pack_ids]
        begun = self.under_way()
        fitting = (kind for kind in kinds if self._fit([*begun, kind]))
        return next(fitting, None if begun or not kinds else kinds[0])

    @override
    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        self._under_way.pop(trial_id, None)

    @override
    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Keep nothing: the store decides what is done, and no run of Tune's is restored."""
