"""Every backend that a cluster description can be rendered for.

A new one is a file with a function like those below, and its name here.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from cluster.description import ClusterDescription, StudyFile
from cluster.kuberay import render_kuberay
from cluster.ray_launcher import render_ray
from cluster.slurm import render_slurm

__all__ = ["RENDERERS", "Backend", "Renderer"]

Renderer = Callable[[ClusterDescription, StudyFile | None], str]
"""Returns the text of the file that starts the cluster, and runs the study where one is given.

It holds no secret and depends on nothing but its arguments. Raises `DescriptionError` for what the
backend cannot do, instead of leaving it out, and for a study that none of its nodes could hold
(`refuse_what_fits_nowhere`)."""


class Backend(StrEnum):
    """What starts the cluster."""

    RAY = "ray"
    """Ray's cluster launcher: AWS, Google Cloud, or machines that run already."""
    KUBERAY = "kuberay"
    """KubeRay on Kubernetes."""
    SLURM = "slurm"
    """A batch job of Slurm."""


RENDERERS: Mapping[Backend, Renderer] = {
    Backend.RAY: render_ray,
    Backend.KUBERAY: render_kuberay,
    Backend.SLURM: render_slurm,
}
