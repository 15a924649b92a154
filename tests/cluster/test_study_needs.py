"""Studies that no node of a description could hold, as `cluster render` meets them."""

from pathlib import Path

import pytest

from cluster.renderers import Backend
from orchestrator.cluster_file import render_cluster
from orchestrator.errors import PlanError, StudyFileError
from orchestrator.study_file.needs import resource_needs
from orchestrator.study_file.study import Study
from tests.cluster.descriptions import AWS, KUBERNETES, LOCAL, SLURM
from workloads.digits import Digits

STUDY = """\
name: quickstart
workload: digits
seeds: 2
grids:
  curve: {model_size: [4, 64], batch_size: 8, learning_rate: 0.1, budget: {epochs: 2}}
"""
"""Models of 310 and 4,810 parameters."""
BY_SIZE = "resources:\n- {cpus: 1, gpus: 0, up_to_parameters: 1000}\n- {cpus: 2, gpus: 8}\n"
DESCRIPTIONS = [
    *((Backend.RAY, AWS), (Backend.RAY, LOCAL)),
    *((Backend.KUBERAY, KUBERNETES), (Backend.SLURM, SLURM)),
]


def rendered(folder: Path, backend: Backend, description: str, study: str, **options: bool) -> str:
    cluster, file = folder / "lab.yaml", folder / "study.yaml"
    cluster.write_text(description)
    file.write_text(study)
    return render_cluster(backend, cluster, file, **options)


@pytest.mark.parametrize(("backend", "description"), DESCRIPTIONS)
@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (
            "resources: {cpus: 1, gpus: 1, accelerator_type: T4}\n",
            "Rule 1 of 1 under 'resources' asks for 1 CPU and 1 GPU, accelerator type T4 on one "
            "node, but no node has accelerator type T4, only A100. Lower 'resources' in the study",
        ),
        (
            "resources: {cpus: 1, gpus: 0, custom: {slow_disk: 1}}\n",
            "asks for 1 CPU and 0 GPUs, 1 slow_disk on one node, but no node has 1 slow_disk.",
        ),
        (
            "resources: {cpus: 17, gpus: 0}\n",
            "asks for 17 CPUs and 0 GPUs on one node, but the largest of",
        ),
        (
            "resources: {cpus: 1, gpus: 32}\n",
            "asks for 32 workers of 1 CPU and 1 GPU each, and 1 CPU beside them, but all",
        ),
        (
            BY_SIZE.replace("gpus: 8", "gpus: 32"),
            "Rule 2 of 2 under 'resources' (model_size 64, 4,810 parameters) asks for 32 workers",
        ),
    ],
)
def test_a_study_that_no_node_could_hold_is_refused_with_its_rule(
    tmp_path, backend, description, resources, words
):
    with pytest.raises(StudyFileError) as refused:
        rendered(tmp_path, backend, description, STUDY + resources)
    assert str(refused.value).startswith(
        f"{tmp_path}/lab.yaml:3: the study 'quickstart' could not run. "
    )
    assert words in str(refused.value)


@pytest.mark.parametrize(("backend", "description"), DESCRIPTIONS)
@pytest.mark.parametrize(
    "resources",
    [
        "resources: {cpus: 16, gpus: 0.5, accelerator_type: A100}\n",
        BY_SIZE,  # on two nodes
        BY_SIZE.replace("1000", "5000").replace("gpus: 8", "gpus: 800"),  # of no model
    ],
)
def test_a_study_that_some_of_the_nodes_hold_is_rendered(tmp_path, backend, description, resources):
    assert "scaling-study run" in rendered(tmp_path, backend, description, STUDY + resources)


@pytest.mark.parametrize(("backend", "description"), DESCRIPTIONS)
def test_gpus_whose_model_is_not_stated_may_be_those_that_are_asked_for(
    tmp_path, backend, description
):
    unstated = description.replace("accelerator_type: A100, ", "")
    study = STUDY + "resources: {cpus: 1, gpus: 1, accelerator_type: T4}\n"
    assert "scaling-study run" in rendered(tmp_path, backend, unstated, study)


def test_nodes_that_autoscaling_would_add_count(tmp_path):
    study = STUDY + BY_SIZE.replace("gpus: 8", "gpus: 16")
    assert "--autoscaling" in rendered(tmp_path, Backend.KUBERAY, KUBERNETES, study)
    one = KUBERNETES.replace("max: 4", "max: 1")
    with pytest.raises(StudyFileError, match="all 2 nodes together have 24 CPUs and 4 GPUs"):
        rendered(tmp_path, Backend.KUBERAY, one, study)


def test_on_slurm_the_head_is_on_a_node_of_the_group_and_no_further_one(tmp_path):
    """So that this node has the resources of both, and there is no third one."""
    both = SLURM.replace("memory_gib: 32", "memory_gib: 32, resources: {scratch: 1}")
    study = STUDY + "resources: {cpus: 1, gpus: 1, custom: {scratch: 1}}\n"
    assert "scaling-study run" in rendered(tmp_path, Backend.SLURM, both, study)
    study = STUDY + "resources: {cpus: 1, gpus: 0, workers: 35}\n"
    with pytest.raises(StudyFileError, match="all 2 nodes together have 32 CPUs and 8 GPUs"):
        rendered(tmp_path, Backend.SLURM, SLURM, study)


def rules_of(text: str, workload: Digits | None = None) -> list[str]:
    return [need.purpose for need in resource_needs(Study.from_text(text, workload=workload))]


def test_only_rules_count_under_which_cells_fall_for_certain():
    assert [purpose[:11] for purpose in rules_of(STUDY + BY_SIZE)] == ["Rule 1 of 2", "Rule 2 of 2"]
    some = STUDY.replace("epochs: 2}", "epochs: 2}, where: model_size < 9") + BY_SIZE
    assert rules_of(some) == []
    all_sizes = STUDY.replace("epochs: 2}", "epochs: 2}, where: batch_size < 9") + BY_SIZE
    assert len(rules_of(all_sizes)) == 2


def test_a_model_that_cannot_be_built_where_the_file_is_rendered_decides_nothing():
    class Elsewhere(Digits):
        def model(self, size):
            raise FileNotFoundError("no vocabulary here")

    assert rules_of(STUDY + BY_SIZE, Elsewhere()) == []
    assert len(rules_of(STUDY + "resources: {cpus: 2, gpus: 8}\n", Elsewhere())) == 1


LARGE = STUDY.replace("seeds: 2", "seeds: 9999").replace("batch_size: 8", "batch_size: [8, 16, 32]")
LARGE = LARGE.replace("[4, 64]", "[4, 8, 16, 64]")


@pytest.mark.parametrize(("backend", "description"), DESCRIPTIONS)
def test_more_points_than_a_run_takes_unasked_need_a_yes_which_the_command_then_says(
    tmp_path, backend, description
):
    with pytest.raises(PlanError, match="119,988 points; more than 100,000 need --yes"):
        rendered(tmp_path, backend, description, LARGE)
    command = "--address auto --autoscaling --yes" if "min: 0" in description else "auto --yes"
    assert command in rendered(tmp_path, backend, description, LARGE, confirmed=True)
    assert "--yes" not in rendered(tmp_path, backend, description, STUDY)
