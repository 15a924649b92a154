"""What is a fault of a node, and what is not."""

from dataclasses import replace

import pytest

from cluster.health import ClusterReport, NodeReport, faults

VERSIONS = {"python": "3.12.1", "ray": "2.60.0", "torch": "2.13.0"}
NODE = NodeReport(
    name="10.0.0.7",
    versions=VERSIONS,
    gpus=4,
    gpus_usable=4,
    gpu_names=("H100",) * 4,
    clock_ahead=-0.4,
    reads="",
    writes="",
    token_mode="token",
)


def cluster(*nodes, **changes):
    like_the_driver = {"versions": VERSIONS, "token_mode": "token"}
    return ClusterReport(nodes=nodes, **{**like_the_driver, **changes})


def test_a_node_like_the_driver_has_no_fault():
    assert faults(cluster(NODE)) == []
    # A node may have devices that the cluster does not schedule.
    assert faults(cluster(replace(NODE, gpus=0))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"versions": {**VERSIONS, "torch": "2.12.0"}},
            "torch is 2.12.0, the driver's is 2.13.0. Install the same versions on every node.",
        ),
        ({"versions": {"python": "3.12.1", "ray": "2.60.0"}}, "torch is missing, the driver's is"),
        (
            {"gpus_usable": 1},
            "the cluster schedules 4 GPUs on it, and torch sees 1. Mend its driver, or start the "
            "node with --num-gpus.",
        ),
        ({"clock_ahead": -7.2}, "its clock is 7 s behind the driver's; allowed: 5 s."),
        ({"clock_ahead": 61.0}, "its clock is 61 s ahead of the driver's"),
        (
            {"reads": "it is not there."},
            "cannot read what the driver wrote to the store: it is not",
        ),
        ({"writes": "disk full."}, "cannot write to the store what the driver reads there: disk f"),
        ({"token_mode": "default"}, "Ray's authentication is 'default' there and 'token' here."),
        ({"token_mode": "disabled"}, "Ray's authentication is disabled there: whoever reaches its"),
    ],
)
def test_each_fault_is_told_with_its_node(changes, said):
    (sentence,) = faults(cluster(NODE, replace(NODE, **changes)))
    assert sentence.startswith(f"10.0.0.7: {said}")


def test_of_a_node_that_does_not_answer_that_alone_is_told():
    silent = NodeReport.of_silent("10.0.0.8", 4, why="it was lost before it answered.")
    assert faults(cluster(NODE, silent)) == ["10.0.0.8: it was lost before it answered."]


def test_a_dashboard_that_answers_without_a_token_is_a_fault_of_the_cluster():
    (said,) = faults(cluster(NODE, open_dashboard="10.0.0.1:8265"))
    assert said.startswith("The dashboard at 10.0.0.1:8265 answers without a token")


def test_authentication_that_is_disabled_everywhere_is_a_fault_of_every_node():
    off = replace(NODE, token_mode="disabled")
    assert len(faults(cluster(off, replace(off, name="b"), token_mode="disabled"))) == 2


def test_every_fault_of_every_node_is_told():
    bad = replace(NODE, name="b", clock_ahead=9.0, reads="gone.", writes="gone.")
    assert len(faults(cluster(replace(bad, name="a"), bad))) == 6
