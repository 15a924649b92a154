"""What a cluster has against what a study needs."""

from cluster.capacity import (
    NodeResources,
    Requirement,
    TrialResources,
    fit_together,
    node_of,
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


def test_trials_of_several_workers_fit_beside_each_other_or_not():
    two, four = (TrialResources(cpus=1, gpus=1, workers=n) for n in (2, 4))
    assert fit_together([two], NODES)
    assert fit_together([two, two], NODES)
    assert not fit_together([two, two, two], NODES)
    assert not fit_together([two, four], NODES)
    assert fit_together([], [])


def test_each_trial_of_several_workers_takes_a_cpu_of_its_own():
    three = TrialResources(cpus=1, gpus=0, workers=3)
    assert fit_together([three, three], [NodeResources(name="a", cpus=8, gpus=0)])
    assert not fit_together([three, three], [NodeResources(name="a", cpus=7, gpus=0)])


def test_workers_without_gpus_leave_nodes_with_gpus_to_those_that_need_them():
    gpus = TrialResources(cpus=4, gpus=2, workers=2)
    cpus = TrialResources(cpus=2, gpus=0, workers=7)
    assert fit_together([cpus, gpus], NODES)
    half = TrialResources(cpus=0.5, gpus=0.5, workers=7)
    assert fit_together([half], NODES)
    assert not fit_together([half, TrialResources(cpus=1, gpus=1, workers=1)], NODES)


def test_named_resources_are_used_up_too():
    disk = TrialResources(cpus=1, gpus=0, workers=2, named=(("fast_disk", 1.0),))
    nodes = [node_of("a", {"CPU": 8, "fast_disk": 3}), node_of("b", {"CPU": 8, "fast_disk": 1})]
    assert fit_together([disk, disk], nodes)
    assert not fit_together([disk, disk, disk], nodes)


def test_named_resources_are_on_the_node_that_has_the_rest_too():
    typed = TrialResources(
        cpus=2, gpus=1, named=(("accelerator_type:A100", 0.001), ("fast_disk", 1.0))
    )
    nodes = [
        node_of("a", {"CPU": 8, "GPU": 4, "accelerator_type:A100": 1, "memory": 1e9}),
        node_of("b", {"CPU": 8, "GPU": 4, "accelerator_type:A100": 1, "fast_disk": 2}),
        node_of("c", {"CPU": 8, "fast_disk": 8}),
    ]
    assert typed.bundle() == {"CPU": 2, "GPU": 1, "accelerator_type:A100": 0.001, "fast_disk": 1}
    assert slots_of(typed, nodes) == 2  # of the disk of node b
    (sentence,) = shortfalls([Requirement(purpose="model_size 8", resources=typed)], nodes[:1])
    assert sentence.startswith(
        "model_size 8 asks for 2 CPUs and 1 GPU, accelerator type A100, 1 fast_disk on one "
        "node, but no node has 1 fast_disk."
    )
    large = TrialResources(cpus=2, gpus=8, named=(("accelerator_type:A100", 0.001),))
    (sentence,) = shortfalls([Requirement(purpose="model_size 8", resources=large)], nodes)
    assert "the largest of 2 has 8 CPUs and 4 GPUs" in sentence


def test_a_model_of_gpu_that_is_missed_is_named_with_those_that_are_there():
    typed = TrialResources(cpus=1, gpus=1, named=(("accelerator_type:A100", 0.001),))
    nodes = [node_of("a", {"CPU": 8, "GPU": 4, "accelerator_type:A10G": 1, "fast_disk": 2})]
    (sentence,) = shortfalls([Requirement(purpose="model_size 8", resources=typed)], nodes)
    assert "no node has accelerator type A100, only A10G." in sentence


def test_a_cluster_without_nodes_is_named():
    (sentence,) = shortfalls([need(1, 0)], [])
    assert "the cluster has no node" in sentence
