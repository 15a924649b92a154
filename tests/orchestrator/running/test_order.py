"""Which trial a worker of Ray Tune takes next."""

from dataclasses import dataclass
from types import SimpleNamespace

from ray.tune.experiment import Trial

from orchestrator.running.order import LongestFirst


@dataclass(eq=False)
class FakeTrial:
    name: str
    placement_group_factory: str = "a CPU"
    status: str = Trial.PENDING


def chosen(*trials, asked=(), starting=(), idle=()):
    """Return the name of the trial chosen.

    For those of `asked` a worker waits for room, for those of `starting` one has it and comes up;
    of each kind in `idle` there is a worker without work.
    """
    kinds = {trial.placement_group_factory: {trial} for trial in trials}
    named = {trial.name: trial for trial in trials}
    controller = SimpleNamespace(
        get_trials=lambda: list(trials),
        _trial_to_actor={named[name]: name for name in (*asked, *starting)},
        _actor_manager=SimpleNamespace(is_actor_started=lambda worker: worker in starting),
        _actor_cache=SimpleNamespace(
            num_cached_objects=len(idle), has_cached_object=lambda kind: kind in idle
        ),
        _resources_to_pending_trials=kinds,
    )
    trial = LongestFirst().choose_trial_to_run(SimpleNamespace(_tune_controller=controller))
    return trial and trial.name


def test_the_first_that_waits_is_next():
    ended = FakeTrial("ended", status=Trial.TERMINATED)
    assert chosen(ended, FakeTrial("a"), FakeTrial("b"), asked=["a", "b"]) == "a"


def test_a_worker_that_comes_up_keeps_its_trial():
    trials = [FakeTrial("a"), FakeTrial("b"), FakeTrial("c")]
    assert chosen(*trials, starting=["a"], asked=["b"], idle=["a CPU"]) == "b"


def test_where_all_have_a_worker_coming_up_none_is_chosen():
    assert chosen(FakeTrial("a"), FakeTrial("b"), starting=["a", "b"]) is None


def test_a_worker_without_work_is_given_the_first_of_its_own_kind():
    trials = [FakeTrial("a", "a GPU"), FakeTrial("b", "a GPU"), FakeTrial("c"), FakeTrial("d")]
    assert chosen(*trials, idle=["a CPU"]) == "c"
    assert chosen(*trials, idle=["a CPU", "a GPU"]) == "a"


def test_a_worker_of_a_kind_that_nothing_waits_for_holds_up_nothing():
    assert chosen(FakeTrial("a"), idle=["a GPU"]) == "a"
