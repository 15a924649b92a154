"""A batch script for Slurm: Ray on the job's nodes, the study on Ray, and the study's exit code.

The nodes of an allocation are alike, so there is at most one group of workers. Ray's head is on
the first of its nodes, beside a worker's share of trials: no node is kept for it alone.
"""

import shlex
from dataclasses import replace
from importlib.resources import files
from string import Template

from cluster.description import ClusterDescription, NodeShape, Slurm, StudyFile
from cluster.errors import DescriptionError
from cluster.ray_words import (
    environment_variables,
    home_word,
    ray_start_resources,
    run_command,
    shell_options,
)
from cluster.study_needs import refuse_what_fits_nowhere

__all__ = ["render_slurm"]

SECONDS_AHEAD = 120
"""When the job is told of its end: its driver, and the Ray that it started, end in that time."""


class _ScriptTemplate(Template):
    """A template whose own marks no shell script has."""

    delimiter = "@@"


def render_slurm(description: ClusterDescription, study: StudyFile | None) -> str:
    """Return the script. Raises `DescriptionError` where it cannot be one Slurm job."""
    slurm = description.slurm
    if slurm is None:
        raise DescriptionError(
            (), "there is no section slurm; it is needed for Slurm. Add slurm: {time_limit: …}."
        )
    if study is None:
        raise DescriptionError(
            (), "a Slurm job is there to run a study, and none is given. Add --study STUDY.yaml."
        )
    nodes, head, worker = _allocation(description)
    refuse_what_fits_nowhere(study, [head, *[worker] * (nodes - 1)])
    gres = f"--gres={slurm.gpu_gres}:{worker.gpus}" if worker.gpus else ""
    script = files(__package__).joinpath("slurm.sh.tmpl").read_text("utf-8")
    return _ScriptTemplate(script).substitute(
        comments=_comments(description, study, nodes),
        directives=_directives(description, slurm, study, nodes, worker, gres),
        activate="\n".join(f"# shellcheck source=/dev/null\n{line}" for line in slurm.activate)
        or "# Nothing to activate: programs are on the PATH.",
        exports="\n".join(
            f"export {name}={shlex.quote(value)}"
            for name, value in environment_variables(description).items()
        ),
        token=home_word(description.token_file),
        nodes=nodes,
        seconds_to_start=slurm.seconds_to_start,
        storage=shlex.quote(description.storage.path or ""),
        step_options=shlex.join([f"--cpus-per-task={worker.cpus}", *([gres] if gres else [])]),
        head_resources=shell_options(ray_start_resources(head)),
        worker_resources=shell_options(ray_start_resources(worker)),
        run=run_command(description, study, shlex.quote(str(study.path))),
    )


def _allocation(description: ClusterDescription) -> tuple[int, NodeShape, NodeShape]:
    """Return how many nodes the job has, and what the first and the others have."""
    groups = description.workers
    if not groups:
        return 1, description.head, description.head
    if len(groups) > 1:
        raise DescriptionError(
            ("workers", groups[1].name),
            f"there are {len(groups)} groups of workers; the nodes of a Slurm job are alike: at "
            "most 1 is allowed. Keep one group, or render one job for each.",
        )
    (group,) = groups
    path = ("workers", group.name)
    if group.min_nodes != group.max_nodes or not group.max_nodes:
        raise DescriptionError(
            path,
            f"workers.{group.name}: there are {group.min_nodes} to {group.max_nodes} nodes; a "
            "Slurm job has a fixed number of nodes, at least 1. Set min and max to the same "
            "number.",
        )
    head = description.head
    for quantity in ("cpus", "gpus", "memory_gib"):
        stated, most = getattr(head, quantity), getattr(group.shape, quantity)
        if stated > most:
            raise DescriptionError(
                ("head", quantity),
                f"head: {quantity} is {stated}; in a Slurm job, the head is on a node of the group "
                f"{group.name!r}: at most {most} is allowed. Lower it, or raise the group's.",
            )
    both = {**group.shape.named_resources(), **head.named_resources()}
    first = replace(group.shape, accelerator_type=None, resources=both)
    return group.max_nodes, first, group.shape


def _directives(
    description: ClusterDescription,
    slurm: Slurm,
    study: StudyFile,
    nodes: int,
    shape: NodeShape,
    gres: str,
) -> str:
    options = [
        f"--job-name={description.name}-{study.name}",
        *([f"--partition={slurm.partition}"] if slurm.partition is not None else []),
        *([f"--account={slurm.account}"] if slurm.account is not None else []),
        f"--time={slurm.time_limit}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={shape.cpus}",
        f"--mem={shape.memory_gib}G",
        *([gres] if gres else []),
        f"--signal=B:TERM@{SECONDS_AHEAD}",
        "--requeue",
        "--no-kill",
        "--open-mode=append",
        *slurm.options,
    ]
    return "\n".join(f"#SBATCH {option}" for option in options)


def _comments(description: ClusterDescription, study: StudyFile, nodes: int) -> str:
    lines = [
        f"The study {study.name!r} on the Slurm cluster {description.name!r}: "
        f"{nodes} node{'s' * (nodes != 1)}, Ray's head on the first.",
        "  sbatch FILE      submits it; again, it goes on with what the store lacks",
        f"Results go to {description.storage.root}, which every node must reach.",
        "Exit codes are those of `scaling-study run`: 130 is a study that was stopped, as "
        f"{SECONDS_AHEAD} s ahead",
        "of the time limit, and can be gone on with; 3 is also a cluster that did not start.",
    ]
    return "\n".join(f"# {line}" for line in lines)
