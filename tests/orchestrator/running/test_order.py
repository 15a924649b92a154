"""Which trial a worker of Ray Tune takes next."""

from dataclasses import dataclass
from types import SimpleNamespace

from ray.tune.experiment import Trial

from cluster.capacity import TrialResources
from orchestrator.packing import Pack
from orchestrator.running.order import LongestFirst, in_waves
from workloads.training.arithmetic import Arithmetic


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
        _trial_to_actor={named[name]: name for name in (*asked, *starting)},
        _actor_manager=SimpleNamespace(is_actor_started=lambda worker: worker in starting),
        _actor_cache=SimpleNamespace(
            num_cached_objects=len(idle), has_cached_object=lambda kind: kind in idle
        ),
        _resources_to_pending_trials=kinds,
    )
    shown = SimpleNamespace(_tune_controller=controller)
    order = LongestFirst()
    for trial in trials:
        order.on_trial_add(shown, trial)
    trial = order.choose_trial_to_run(shown)
    assert trial is order.choose_trial_to_run(shown)
    return trial and trial.name


def test_the_first_that_waits_is_next():
    ended = FakeTrial("ended", status=Trial.TERMINATED)
    assert chosen(ended, FakeTrial("a"), FakeTrial("b"), asked=["a", "b"]) == "a"


def test_a_worker_that_comes_up_keeps_its_trial():
    trials = [FakeTrial("a"), FakeTrial("b"), FakeTrial("c")]
    assert chosen(*trials, starting=["a"], asked=["b"], idle=["a CPU"]) == "b"


def test_one_that_failed_and_goes_again_keeps_its_place():
    order = LongestFirst()
    controller = SimpleNamespace(
        _trial_to_actor={},
        _actor_manager=None,
        _actor_cache=SimpleNamespace(num_cached_objects=0),
        _resources_to_pending_trials={},
    )
    shown = SimpleNamespace(_tune_controller=controller)
    first, second = FakeTrial("a"), FakeTrial("b")
    for trial in (first, second):
        order.on_trial_add(shown, trial)
    first.status = Trial.RUNNING
    assert order.choose_trial_to_run(shown) is second
    first.status = Trial.PENDING  # as Tune leaves it when its worker has died
    order.on_trial_add(shown, first)
    assert order.choose_trial_to_run(shown) is first


def test_where_all_have_a_worker_coming_up_none_is_chosen():
    assert chosen(FakeTrial("a"), FakeTrial("b"), starting=["a", "b"]) is None


def test_a_worker_without_work_is_given_the_first_of_its_own_kind():
    trials = [FakeTrial("a", "a GPU"), FakeTrial("b", "a GPU"), FakeTrial("c"), FakeTrial("d")]
    assert chosen(*trials, idle=["a CPU"]) == "c"
    assert chosen(*trials, idle=["a CPU", "a GPU"]) == "a"


def test_a_worker_of_a_kind_that_nothing_waits_for_holds_up_nothing():
    assert chosen(FakeTrial("a"), idle=["a GPU"]) == "a"


def packs(number, **resources):
    return [
        Pack(
            cells=(f"{resources} {i}",),
            arithmetic=Arithmetic.STACKED_LAYERS,
            resources=TrialResources(**resources),
        )
        for i in range(number)
    ]


def test_kinds_wait_in_waves_of_what_runs_at_once_those_with_a_gpu_before_others():
    cpu, gpu = packs(7, cpus=1, gpus=0), packs(5, cpus=1, gpus=1)
    waves = in_waves([*cpu, *gpu], lambda kind: 2 if kind.gpus else 3)
    assert waves == [*gpu[:2], *cpu[:3], *gpu[2:4], *cpu[3:6], *gpu[4:], *cpu[6:]]


def test_packs_of_one_kind_keep_their_order():
    cpu = packs(7, cpus=1, gpus=0)
    assert in_waves(cpu, lambda kind: 2) == cpu


def test_a_kind_that_no_node_holds_yet_waits_like_one_of_one_slot():
    cpu, disk = packs(2, cpus=1, gpus=0), packs(2, cpus=1, gpus=0, named=(("fast_disk", 1.0),))
    waves = in_waves([*cpu, *disk], lambda kind: 0 if kind.named else 1)
    assert waves == [disk[0], cpu[0], disk[1], cpu[1]]
