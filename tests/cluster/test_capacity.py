"""What a cluster has against what a study needs."""

from cluster.capacity import (
    NodeResources,
    Requirement,
    TrialResources,
    shortfalls,
    slots_of,
)

NODES = [
    NodeResources(name="head", cpus=16, gpus=0),
    NodeResources(name="worker", cpus=8, gpus=4),
]


def need(cpus: float, gpus: float, workers: int = 1) -> Requirement:
    return Requirement(
        purpose="model_size 1024 (11,200,000 parameters)",
        resources=TrialResources(cpus=cpus, gpus=gpus, workers=workers),
    )


def test_a_need_that_fits_on_some_node_is_no_shortfall():
    assert shortfalls([need(16, 0), need(8, 4), need(1, 0.25)], NODES) == []


def test_a_need_must_fit_on_one_node_not_on_the_sum():
    (sentence,) = shortfalls([need(16, 4)], NODES)
    assert sentence == (
        "model_size 1024 (11,200,000 parameters) asks for 16 CPUs and 4 GPUs on one node, but the "
        "largest of 2 has 8 CPUs and 4 GPUs. Lower 'resources' in the study file, or use a larger "
        "cluster."
    )


def test_workers_of_one_trial_may_be_on_several_nodes_and_leave_a_cpu_for_the_trial():
    assert shortfalls([need(4, 0, workers=5), need(1, 1, workers=4)], NODES) == []
    (sentence,) = shortfalls([need(4, 0, workers=6)], NODES)
    assert sentence == (
        "model_size 1024 (11,200,000 parameters) asks for 6 workers of 4 CPUs and 0 GPUs each, and "
        "1 CPU beside them, but all 2 nodes together have 24 CPUs and 4 GPUs. Lower 'resources' in "
        "the study file, or use a larger cluster."
    )
    two = [NodeResources(name=name, cpus=3, gpus=1) for name in ("a", "b")]
    assert slots_of(TrialResources(cpus=1, gpus=0, workers=2), two) == 2
    assert slots_of(TrialResources(cpus=1, gpus=1, workers=2), two) == 1
    assert slots_of(TrialResources(cpus=2, gpus=0, workers=2), two) == 1
    assert slots_of(TrialResources(cpus=3, gpus=0, workers=2), two) == 0  # no CPU for the trial


def test_a_cluster_without_nodes_is_named():
    (sentence,) = shortfalls([need(1, 0)], [])
    assert "the cluster has no node" in sentence
