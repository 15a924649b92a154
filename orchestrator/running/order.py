"""Which pack a free worker takes next: the longest of its kind that no other starts for."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from typing_extensions import override

__all__ = ["LongestFirst"]


class LongestFirst(FIFOScheduler):
    """Hands out trials in their order, so that every slot is used from the moment it is there.

    Tune itself gives a worker that becomes free the first trial that waits. Where another worker
    is starting for that trial, it is ended, and its slot starts one anew: slots of a node that
    joins late, or where a start takes longer than a pack, would not train before the end of the
    study. Of trials that hold unlike resources, Tune keeps the order of one kind alone.
    """

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
        trials: list[Trial] = controller.get_trials()
        for trial in trials:
            if trial.status != Trial.PENDING:
                continue
            if kinds and trial.placement_group_factory not in kinds:
                continue
            if trial in workers and manager.is_actor_started(workers[trial]):
                continue  # a worker is on its way
            return trial
        return None
