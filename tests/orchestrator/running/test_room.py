"""What a run does when the nodes that its packs need are lost."""

from collections.abc import Sequence

import pytest

from cluster.capacity import NodeResources, TrialResources
from orchestrator.errors import LaunchError
from orchestrator.running.room import Room, RoomLostError

ONE_GPU = TrialResources(cpus=1, gpus=1)
TOGETHER = TrialResources(cpus=1, gpus=0, workers=3)


def node(cpus: float, gpus: float = 0) -> NodeResources:
    return NodeResources(name="n", cpus=cpus, gpus=gpus)


def looks(room: Room, clock, seconds: int, together: Sequence[TrialResources] = ()) -> None:
    for _ in range(seconds):
        clock.now += 1.0
        room.look(["a"], together)


def test_what_fits_nowhere_for_two_minutes_ends_the_run_with_what_is_missing(clock):
    nodes = [node(4, 1), node(4)]
    looked_at = Room(lambda: nodes, {"a": ONE_GPU}, may_grow=False)
    looks(looked_at, clock, 300)
    del nodes[0]
    looks(looked_at, clock, 100)
    nodes.append(node(4, 1))  # it is back in time
    looks(looked_at, clock, 100)
    del nodes[1]
    with pytest.raises(LaunchError, match="1 CPU and 1 GPU on one node, but the largest of 1 has"):
        looks(looked_at, clock, 200)


def test_a_node_that_may_join_is_waited_for_and_nobody_who_does_not_answer_counts(clock, caplog):
    looks(Room(lambda: [], {"a": ONE_GPU}, may_grow=True), clock, 600)
    looks(Room(lambda: None, {"a": ONE_GPU}, may_grow=False), clock, 600)


def test_trials_that_wait_for_workers_are_placed_anew_where_they_no_longer_fit_at_once(clock):
    nodes = [node(4), node(4)]
    looked_at = Room(lambda: nodes, {"a": TOGETHER}, may_grow=False)
    assert looked_at.holds([TOGETHER] * 2)
    looks(looked_at, clock, 60, [TOGETHER] * 2)
    del nodes[0]
    with pytest.raises(RoomLostError, match="2 cells of several workers no longer fit at once"):
        looks(looked_at, clock, 11, [TOGETHER] * 2)
    assert not looked_at.holds([TOGETHER] * 2)
    looks(looked_at, clock, 60, [TOGETHER])


def test_one_trial_whose_workers_fit_nowhere_is_like_any_pack_that_fits_nowhere(clock):
    looked_at = Room(lambda: [node(2)], {"a": TOGETHER}, may_grow=False)
    looks(looked_at, clock, 100, [TOGETHER])
    with pytest.raises(LaunchError, match="3 workers of 1 CPU"):
        looks(looked_at, clock, 100, [TOGETHER])
