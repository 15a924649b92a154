"""Whether the nodes that a description allows hold what a study asks for, before any is there."""

from collections.abc import Sequence

from cluster.capacity import NodeResources, names_accelerator, shortfalls
from cluster.description import NodeShape, StudyFile
from cluster.errors import DescriptionError

__all__ = ["refuse_what_fits_nowhere"]


def refuse_what_fits_nowhere(study: StudyFile | None, nodes: Sequence[NodeShape]) -> None:
    """Raise `DescriptionError` for a study that would be refused, or wait for ever, on `nodes`.

    `nodes`: as many of each kind as there may be at most.
    """
    if study is None:
        return
    offered = [_offered(f"node {i}", shape, study) for i, shape in enumerate(nodes)]
    missing = shortfalls(study.needs, offered)
    if missing:
        raise DescriptionError(
            ("workers",), f"the study {study.name!r} could not run. {' '.join(missing)}"
        )


def _offered(name: str, shape: NodeShape, study: StudyFile) -> NodeResources:
    named = shape.named_resources()
    if shape.gpus and not any(map(names_accelerator, named)):
        # Ray looks itself for the model of GPUs that are there: it may be the one asked for.
        asked = {each for need in study.needs for each, _ in need.resources.named}
        named |= dict.fromkeys(filter(names_accelerator, asked), 1)
    return NodeResources(name=name, cpus=shape.cpus, gpus=shape.gpus, named=named)
