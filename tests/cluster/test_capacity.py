"""What a cluster has against what a study needs."""

from cluster.capacity import NodeResources, Requirement, shortfalls

NODES = [
    NodeResources(name="head", cpus=16, gpus=0),
    NodeResources(name="worker", cpus=8, gpus=4),
]


def need(cpus: float, gpus: float) -> Requirement:
    return Requirement(purpose="model_size 1024 (11,200,000 parameters)", cpus=cpus, gpus=gpus)


def test_a_need_that_fits_on_some_node_is_no_shortfall():
    assert shortfalls([need(16, 0), need(8, 4), need(1, 0.25)], NODES) == []


def test_a_need_must_fit_on_one_node_not_on_the_sum():
    (sentence,) = shortfalls([need(16, 4)], NODES)
    assert sentence == (
        "model_size 1024 (11,200,000 parameters) asks for 16 CPUs and 4 GPUs on one node, but the "
        "largest of 2 has 8 CPUs and 4 GPUs. Lower 'resources' in the study file, or use a larger "
        "cluster."
    )


def test_a_cluster_without_nodes_is_named():
    (sentence,) = shortfalls([need(1, 0)], [])
    assert "the cluster has no node" in sentence
