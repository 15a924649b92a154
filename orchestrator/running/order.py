"""Which pack a free worker takes next: the longest of its kind that no other starts for."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from typing_extensions import override

from cluster.capacity import TrialResources
from orchestrator.packing import Pack

__all__ = ["LongestFirst", "in_waves"]


def in_waves(packs: Sequence[Pack], slots: Callable[[TrialResources], int]) -> list[Pack]:
    """Return packs in the order in which they are to wait for room, each kind in its own.

    Of every kind as many as run at once, then as many again: Ray is told of the first that wait
    alone, and kinds that wait behind all packs of another would leave their nodes idle. What needs
    a GPU, or a node of a kind, comes first in each wave: CPUs beside GPUs are theirs.
    """
    at_once = {kind: max(1, slots(kind)) for kind in {pack.resources for pack in packs}}
    before: Counter[TrialResources] = Counter()
    places = []
    for pack in packs:
        kind = pack.resources
        places.append((before[kind] // at_once[kind], not (kind.gpus or kind.named)))
        before[kind] += 1
    return [packs[i] for i in sorted(range(len(packs)), key=places.__getitem__)]


class LongestFirst(FIFOScheduler):
    """Hands out trials in their order, so that slots are used soon after they are there.

    Tune itself gives a worker that becomes free the first trial that waits. Where another worker
    is starting for that trial, it is ended, and its slot starts one anew: slots of a node that
    joins late, or where a start takes longer than a pack, would not train before the end of the
    study. Of trials that hold unlike resources, Tune keeps the order of one kind alone. Where
    workers start for all that wait, Tune's own ways are left: a free worker takes one of them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._open: dict[Trial, None] = {}
        """In their order; Tune's own list keeps the ended ones, which may be thousands."""

    @override
    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._open[trial] = None  # one that failed and goes again keeps its place

    @override
    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        # Tune's schedulers are shown less than that, which is not enough.
        controller = tune_controller._tune_controller
        workers, manager = controller._trial_to_actor, controller._actor_manager
        idle = controller._actor_cache
        kinds = {
            kind
            for kind, waiting in controller._resources_to_pending_trials.items()
            if waiting and idle.num_cached_objects and idle.has_cached_object(kind)
        }
        chosen, ended = None, []
        for trial in self._open:
            if trial.status in (Trial.TERMINATED, Trial.ERROR):
                ended.append(trial)
            elif trial.status == Trial.PENDING and (
                not kinds or trial.placement_group_factory in kinds
            ):
                on_its_way = trial in workers and manager.is_actor_started(workers[trial])
                if not on_its_way:
                    chosen = trial
                    break
        for trial in ended:
            del self._open[trial]
        return chosen
