"""What a run does when the nodes that its packs need are lost."""

import pytest

from cluster.capacity import NodeResources, TrialResources
from orchestrator.errors import LaunchError
from orchestrator.running import room
from orchestrator.running.room import Room, RoomLostError

ONE_GPU = TrialResources(cpus=1, gpus=1)
TOGETHER = TrialResources(cpus=1, gpus=0, workers=3)


def node(cpus: float, gpus: float = 0) -> NodeResources:
    return NodeResources(name="n", cpus=cpus, gpus=gpus)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(room, "time", clock)
    return clock


def looks(room: Room, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1.0
        room.look(["a"])


def test_what_fits_nowhere_for_two_minutes_ends_the_run_with_what_is_missing(clock):
    nodes = [node(4, 1), node(4)]
    looked_at = Room(lambda: nodes, {"a": ONE_GPU}, at_once=None, may_grow=False)
    looks(looked_at, clock, 300)
    del nodes[0]
    looks(looked_at, clock, 100)
    nodes.append(node(4, 1))  # it is back in time
    looks(looked_at, clock, 100)
    del nodes[1]
    with pytest.raises(LaunchError, match="1 CPU and 1 GPU on one node, but the largest of 1 has"):
        looks(looked_at, clock, 200)


def test_a_node_that_may_join_is_waited_for_and_nobody_who_does_not_answer_counts(clock, caplog):
    looks(Room(lambda: [], {"a": ONE_GPU}, at_once=None, may_grow=True), clock, 600)
    looks(Room(lambda: None, {"a": ONE_GPU}, at_once=None, may_grow=False), clock, 600)


def test_trials_that_wait_for_workers_are_placed_anew_where_fewer_fit(clock):
    nodes = [node(4), node(4)]
    looked_at = Room(lambda: nodes, {"a": TOGETHER}, at_once=2, may_grow=False)
    looks(looked_at, clock, 60)
    del nodes[0]
    with pytest.raises(RoomLostError, match="Fewer than 2"):
        looks(looked_at, clock, 11)
